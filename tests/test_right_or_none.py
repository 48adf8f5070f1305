"""Generated state dicts, whole and with faults: the layer is torch's, or the refusal names the tensor.

What torch would make of a dict is worked out here from the rules of its transforms alone: the
parameters that the parts under the prefix stand for, and the one module that has just these.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastrnn

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
utils = torch.nn.utils
new = torch.nn.utils.parametrizations

EXAMPLES = int(os.environ.get("FASTRNN_EXAMPLES", "300"))

pytestmark = pytest.mark.filterwarnings("ignore")

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
PREFIXES = ["", "rnn", "net.0.rnn", "rnn.module", "tuned.base_layer", "x.parametrizations.rnn"]
# Beside a stack, and no part of it whatever its prefix is.
BESIDE = ["embedding.weight", "rnn2.weight", "net.1.weight", "fc.lora_A", "rnx", "zz.weight_ih_l0"]
# Under a stack's prefix, and not torch's.
FOREIGN = [
    "ln.weight", "h0", "weight_ih_l0_scale", "weight_ih_l0_foo", "lora_A.weight_hh_l0", "W",
    "weight_ch_l0", "parametrizations.weight_hh_l0.0.alpha", "weight_hh_l0.weight", "module.h0",
    "weight_ih_l7", "bias_ih_l0_reverse_mask", "cells.0.weight_ih", "", "bias", "weight_ih_l0_u",
]  # fmt: skip


@dataclass
class Made:
    """A state dict, and for each parameter what its parts, all or some of them, stand for.

    values: by parameter and the set of its parts that are there: the value. Others are no form.
    parts: by full name: the parameter that it is of, and which part.
    wrong: the names that a refusal has to have one of.
    """

    prefix: str
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[tuple[str, frozenset[str]], torch.Tensor] = field(default_factory=dict)
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    faults: int = 0

    def add(self, parameter: str, parts: dict[str, torch.Tensor], *forms) -> None:
        """A parameter in `parts`, by the ends of their names; forms: the parts and their value."""
        for end, value in parts.items():
            name = end.format(parameter) if "{" in end else f"{parameter}{end}"
            full = f"{self.prefix}.{name}" if self.prefix else name
            self.tensors[full] = value.detach().clone()
            self.parts[full] = (parameter, end)
        for ends, value in forms or [(parts, next(iter(parts.values())))]:
            self.values[parameter, frozenset(ends)] = value.detach().clone()

    def effective(self) -> dict[str, torch.Tensor] | None:
        """The parameters; None where there is more, or less, than forms of them."""
        there: dict[str, set[str]] = {}
        for name in self.tensors:
            if name in self.foreign or (name in self.unreadable and name in self.parts):
                return None
            if name in self.parts:
                parameter, end = self.parts[name]
                there.setdefault(parameter, set()).add(end)
        found = {p: self.values.get((p, frozenset(ends))) for p, ends in there.items()}
        return None if any(value is None for value in found.values()) else found


def holder(parameter, value):
    module = torch.nn.Module()
    module.register_parameter(parameter, torch.nn.Parameter(value.clone()))
    return module.train()


def by_torch(transform, **options):
    """A transform by torch's own code, and the value that its module has in eval mode."""

    def apply(made, parameter, value):
        module = holder(parameter, value)
        transform(module, parameter, **options)
        with torch.no_grad():
            for hook in module._forward_pre_hooks.values():
                hook(module, None)  # a step of training: it moves the vectors of spectral_norm
            module.eval()
            for name, part in module.state_dict().items():
                if name.endswith(("_g", "original0", "_orig", "original")):
                    part.mul_(1.5)  # trained since
            for hook in module._forward_pre_hooks.values():
                hook(module, None)
            effective = getattr(module, parameter)
        ends = {name.replace(parameter, "{0}"): part for name, part in module.state_dict().items()}
        made.add(parameter, ends, (ends, effective))

    return apply


def plain(made, parameter, value):
    made.add(parameter, {"": value})


def mask(made, parameter, value):
    zeros = (torch.rand_like(value) > 0.4).to(value.dtype)
    made.add(parameter, {"": value, "_mask": zeros}, (("", "_mask"), value * zeros), (("",), value))


def raw(made, parameter, value):
    made.add(parameter, {"_raw": value})


def raw_and_copy(made, parameter, value):
    copy = torch.nn.functional.dropout(value, 0.5)
    made.add(
        parameter,
        {"_raw": value, "": copy},
        (("_raw", ""), value),
        (("_raw",), value),
        (("",), copy),
    )


TRANSFORMS = {
    "weight_norm": by_torch(utils.weight_norm),
    "weight_norm of all": by_torch(utils.weight_norm, dim=None),
    "new weight_norm": by_torch(new.weight_norm),
    "new weight_norm of all": by_torch(new.weight_norm, dim=None),
    "spectral_norm": by_torch(utils.spectral_norm),
    "new spectral_norm": by_torch(new.spectral_norm),
    "pruning": by_torch(prune.random_unstructured, amount=0.4),
    "mask": mask,
    "raw": raw,
    "raw and copy": raw_and_copy,
}
OF_MATRICES = {name for name in TRANSFORMS if "spectral" in name}


