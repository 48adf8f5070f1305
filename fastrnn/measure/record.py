"""A record: what was measured where, as JSON (`"format": 1`)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.machine import info
from fastrnn.measure.peers import PEERS
from fastrnn.version import __version__

FORMAT = 1
DIGITS = 4  # significant, of every figure
SECTIONS: dict[str, type] = {  # all may be missing
    "limits": dict,
    "cases": list,
    "latency": list,
    "instructions": list,
    "costs": dict,
    "threads": list,
    "call": list,
    "denormals": list,
    "compact": list,
}

WHOLE = ("cases", "latency", "pool")  # what a run of all suites has

Record = dict[str, Any]


def new_record(root: Path | None = None) -> Record:
    """Return a record without results: machine, date, versions.

    `root` is in the git repository whose commit is named, if any.
    """
    return {
        "format": FORMAT,
        "fastrnn": __version__,
        "commit": None if root is None else _commit(root),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": info(),
        "versions": {k: v for peer in PEERS.values() for k, v in peer.versions.items()},
    }


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Write `record` as JSON, figures to four significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_shortened(record), indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises
    ------
    FormatError
        If it is no record, or one of a format that this version does not know.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(record, dict) or "format" not in record:
        raise FormatError(f"{path}: not a record of benchmarks")
    if record["format"] != FORMAT:
        raise FormatError(f"{path}: format {record['format']!r}, expected {FORMAT}")
    for name, kind in SECTIONS.items():
        if not isinstance(record.get(name, kind()), kind):
            raise FormatError(f"{path}: {name!r} is no {kind.__name__}")
    return record


def newest_by_isa(records: Iterable[Record]) -> list[Record]:
    """Return the newest record, and then of its CPU the newest of each other instruction set.

    Those of a whole run go before those of a part.
    """

    def key(record: Record) -> tuple[bool, str]:
        return all(record.get(section) for section in WHOLE), str(record["date"])

    newest: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=key, reverse=True):
        machine = record["machine"]
        newest.setdefault((machine["cpu"], machine["isa"]["chosen"]), record)
    cpu = next((cpu for cpu, _ in newest), None)
    return [record for (of, _), record in newest.items() if of == cpu]


def record_name(record: Mapping[str, Any]) -> str:
    """Return "<version>-<cpu>-<isa>.json", with the instruction set that was chosen."""
    machine = record["machine"]
    words = f"{machine['cpu']} {machine['isa']['chosen']}"
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{record['fastrnn']}-{slug}.json"


def _shortened(value: Any) -> Any:
    return json.loads(
        json.dumps(value), parse_float=lambda digits: float(f"{float(digits):.{DIGITS}g}")
    )


def _commit(root: Path) -> str | None:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
