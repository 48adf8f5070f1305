"""Which arrays of a Keras file make which recurrent layer.

Two layouts: Keras's own store (model.weights.h5 in a .keras file, and .weights.h5), where a layer's
group follows from its class and place, and its variables are numbered; and that of whole .h5 models
and of Keras 2's weights, where a layer's group has its name, and variables have theirs.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field

from fastrnn.errors import FormatError
from fastrnn.formats.hdf5 import Array, Tree
from fastrnn.formats.keras.cells import Cell, cell_of

Parts = dict[str, Array | str]  # the arrays of a cell, by "kernel", "recurrent_kernel", "bias"

_STORED_CELL = re.compile(
    r"(?P<layer>.+?)(?:/(?P<direction>forward|backward)_layer)?/cell/"
    r"(?:cells/(?P<cell>[^/]+)/)?vars/(?P<number>[012])"
)
_VARIABLES = ("kernel", "recurrent_kernel", "bias")
_CELL = re.compile(r"(?:.*_)?cells?(?:_\d+)?")


_SEED = re.compile(r"(?:.*/)?seed_generator(?:_\d+)?/(?:vars/0|.*seed_generator_state.*)")


@dataclass
class Cells:
    """The cells of one layer.

    parts: (backwards, place in a stack of cells) -> the cell's arrays.
    paths: where they are in the file.
    problem: why they cannot be told apart, or what else is there; "" where all is known.
    """

    parts: dict[tuple[bool, int], Parts] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    problem: str = ""

    @property
    def bidirectional(self) -> bool:
        """Whether there are cells that go backwards."""
        return any(backwards for backwards, _ in self.parts)

    @property
    def layers(self) -> int:
        """How many cells are stacked."""
        return 1 + max(place for _, place in self.parts)

    def add(
        self, path: str, backwards: bool, place: int, variable: str, stored: Array | str
    ) -> None:
        """Add an array; of two in one place neither is known to be the one."""
        self.paths.add(path)
        parts = self.parts.setdefault((backwards, place), {})
        if variable in parts:
            self.problem = "has several cells in no known order: save the model as .keras"
        parts[variable] = stored


def in_store(tree: Tree) -> dict[str, Cells]:
    """The recurrent layers of Keras's own store, by their groups."""
    found: dict[str, Cells] = {}
    for path, stored in tree.arrays.items():
        match = _STORED_CELL.fullmatch(path)
        if match:
            _, _, number = (match["cell"] or "").rpartition("_")
            found.setdefault(match["layer"], Cells()).add(
                path,
                match["direction"] == "backward",
                int(number) if number.isdigit() and len(number) < 5 else 0,
                _VARIABLES[int(match["number"])],
                stored,
            )
    for path in tree.arrays:
        layer = holder(path, found)
        if layer and not (_STORED_CELL.fullmatch(path) or _SEED.fullmatch(path)):
            found[layer].paths.add(path)
            found[layer].problem = f"holds {path.removeprefix(layer)[1:]}, which is not known"
    return found


def without_root(tree: Tree, root: str) -> Tree:
    """The tree below group `root`, where there is one."""
    below = {path: held for path, held in tree.arrays.items() if path.startswith(root)}
    return Tree({path.removeprefix(root): held for path, held in below.items()}) if below else tree


def titles(tree: Tree, found: dict[str, Cells]) -> dict[str, str]:
    """The names of layers in Keras's own store as Keras 3 writes them there; else their groups."""
    named: dict[str, str] = {}
    for group in found:
        parts = group.split("/")
        ways = ("/".join(parts[:end]) + "/vars" for end in range(1, len(parts) + 1))
        names = [tree.texts[way, "name"] for way in ways if (way, "name") in tree.texts]
        named[group] = ".".join(names if (f"{group}/vars", "name") in tree.texts else parts)
    return named if len(set(named.values())) == len(named) else {}


def by_name(tree: Tree) -> dict[str, Cells]:
    """The recurrent layers by the names that lead to them, joined by "/"."""
    found: dict[str, Cells] = {}
    holders = {
        path.rpartition("/")[0] for path in tree.arrays if variable(path) == "recurrent_kernel"
    }
    for path, stored in tree.arrays.items():
        holder = path.rpartition("/")[0]
        if holder not in holders:
            continue
        layer, backwards = _named(holder.split("/"))
        cells = found.setdefault(layer, Cells())
        if variable(path) in _VARIABLES:
            cells.add(path, backwards, 0, variable(path), stored)
        elif not _SEED.fullmatch(path):
            cells.paths.add(path)
            cells.problem = f"holds {variable(path)}, which is not known"
    return found


def variable(path: str) -> str:
    """The name of the variable at `path`, without TensorFlow's ":0"."""
    return path.rpartition("/")[2].removesuffix(":0")


def holder(path: str, layers: Container[str]) -> str:
    """The innermost of `layers` that `path` is below; "" where it is below none."""
    while path:
        path = path.rpartition("/")[0]
        if path in layers:
            return path
    return ""


def checked(cells: Cells) -> dict[str, Cell]:
    """The cells by the ending of torch's names, "_l0" and so on.

    Raises
    ------
    FormatError
        They are not all there, of one kind, or arranged as torch's are.
    """
    if cells.problem:
        raise FormatError(cells.problem)
    places = [(b, place) for place in range(cells.layers) for b in {False, cells.bidirectional}]
    if sorted(cells.parts) != sorted(places):
        raise FormatError("lacks the weights of some of its cells")
    if cells.bidirectional and cells.layers > 1:
        raise FormatError("stacks cells inside each direction, torch stacks both directions")
    made = {
        f"_l{place}" + ("_reverse" if backwards else ""): cell_of(cells.parts[backwards, place])
        for backwards, place in sorted(places, key=lambda at: at[::-1])
    }
    kinds = {(c.name, c.units, c.bias is None, c.reset_after, c.is_cudnns) for c in made.values()}
    if len(kinds) != 1:
        raise FormatError("has cells that are not alike")
    return made


def _named(names: list[str]) -> tuple[str, bool]:
    """The layer that the groups of a cell name, and whether the cell goes backwards.

    A layer's own name comes twice, as its group and as the first part of its variables' names; the
    cell's name may follow, and "forward_..." or "backward_..." before it.
    """
    if len(names) > 1 and names[0] == names[1]:
        del names[0]
    for index, name in enumerate(names[1:], 1):
        if name.startswith(("forward_", "backward_")):
            return "/".join(names[:index]), name.startswith("backward_")
    while len(names) > 1 and _CELL.fullmatch(names[-1]):
        names.pop()
    return "/".join(names), False
