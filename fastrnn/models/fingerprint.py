"""What tells one model from another: saved states carry it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastrnn.models.graph import Graph, Node


def graph_fingerprint(graph: Graph, fixed: Mapping[str, Any], more: str) -> bytes:
    """SHA-256 of what a graph computes: operators, attributes, how values go, constants.

    It is that of the file's graph, before anything is folded, and of the inputs that are fixed. Not
    of how: engine, ISA, threads and names of nodes do not matter. What is hashed must stay: states
    are kept for longer than versions.

    Parameters
    ----------
    more : which values are states, and the axis of time
    """
    digest = hashlib.sha256(more.encode())
    for node in _described(graph.nodes):
        digest.update(repr(node).encode())
    digest.update(repr([(v.name, v.element, v.shape) for v in graph.inputs]).encode())
    digest.update(repr(graph.outputs).encode())
    for arrays in (graph.constants, fixed):
        for name in sorted(arrays):
            _add(digest, name, arrays[name])
        digest.update(b";")
    return digest.digest()


def _described(nodes: Iterable[Node]) -> Iterable[Any]:
    for node in nodes:
        op = ("If",) if node.op is None else (node.op.domain, node.op.name, node.op.since)
        yield op, node.inputs, node.outputs, sorted(map(_plain, node.attributes.items()))
        for branch in node.branches or ():
            yield "branch", branch.outputs
            yield from _described(branch.nodes)


def _plain(item: tuple[str, Any]) -> tuple[str, str]:
    """An attribute in words that say all of it."""
    name, value = item
    if not isinstance(value, np.ndarray):
        return name, repr(value)
    digest = hashlib.sha256()
    _add(digest, name, value)
    return name, digest.hexdigest()


def _add(digest: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest.update(repr((name, array.dtype.name, array.shape)).encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
