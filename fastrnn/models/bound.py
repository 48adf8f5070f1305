"""A plan for inputs of one set of shapes, over arrays that stay where they are.

What only looks at another array in another shape or order (Reshape, Transpose, Slice...) is looked
up once and costs nothing afterwards; the rest becomes calls without arguments that write to the
arrays that the first run made.
"""

from __future__ import annotations

import operator
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn._kernels.core import Stack
from fastrnn._kernels.product import Activation, Over, Reduction
from fastrnn.models.graph import Graph, Node, reads
from fastrnn.models.ops.table import Array
from fastrnn.models.step import FAULTS, Binder

Call = Callable[[], Any]


class TooManyBytesError(Exception):
    """The arrays of a run are larger than what may stay."""


class Bound:
    """The nodes of a graph in which no shape depends on data and no If is left.

    Parameters
    ----------
    inputs : arrays by name
        Their shapes and values are those of the first run, which making this is. They are copied.
    most : bytes of all its arrays, constants among them

    Raises
    ------
    TooManyBytesError
        They would take more. No more are made then: of a long chain of nodes a plan holds two at a
        time.
    ValueError
        A node cannot be computed; it is named.

    `inputs` and `outputs` are the arrays, by name: fill the former, call, read the latter. Several
    threads may not share one.

    Attributes
    ----------
    is_compiled : whether no call is one of NumPy's functions, which may warn
    """

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Array], binder: Binder, most: float
    ) -> None:
        self.inputs = {name: np.array(array, order="C") for name, array in inputs.items()}
        self._constants = graph.constants
        self._values: dict[str, Any] = {"": None, **graph.constants, **self.inputs}
        self._calls: list[Call] = []
        self._nodes: list[Node] = []  # of each call
        self._readers: Counter[int] = Counter()  # nodes with calls, by the array that they read
        self._products: dict[str, Over] = {}  # the last calls of values
        self._uses = Counter(name for node in graph.nodes for name in reads(node))
        self._uses.update(graph.outputs.values())
        first = [base for base in map(_base, self._values.values()) if base is not None]
        self._left = most - sum({id(base): base.nbytes for base in first}.values())
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                self._add(node, binder)
        self.outputs = {name: self._values[value] for name, value in graph.outputs.items()}
        self.is_compiled = all(_is_sure(call) or _is_whole(call) for call in self._calls)
        del self._values, self._products, self._uses

    def _add(self, node: Node, binder: Binder) -> None:
        assert node.op is not None
        given = [self._values[name] for name in node.inputs]
        if self._is_relu_of_product(node):
            self._products.pop(node.inputs[0]).relu = True
            self._values[node.outputs[0]] = given[0]
            given[0][...] = node.op.function(given[0])
            return
        function = binder.bind(node, self._constants)
        try:
            made = function(*given)
        except FAULTS as error:
            raise ValueError(f"{node}: {error}") from error
        results = [np.asarray(one) for one in (made if isinstance(made, tuple) else (made,))]
        others_fixed = all(name in self._constants or not name for name in node.inputs[1:])
        if not (node.op.kind and given and others_fixed and _looks_at(given[0], results)):
            self._left -= sum(array.nbytes for array in results)
            if self._left < 0:
                raise TooManyBytesError
            results = [_own(array) for array in results]
            calls = self._calls_for(node, function, given, results)
            self._calls += calls
            self._nodes += [node] * len(calls)
            if isinstance(calls[-1], Over):
                self._products[node.outputs[0]] = calls[-1]
            self._readers.update({id(_base(array)) for array in given if array is not None})
        self._values.update(zip(node.outputs, results, strict=False))
        self._values[""] = None

    def _is_relu_of_product(self, node: Node) -> bool:
        """Whether a node is a Relu that a product's own call can see to: nobody else reads it."""
        op, name = node.op, node.inputs[0] if node.inputs else ""
        is_relu = op is not None and not op.domain and op.name == "Relu"
        return is_relu and name in self._products and self._uses[name] == 1

    def _calls_for(
        self,
        node: Node,
        function: Callable[..., Any],
        given: Sequence[Any],
        results: list[Array],
    ) -> list[Call]:
        """What computes `results` again from `given`."""
        assert node.op is not None
        over = getattr(function, "over", None)
        if over is None and node.op.over is not None:
            over = partial(node.op.over, **node.attributes)
        calls = over(given, results) if over is not None else None
        if calls is not None:
            return list(calls)
        if node.op.takes_out and len(results) == 1:
            return [partial(function, *given, out=results[0])]
        if len(results) == 1:
            return [partial(_assign, results[0], function, given)]
        return [partial(_assign_all, results, function, given)]

    def without_copies(self, pairs: Sequence[tuple[Array, Array]]) -> list[Call] | None:
        """The calls without those that copy the first of each pair to the second, where one node
        advances all the seconds at once.

        It then advances what it finds there. None where that is not so, or where something after
        it might fail, or reads what is before it.
        """
        places = []
        for before, after in pairs:
            found = [i for i, call in enumerate(self._calls) if _copies(call, before, after)]
            if len(found) != 1 or self._readers[id(_base(before))] != 1:
                return None
            places += found
        if len({self._nodes[i].outputs for i in places}) != 1:
            return None
        rest = [call for i, call in enumerate(self._calls) if i not in places]
        unsure = [call for call in self._calls[min(places) :] if not _is_sure(call)]
        return rest if len(unsure) == 1 and _is_whole(unsure[0]) else None

    def __call__(self) -> None:
        """Compute the outputs from what is in the inputs.

        Raises
        ------
        ValueError
            A node cannot be computed; it is named.
        """
        if self.is_compiled:
            self._run()
        else:
            with np.errstate(all="ignore"):
                self._run()

    def _run(self) -> None:
        calls = iter(self._calls)
        try:
            for call in calls:
                call()
        except FAULTS as error:
            done = len(self._calls) - operator.length_hint(calls) - 1
            raise ValueError(f"{self._nodes[done]}: {error}") from error


