"""The fingerprint of a model, which saved states carry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.models.graph import Graph, Node
from fastrnn.models.ops.table import Array


def graph_fingerprint(graph: Graph, fixed: Mapping[str, Array], more: str) -> bytes:
    """SHA-256 of what a graph computes, as its file has it: nodes, tensors, and what is fixed.

    Not of how, nor of names of nodes and metadata. What is hashed is spelled out, and must stay:
    states are kept for longer than versions.

    Parameters
    ----------
    more : which values are states, and the axis of time
    """
    digest = hashlib.sha256(f"{list(graph.outputs.items())} {more}\n".encode())
    for value in graph.inputs:
        digest.update(f"{value.name} {value.element} {value.shape}\n".encode())
    for line in _lines(graph.nodes):
        digest.update(line)
    for named in (graph.constants, fixed):
        for name in sorted(named):
            array = named[name]
            digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(np.ascontiguousarray(little).tobytes())
    return digest.digest()


def _lines(nodes: tuple[Node, ...]) -> Iterator[bytes]:
    for node in nodes:
        name = f"{node.op.domain} {node.op.name}" if node.op else "If"
        yield f"{name} {node.inputs} {node.outputs}\n".encode()
        for key, value in sorted(node.attributes.items()):
            yield f"{key} {_plain(value)}\n".encode()
        for branch in node.branches or ():
            yield f"branch {branch.outputs}\n".encode()
            yield from _lines(branch.nodes)


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape} {value.tobytes().hex()}"
    return repr(value)
