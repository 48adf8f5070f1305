"""What a server writes to stderr: lines for people, or for machines an object in each."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timezone

FORMS = ("text", "json")

LOGGER = logging.getLogger("fastrnn.serve")
LOOPS = logging.getLogger("asyncio")


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: time, level, process, message, and what the record adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        return json.dumps(
            {
                "time": moment.isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "process": os.getpid(),
                "message": record.getMessage(),
                **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
                **getattr(record, "fields", {}),
            }
        )


def set_up_logs(form: str) -> None:
    """Have the server's log, and what else is said while it runs, in one of FORMS on stderr."""
    stderr = logging.StreamHandler()
    stderr.setFormatter(logging.Formatter("%(message)s") if form == "text" else JsonFormatter())
    LOGGER.handlers[:] = [stderr]
    LOGGER.propagate = False
    LOOPS.handlers[:] = [stderr] if form == "json" else []
    LOGGER.setLevel(logging.INFO if form == "text" else logging.DEBUG)


def tell(message: str) -> None:
    """Say what the server is about."""
    LOGGER.info("%s", message)