def _is_sure(call: Call) -> bool:
    """Whether a call neither fails nor warns."""
    if isinstance(call, (Over, Activation, Reduction)):
        return True
    return isinstance(call, partial) and call.func is np.copyto


def _is_whole(call: Call) -> bool:
    """Whether a call is a layer's, which advances its states by all of its steps or not at all."""
    owner = getattr(call.func, "__self__", None) if isinstance(call, partial) else None
    return isinstance(owner, Stack)


def _copies(call: Call, source: Array, target: Array) -> bool:
    """Whether a call copies just one array to the other."""
    return (
        isinstance(call, partial)
        and call.func is np.copyto
        and _is_same(call.args[0], target)
        and _is_same(call.args[1], source)
    )


def _is_same(a: Any, b: Array) -> bool:
    """Whether two arrays are the same memory in the same order, but for axes of 1."""
    if not isinstance(a, np.ndarray) or a.dtype != b.dtype:
        return False
    x, y = a.squeeze(), b.squeeze()
    start = x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
    return start and x.shape == y.shape and x.strides == y.strides


def _looks_at(source: Any, results: Sequence[Array]) -> bool:
    """Whether results are views of the source, or all of it."""
    return isinstance(source, np.ndarray) and all(
        result is source or (not result.flags.owndata and np.may_share_memory(result, source))
        for result in results
    )


def _own(array: Array) -> Array:
    """An array to write to: `array` where nothing else is in its memory."""
    base = _base(array)
    whole = base is not None and base.nbytes == array.nbytes and array.flags.writeable
    return array if whole and base.flags.owndata else np.array(array)


def _base(array: Any) -> Any:
    """The array that owns the memory of another."""
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return array if isinstance(array, np.ndarray) else None


def _assign(target: Array, function: Callable[..., Any], given: Sequence[Any]) -> None:
    made = function(*given)
    target[...] = made[0] if type(made) is tuple else made


def _assign_all(
    targets: Sequence[Array], function: Callable[..., Any], given: Sequence[Any]
) -> None:
    for target, value in zip(targets, function(*given), strict=True):
        target[...] = value


class Bounds:
    """As many as there are threads that run at once, each made when it is first wanted."""

    def __init__(self, first: Bound, make: Callable[[Sequence[Array]], Bound]) -> None:
        self._free = deque([first])
        self._make = make

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """The outputs for inputs of the shapes that these are for, copied."""
        try:
            bound = self._free.pop()
        except IndexError:
            bound = self._make(values)
        for target, value in zip(bound.inputs.values(), values, strict=True):
            np.copyto(target, value)
        bound()
        made = [np.array(array, order="C") for array in bound.outputs.values()]
        self._free.append(bound)
        return made
