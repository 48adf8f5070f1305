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
    ("errors", "version", "below"),
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
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "fastrnn"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        other = room(name)
        assert other == own or FLOOR[other] > FLOOR[own], f"{own} imports {name}"


def test_every_folder_is_installed():
    pyproject = PACKAGE.parent / "pyproject.toml"
    if not pyproject.exists():
        pytest.skip("not a source tree")
    folders = [path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("__init__.py")]
    for folder in folders:
        assert f'"{".".join(folder.parts)}",' in pyproject.read_text(), f"{folder} is left out"


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms <= set(FLOOR)


def module_name(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = ["fastrnn", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def module_of(name: str) -> str:
    """The module that a dotted name is in, or is."""
    while name not in NAMES and "." in name:
        name = name.rpartition(".")[0]
    return name


def circle(room: str) -> list[str]:
    """Modules of a room of which each imports the next, and the last the first; [] if none do."""
    done, path = set(), []

    def visit(module: str) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        path.append(module)
        others = {module_of(name) for name in imported(NAMES[module])} - {module}
        for other in sorted(x for x in others if f"{x}.".startswith(f"fastrnn.{room}.")):
            if found := visit(other):
                return found
        path.pop()
        done.add(module)
        return []

    inside = (name for name in sorted(NAMES) if f"{name}.".startswith(f"fastrnn.{room}."))
    return next(filter(None, map(visit, inside)), [])


@pytest.mark.parametrize("room", ["formats", "serve"])
def test_no_module_is_in_an_import_circle(room):
    assert circle(room) == []
