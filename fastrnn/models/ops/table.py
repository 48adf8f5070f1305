"""The table of operators: which function computes which operator from which version on.

An operator is one plain function: it takes the node's inputs (None where an optional one is left
out) and the node's attributes as keywords, and returns an array, or a tuple of them. Where an
operator changed between versions of ONNX, there is a function for each, told apart by `since`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats.onnx import Node, Reference, Tensor, Unread

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

OLDEST, NEWEST = 7, 28  # versions of ONNX's own operators that are known
MICROSOFT = "com.microsoft"
KEPT = ("outputs", "out")  # keywords of a function that are no attributes


@dataclass(eq=False)
class Op:
    """An operator from a version on.

    kind: "pointwise" (elements of the broadcast inputs, one by one), "view" (of its first input's
        elements, in another shape or order, wherever NumPy can), or "".
    attributes: keyword -> default; those without one are required.
    counts_outputs: whether the function wants to know how many outputs the node has (`outputs`).
    takes_out: whether the function takes `out`.
    shaped_by: the inputs whose values, beside the others' shapes, decide the outputs' shapes.
    prepare: makes, from inputs that are constant, a function that is faster than the plain one.
    over: makes the calls that compute given outputs again from given inputs, both arrays that stay
        where they are. What `prepare` made may have an `over` of its own.
    """

    name: str
    domain: str
    since: int
    function: Callable[..., Any]
    kind: str
    shaped_by: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    counts_outputs: bool = False
    takes_out: bool = False
    prepare: Callable[..., Callable[..., Any] | None] | None = None
    over: Callable[..., list[Callable[[], Any]] | None] | None = None


TABLE: dict[tuple[str, str], list[Op]] = {}  # (domain, name) -> its versions, oldest first
_BY_FUNCTION: dict[Any, list[Op]] = {}


class _Varying:
    """What stands for an input that is not constant."""

    def __repr__(self) -> str:
        return "VARYING"


VARYING = _Varying()


def are_constant(*known: Any) -> bool:
    """Whether all of a node's inputs that a `prepare` is asked about are there and constant."""
    return all(isinstance(value, np.ndarray) for value in known)


def op(
    name: str,
    since: int = 1,
    *,
    domain: str = "",
    kind: str = "",
    shaped_by: Sequence[int] = (),
    like: Callable[..., Any] | None = None,
) -> Callable[[Function], Function]:
    """Enter a function into the table as operator `name` from version `since` on.

    Its keywords are the operator's attributes, or those of `like`.
    """

    def enter(function: Function) -> Function:
        made = Op(name, domain, since, function, kind, tuple(shaped_by))
        if isinstance(function, np.ufunc):
            made.takes_out = True
        else:
            for parameter in inspect.signature(like or function).parameters.values():
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    continue
                if parameter.name not in KEPT:
                    made.attributes[parameter.name] = parameter.default
                made.counts_outputs |= parameter.name == "outputs"
                made.takes_out |= parameter.name == "out"
        versions = TABLE.setdefault((domain, name), [])
        versions.append(made)
        versions.sort(key=lambda version: version.since)
        _BY_FUNCTION.setdefault(function, []).append(made)
        return function

    return enter


def prepares(function: Callable[..., Any]) -> Callable[[Function], Function]:
    """Enter a function that prepares the operators which `function` computes.

    It takes the node's inputs (the arrays of those that are constant, VARYING for others, None for
    those left out), `options`, and the node's attributes as keywords; it returns a function to call
    in place of the plain one, with all of the node's inputs, or None where there is none better.
    """

    def enter(prepare: Function) -> Function:
        for made in _BY_FUNCTION[function]:
            made.prepare = prepare
        return prepare

    return enter


def runs_over(*functions: Callable[..., Any]) -> Callable[[Function], Function]:
    """Enter a function that makes the calls of the operators which `functions` compute.

    It takes the inputs and the outputs, two lists of arrays, and the node's attributes as
    keywords; it returns calls without arguments, or None where there are none better than the
    plain function and a copy.
    """

    def enter(over: Function) -> Function:
        for function in functions:
            for made in _BY_FUNCTION[function]:
                made.over = over
        return over

    return enter


def find(node: Node, opsets: dict[str, int]) -> Op:
    """The operator of `node` in the version that the model asks for.

    Raises
    ------
    FormatError
        There is none, or not in that version.
    """
    versions = TABLE.get((node.domain, node.op))
    if versions is None:
        raise FormatError(f"{node}: operator {node.op[:80]!r} is not one that fastrnn runs")
    wanted = opsets.get(node.domain)
    if wanted is None:
        raise FormatError(f"{node}: the model names no version of the operators of its domain")
    fitting = [version for version in versions if version.since <= wanted]
    if not fitting:
        raise FormatError(
            f"{node}: there is no such operator in opset {wanted}, it came with {versions[0].since}"
        )
    return fitting[-1]


def attributes(node: Node, found: Op) -> dict[str, Any]:
    """The node's attributes as keywords of the operator's function, tensors as arrays.

    Raises
    ------
    FormatError
        One is missing, or is not one of the operator's.
    """
    given: dict[str, Any] = {}
    for name, value in node.attributes.items():
        if name not in found.attributes:
            raise FormatError(
                f"{node}: attribute {name[:80]!r} is not one of the operator's since opset "
                f"{found.since} ({', '.join(found.attributes) or 'it has none'})"
            )
        if isinstance(value, (Unread, Reference)):
            what = value.what if isinstance(value, Unread) else "that of a function's call"
            raise FormatError(f"{node}: attribute {name!r} is {what}")
        try:
            given[name] = value.array() if isinstance(value, Tensor) else value
        except FormatError as error:
            raise FormatError(f"{node}: attribute {name}: {error}") from None
    for name, default in found.attributes.items():
        if default is inspect.Parameter.empty and name not in given:
            raise FormatError(f"{node}: attribute {name!r} is missing")
    return given
