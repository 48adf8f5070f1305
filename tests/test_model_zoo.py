"""The zoo is what it says it is, or tests with it would prove nothing."""

from __future__ import annotations

import inspect

import pytest

torch = pytest.importorskip("torch")
from model_zoo import ZOO  # noqa: E402


def last_frames(entry, args):
    """The first output's last frame."""
    answer = entry.build()(*args)
    y = next(iter(answer.values())) if isinstance(answer, dict) else answer
    (axis,) = {*entry.time_axis.values()}
    return y.select(min(axis, y.dim() - 1), -1)


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_shapes_are_by_the_names_of_forward(entry):
    assert list(inspect.signature(entry.module.forward).parameters)[1:] == list(entry.shapes)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("entry", [e for e in ZOO if e.streams], ids=lambda entry: entry.name)
def test_the_past_counts(entry):
    """What was heard in the first quarter of 24 frames shows in the last one."""
    args = entry.inputs(1, 24)
    changed = []
    for name, value in zip(entry.shapes, args, strict=True):
        axis = entry.time_axis.get(name)
        changed.append(value.clone())
        if axis is not None:
            early = changed[-1].narrow(axis, 0, value.shape[axis] // 4)
            early.copy_(early.roll(1, axis))
    first, again, other = (last_frames(entry, given) for given in (args, args, changed))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 5e-5  # twice what files may be off by
