from typing import Any

ISAS: tuple[str, ...]
BEST: str
ENGINES: dict[str, Any]