@st.composite
def state_dicts(draw):
    """A Made of a random stack, wrapped at random, with up to two faults."""
    cell = draw(st.sampled_from(sorted(LAYERS)))
    hidden = draw(st.integers(1, 4))
    options = {"bias": draw(st.booleans()), "bidirectional": draw(st.booleans())}
    if cell == "LSTM" and draw(st.integers(0, 3)) == 0:
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    sizes = (draw(st.integers(1, 4)), hidden, draw(st.integers(1, 2)))
    torch.manual_seed(draw(st.integers(0, 1000)))
    stack = getattr(torch.nn, cell)(*sizes, **options).state_dict()
    made = Made(draw(st.sampled_from(PREFIXES)))
    wrapped = draw(st.sampled_from([0, 1, 1, len(stack)]))
    for parameter, value in stack.items():
        choices = sorted(TRANSFORMS.keys() - (OF_MATRICES if value.ndim == 1 else set()))
        chosen = wrapped and draw(st.booleans())
        transform = TRANSFORMS[draw(st.sampled_from(choices))] if chosen else plain
        transform(made, parameter, value)
    if made.prefix:
        for name in draw(st.sets(st.sampled_from(BESIDE), max_size=3)):
            made.tensors[name] = torch.ones(2, 3)
            if draw(st.booleans()):
                made.unreadable.add(name)
    made.faults = draw(st.sampled_from([0, 0, 1, 1, 2]))
    for _ in range(made.faults):
        spoil(made, draw)
    order = draw(st.permutations(sorted(made.tensors)))
    made.tensors = {name: made.tensors[name] for name in order}
    return made


def spoil(made, draw):
    """One fault, at random."""
    dot = f"{made.prefix}." if made.prefix else ""
    own = sorted(name for name in made.tensors if name in made.parts)
    kind = draw(st.sampled_from(["missing", "foreign", "renamed", "doubled", "unreadable"]))
    if kind == "foreign" or len(own) < 2:
        added = dot + draw(st.sampled_from(FOREIGN))
        if added not in made.tensors:
            made.tensors[added] = torch.ones(2, 3)
            made.foreign.add(added)
            made.wrong.add(added)
        return
    name = draw(st.sampled_from(own))
    made.wrong.add(name)
    if kind == "unreadable":
        made.unreadable.add(name)
    elif kind == "doubled":
        again = draw(st.sampled_from(["weight_ih", "weight_hh", "module.weight_ih_l0", "bias_ih"]))
        made.tensors[dot + again] = made.tensors[name]
        made.foreign.add(dot + again)
        made.wrong.add(dot + again)
    else:
        value = made.tensors.pop(name)
        parameter = made.parts[name][0]
        made.wrong.add(f"{dot}{parameter}")
        if kind == "renamed":
            again = name + draw(st.sampled_from(["x", ".0", "_", "_l0"]))
            made.tensors[again] = value
            made.foreign.add(again)
            made.wrong.add(again)


def torch_module(parameters):
    """The only module of torch that has just these parameters; None if there is none."""
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    if len(shapes.get("weight_ih_l0", ())) != 2 or len(shapes.get("weight_hh_l0", ())) != 2:
        return None
    width = shapes["weight_hh_l0"][1]
    proj = width if "weight_hr_l0" in shapes else 0
    hidden = shapes["weight_hr_l0"][1] if proj else width
    flags = itertools.product(LAYERS, (1, 2), (False, True), (False, True))
    for cell, layers, bias, bidirectional in flags:
        options = {"proj_size": proj} if cell == "LSTM" and 0 < proj < hidden else {}
        module = getattr(torch.nn, cell)(
            shapes["weight_ih_l0"][1],
            hidden,
            layers,
            bias=bias,
            bidirectional=bidirectional,
            **options,
        )
        if {name: tuple(value.shape) for name, value in module.state_dict().items()} == shapes:
            module.load_state_dict(parameters)
            return module.eval()
    return None


def loaded(made, way, path):
    """The layer that fastrnn makes of the dict, or what it says of it."""
    try:
        if way != "memory":
            torch.save({name: stored(made, name) for name in made.tensors}, path)
        if way == "file":
            return fastrnn.load(path, made.prefix), None
        weights = made.tensors if way == "memory" else fastrnn.read(path)
        cell = next((cell for cell in LAYERS if shaped(made, cell)), "LSTM")
        return LAYERS[cell].from_state_dict(weights, made.prefix), None
    except ValueError as error:
        return None, str(error)


def stored(made, name):
    value = made.tensors[name]
    return value.to_sparse() if name in made.unreadable else value


def shaped(made, cell):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    for (parameter, _), value in made.values.items():
        if parameter == "weight_hh_l0":
            columns = value.shape[1]
            for (other, _), projected in made.values.items():
                if other == "weight_hr_l0":
                    columns = projected.shape[1]
            return value.shape[0] == gates * columns
    return False


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
@given(made=state_dicts(), way=st.sampled_from(["memory", "file", "read"]))
def test_the_layer_is_torchs_or_the_tensor_is_named(made, way, tmp_path_factory):
    if way == "memory":
        made.unreadable.clear()
    path = tmp_path_factory.getbasetemp() / "right_or_none.pt"
    parameters = made.effective()
    module = torch_module(parameters) if parameters is not None else None
    layer, refusal = loaded(made, way, path)
    if module is None:
        assert refusal is not None, f"{layer} of {sorted(made.tensors)}, in spite of {made.wrong}"
        # Of several faults, what one leaves may be refused for the sake of the other.
        named = made.wrong if made.faults == 1 else made.wrong | made.tensors.keys()
        assert any(name in refusal for name in named), f"{refusal} names none of {made.wrong}"
        return
    assert refusal is None
    x = torch.randn(3, 2, module.input_size)
    with torch.no_grad():
        want, _ = module(x)
    np.testing.assert_allclose(layer(x.numpy())[0], want.numpy(), rtol=0, atol=1e-6)
