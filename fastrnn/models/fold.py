"""What a graph computes from constants alone is computed once, at load.

Identity and Dropout fall out, an If whose condition is known becomes the branch it takes, and what
no output needs is dropped. With the shapes of an earlier run, what depends on shapes alone goes the
same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.models.graph import Branch, Graph, Node, alive
from fastrnn.models.ops.room import RoomError, room
from fastrnn.models.ops.table import Array
from fastrnn.models.step import FAULTS, Binder, guard

_ALIASES = {"Identity", "Dropout"}
_READS_SHAPE = {"Shape", "Size"}
_WORK = 16  # bytes read and written while folding, for each byte that the file allows to be made


def fold(
    graph: Graph,
    fixed: Mapping[str, Array] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Graph:
    """The graph that remains.

    Parameters
    ----------
    fixed : arrays of inputs, which become constants
    shapes : the shapes of values in an earlier run
        What remains is then for inputs of the same shapes only.
    options : how layers and products compute, so that constants are as they would be in a run

    Raises
    ------
    FormatError
        A node cannot be computed from its constants.
    """
    fixed = dict(fixed or {})
    folder = _Folder({**graph.constants, **fixed}, graph, shapes, options or {})
    nodes = list(folder.nodes(graph.nodes, strict=True))
    outputs = {name: folder.named(value) for name, value in graph.outputs.items()}
    kept, needed = alive(nodes, outputs.values())
    return replace(
        graph,
        nodes=tuple(kept),
        constants={name: array for name, array in folder.constants.items() if name in needed},
        inputs=tuple(value for value in graph.inputs if value.name not in fixed),
        outputs=outputs,
        data_decides=bool(folder.varying),
    )


@dataclass
class _Folder:
    constants: dict[str, Array]
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]] | None
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.varying: set[str] = set()  # whose shapes may depend on more than the inputs' shapes
        self.budget = self.graph.budget
        self.work = _WORK * self.budget.allowed

    def named(self, name: str) -> str:
        return self.aliases.get(name, name)

    def nodes(self, nodes: Iterable[Node], strict: bool) -> Iterator[Node]:
        """The nodes that remain. `strict`: whether they are sure to run, so that a fault in one
        of them is a fault of the file.
        """
        for node in nodes:
            node = replace(node, inputs=tuple(map(self.named, node.inputs)))
            if node.branches is not None:
                yield from self._if(node, strict)
            elif not self._vanishes(node, strict):
                self._mark(node)
                yield node

    def _vanishes(self, node: Node, strict: bool) -> bool:
        assert node.op is not None
        present = [name for name in node.inputs if name]
        if node.op.name in _ALIASES and not node.op.domain and not any(node.outputs[1:]):
            training = node.inputs[2] if len(node.inputs) > 2 else ""
            if not training:
                self.aliases[node.outputs[0]] = node.inputs[0]
                return True
        if node.op.name in _READS_SHAPE and not node.op.domain and len(present) == 1:
            shape = self._shape(present[0])
            if shape is not None:
                stand_in = np.broadcast_to(np.zeros((), np.bool_), shape)
                return self._compute(node, [stand_in], strict)
        if all(name in self.constants for name in present):
            values = [self.constants[name] if name else None for name in node.inputs]
            return self._compute(node, values, strict)
        return False

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if self.shapes is None or name in self.varying or name in self.constants:
            return None
        return self.shapes.get(name)

    def _compute(self, node: Node, values: list[Any], strict: bool) -> bool:
        """Compute a node's outputs; False where that would take more than the file allows."""
        self.work -= sum(value.nbytes for value in values if value is not None)
        if self.work < 0:
            return False
        try:
            with room(min(self.budget.left, self.work)), np.errstate(all="ignore"):
                guard(node, values)
                made = Binder(self.options).bind(node, self.constants)(*values)
        except RoomError:
            return False
        except FAULTS as error:
            if not strict:
                return False
            raise FormatError(f"{node}: {error}") from None
        arrays = [np.asarray(array) for array in (made if isinstance(made, tuple) else (made,))]
        total = sum(array.nbytes for array in arrays)
        if total > self.budget.left:
            return False
        self.budget.take(total)
        self.work -= total
        for name, array in zip(node.outputs, arrays, strict=False):
            if name:
                array.flags.writeable = False
                self.constants[name] = array
        return True

    def _if(self, node: Node, strict: bool) -> Iterator[Node]:
        assert node.branches is not None
        condition = self.constants.get(node.inputs[0])
        if condition is not None:
            if condition.size != 1:
                raise FormatError(f"{node}: the condition is {condition.shape}, expected one value")
            branch = node.branches[0 if condition.reshape(())[()] else 1]
            yield from self.nodes(branch.nodes, strict)
            for outer, inner in zip(node.outputs, branch.outputs, strict=True):
                if outer:
                    self.aliases[outer] = self.named(inner)
            return
        branches = [
            Branch(tuple(self.nodes(b.nodes, False)), tuple(map(self.named, b.outputs)))
            for b in node.branches
        ]
        self._mark(node)
        yield replace(node, branches=(branches[0], branches[1]))

    def _mark(self, node: Node) -> None:
        """Note whether the shapes of a node's outputs depend on values that are not known."""
        decisive = range(len(node.inputs)) if node.op is None else node.op.shaped_by
        inputs = node.inputs
        if any(name in self.varying for name in inputs) or any(
            inputs[i] and inputs[i] not in self.constants for i in decisive if i < len(inputs)
        ):
            self.varying.update(node.outputs)
