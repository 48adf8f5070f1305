"""Nodes that belong together become one: a product and its bias, a convolution and its batch norm.

Done once, after the first fold: bits depend on what is fused, so that whatever runs a model (whole,
in shapes known, in streams) starts from the fused graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn.formats.source import Budget
from fastrnn.models.graph import Graph, Node, reads
from fastrnn.models.ops.linear import Linear
from fastrnn.models.ops.normalise import factor_and_shift
from fastrnn.models.ops.table import Array, Op, are_constant


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """X (..., K) times weight (K, N), plus bias (N,)."""
    return np.matmul(x, weight) + bias


def _prepare_linear(known: Sequence[Any], options: dict[str, Any]) -> Linear | None:
    _, weight, bias = known
    return Linear(weight.T, bias, options) if are_constant(weight, bias) else None


# Not in the table: no file can name it.
LINEAR = Op("Linear", "fastrnn", 1, linear, "", (), prepare=_prepare_linear)


def fuse(graph: Graph) -> Graph:
    """The graph with fewer nodes. Values that only the fused nodes saw are there no more."""
    uses = Counter(name for node in graph.nodes for name in reads(node))
    uses.update(graph.outputs.values())
    constants = dict(graph.constants)
    kept: dict[str, Node] = {}  # by first output, in order
    for node in graph.nodes:
        fused = None
        name = node.op.name if node.op is not None and not node.op.domain else ""
        if name == "Add":
            fused = _with_bias(node, kept, uses, constants)
        elif name == "BatchNormalization":
            fused = _scaled(node, kept, uses, constants, graph.budget)
        if fused is not None:
            inner, node = fused
            del kept[inner]
        kept[next(filter(None, node.outputs))] = node
    return replace(graph, nodes=tuple(kept.values()), constants=constants)


def _before(name: str, operator: str, kept: dict[str, Node], uses: Counter[str]) -> Node | None:
    """The node that makes value `name` for one other alone, if it is that operator."""
    node = kept.get(name)
    fits = node is not None and node.op is not None and not node.op.domain
    return node if fits and uses[name] == 1 and node.op.name == operator else None  # type: ignore[union-attr]


def _with_bias(
    node: Node, kept: dict[str, Node], uses: Counter[str], constants: dict[str, Array]
) -> tuple[str, Node] | None:
    """A MatMul with constant weights and the Add of a constant row."""
    for name, other in (node.inputs, node.inputs[::-1]):
        product = _before(name, "MatMul", kept, uses)
        bias = constants.get(other)
        if product is None or bias is None or product.inputs[0] in constants:
            continue
        weight = constants.get(product.inputs[1])
        if (
            weight is None
            or weight.ndim != 2
            or weight.dtype.kind != "f"
            or weight.dtype != bias.dtype
            or bias.shape != weight.shape[1:]
        ):
            continue
        inputs = (*product.inputs, other)
        return name, replace(node, op=LINEAR, inputs=inputs, attributes={})
    return None


def _scaled(
    node: Node,
    kept: dict[str, Node],
    uses: Counter[str],
    constants: dict[str, Array],
    budget: Budget,
) -> tuple[str, Node] | None:
    """A Conv with constant weights and the BatchNormalization of its channels."""
    conv = _before(node.inputs[0], "Conv", kept, uses)
    if conv is None or len(node.outputs) > 1 or node.attributes.get("training_mode"):
        return None
    known = [constants.get(name) for name in (*conv.inputs[1:], *node.inputs[1:])]
    if any(array is None or array.dtype != np.float32 for array in known):
        return None
    weight, *rest = [array.astype(np.float64) for array in known if array is not None]
    bias = rest[0] if len(conv.inputs) > 2 else np.zeros(len(weight))
    scale, offset, mean, var = rest[-4:]
    epsilon = node.attributes.get("epsilon", 1e-5)
    factor, shift = factor_and_shift(scale, offset, mean, var, epsilon)
    if weight.shape[:1] != factor.shape or not np.isfinite(factor).all():
        return None
    names = tuple(f"{node.outputs[0]}/{part}" for part in ("weight", "bias"))
    if any(name in constants or name in kept for name in names):
        return None
    if weight.nbytes > budget.left:  # weights that many nodes share, and each would scale
        return None
    budget.take(weight.nbytes)
    scaled = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)), bias * factor + shift
    for name, array in zip(names, scaled, strict=True):
        constants[name] = array.astype(np.float32)
        constants[name].flags.writeable = False
    inputs = (conv.inputs[0], *names)
    return node.inputs[0], replace(
        conv, inputs=inputs, outputs=node.outputs[:1], source=node.source
    )
