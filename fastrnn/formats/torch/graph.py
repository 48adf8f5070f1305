"""What the graph of an exported program says of recurrent layers beside their weights.

Its nodes are calls of ATen's operations, and its signature says which parameter each input is. A
stack whose parameters go into torch.ops.aten.lstm and its like is what these compute; one that goes
elsewhere is torch's if the node comes from one of torch's modules, as decomposed ones do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastrnn.formats.said import NotSaid, Said
from fastrnn.formats.torch.modules import is_torchs, of_another_class

_OP = re.compile(r"torch\.ops\.aten\.(lstm|gru|rnn_tanh|rnn_relu)(_cell)?\.\w+")
_PARAMETER = re.compile(
    r"(?:(.*)\.)?(?:weight|bias)_(?:ih|hh)(?:_l[0-9]+(?:_reverse)?)?", re.DOTALL
)
_NAMES = {"parameter": "parameter_name", "buffer": "buffer_name"}
_NOT_SAID = "its batch_first is not said by a program that is decomposed"


def said_of_stacks(program: Any) -> dict[str, Said | NotSaid]:
    """What the graph says of each stack, by its prefix; nothing where it is no such program."""
    graph_module = _get(program, "graph_module")
    nodes = _get(_get(graph_module, "graph"), "nodes")
    prefixes = dict(_inputs(_get(_get(graph_module, "signature"), "input_specs")))
    found: dict[str, Said | NotSaid] = {}
    for node in nodes if isinstance(nodes, list) else ():
        arguments = _get(node, "inputs")
        if not isinstance(arguments, list):
            continue
        given = {name for argument in arguments for name in _tensors(_get(argument, "arg"))}
        stacks = {prefixes[name] for name in given & prefixes.keys()}
        if not stacks and _op(node):  # its parameters are all made of parts
            stacks = {_module(node)[0]}
        if stacks:
            said = _said(node, arguments)
            for prefix in stacks:
                _add(found, prefix, said)
    relu = [node for node in nodes or () if _get(node, "target") == "torch.ops.aten.relu.default"]
    for path in {path for path, kind in map(_module, relu) if kind in ("RNN", "RNNCell")}:
        if isinstance(found.get(path), Said):
            found[path] = Said({"nonlinearity": "relu"}, (_NOT_SAID,))
    return {prefix: said for prefix, said in found.items() if said != Said({})}


def _add(found: dict[str, Said | NotSaid], prefix: str, said: Said | NotSaid) -> None:
    if found.setdefault(prefix, said) != said:
        found[prefix] = NotSaid("forward", "is called in several ways, or by others than torch's")


def _said(node: Any, arguments: list[Any]) -> Said | NotSaid:
    """What the node says of weights that it is given."""
    op = _op(node)
    if op is None:
        _, kind = _module(node)
        return Said({}, (_NOT_SAID,)) if kind else of_another_class(_class(node) or "no class")
    options: dict[str, Any] = {"nonlinearity": "relu"} if op[1] == "rnn_relu" else {}
    for argument in arguments:
        if _get(argument, "name") == "batch_first" and _get(_get(argument, "arg"), "as_bool"):
            options["batch_first"] = True
    return Said(options)


def _op(node: Any) -> re.Match[str] | None:
    target = _get(node, "target")
    return _OP.fullmatch(target) if isinstance(target, str) else None


def _inputs(specs: Any) -> Iterator[tuple[str, str]]:
    """The inputs that are parameters of recurrent stacks, and the prefixes of these."""
    for spec in specs if isinstance(specs, list) else ():
        for kind, key in _NAMES.items():
            held = _get(spec, kind)
            name, full = _get(_get(held, "arg"), "name"), _get(held, key)
            match = _PARAMETER.fullmatch(full) if isinstance(full, str) else None
            if match and isinstance(name, str):
                yield name, match[1] or ""


def _tensors(argument: Any) -> Iterator[str]:
    """The names of the tensors that an argument is, or has in a list."""
    for kind in ("as_tensor", "as_tensors", "as_optional_tensor", "as_optional_tensors"):
        held = _get(argument, kind)
        for one in held if isinstance(held, list) else (held,):
            name = _get(one, "name") or _get(_get(one, "as_tensor"), "name")
            if isinstance(name, str):
                yield name


def _class(node: Any) -> str:
    """The full name of the class of the module whose code a node is of: "KEY,PATH,CLASS;..."."""
    stack = _get(_get(node, "metadata"), "nn_module_stack")
    return stack.rpartition(",")[2] if isinstance(stack, str) else ""


def _module(node: Any) -> tuple[str, str]:
    """The path of that module, and its class if that is one of torch's recurrent ones, or ""."""
    name = _class(node)
    kind = name.rpartition(".")[2] if is_torchs(name) and ".rnn." in name else ""
    stack = _get(_get(node, "metadata"), "nn_module_stack")
    path = stack.rpartition(",")[0].rpartition(",")[2] if isinstance(stack, str) else ""
    return path, kind


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
