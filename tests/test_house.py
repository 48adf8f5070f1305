"""The rooms of the package import only from those below them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent

# From the top. A room imports from those of later rows, and of its own row only from itself.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("plots",),
    ("measure",),
    ("demo",),
    ("__init__",),
    ("loading",),
    ("models",),
    ("machine",),
    ("layers",),
    ("streams", "formats", "serve"),
    ("sequences", "_kernels"),
    ("errors", "version"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """The room of the dotted name of a module or of something in it."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """The dotted names of what is imported from the package, those for types among them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = node.module == "fastrnn"
            names |= {f"fastrnn.{a.name}" for a in node.names} if whole else {str(node.module)}
    return {name for name in names if name.split(".")[0] == "fastrnn"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        other = room(name)
        assert other == own or FLOOR[other] > FLOOR[own], f"{own} imports {name}"


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms <= set(FLOOR)
