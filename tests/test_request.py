"""Requests: rows in arrays of their own go into a kernel call and come back, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn._kernels.request import Request, gather, least_steps, scatter, waits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_rows_in_arrays_of_their_own_are_gathered_and_scattered(dtype, data):
    n, steps = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    rows_first = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lengths = (steps + rng.integers(0, 3, n)).tolist()
    frames = [rng.standard_normal((k, *shape)).astype(dtype) for k in lengths]
    outputs = [np.full((k, 2), -1, dtype) for k in lengths]
    for f in frames:
        f[rng.random(f.shape) < 0.05] = np.nan
    requests = [Request(None, f, y, len(f), 2.0) for f, y in zip(frames, outputs, strict=True)]
    assert least_steps(requests) == min(lengths)

    order = (0, 1) if rows_first else (1, 0)
    x = np.empty((*((n, steps)[i] for i in order), *shape), dtype)
    expected = np.stack([f[:steps] for f in frames])
    found = gather(requests, x, steps, rows_first)
    np.testing.assert_array_equal(np.moveaxis(x, order, (0, 1)), expected)
    assert found == np.isnan(expected).reshape(n * steps, -1).any(axis=1).sum()

    y = rng.standard_normal((*x.shape[:2], 2)).astype(dtype)
    scatter(requests, y, steps, rows_first)
    for i, output in enumerate(outputs):
        np.testing.assert_array_equal(output[:steps], np.moveaxis(y, order, (0, 1))[i])
        np.testing.assert_array_equal(output[steps:], -1)
    assert [r.done for r in requests] == [steps] * n
    np.testing.assert_array_equal(waits(requests, steps, 2.5), np.full(n, 500.0))
    assert len(waits(requests, steps + 1, 2.5)) == 0
    if min(lengths) == steps:
        with pytest.raises(ValueError, match=f"{steps} of them done"):
            gather(requests, x, steps, rows_first)


def test_requests_that_do_not_fit_a_call_are_refused():
    x = np.zeros((2, 3), np.float32)
    fits = Request(None, np.ones(3, np.float32), np.ones(2, np.float32), 1, 0.0)
    for frames in (None, np.ones(2, np.float32), np.ones((1, 6), np.float32)[:, ::2]):
        with pytest.raises((TypeError, ValueError)):
            gather([fits, Request(None, frames, frames, 1, 0.0)], x, 1, False)
    for array, n in ((x.T, 2), (np.zeros(5, np.float32), 2), (x, 0), (None, 2)):
        with pytest.raises((TypeError, ValueError)):
            gather([fits] * n, array, 1, False)
    with pytest.raises(TypeError):
        gather([fits, object()], x, 1, False)
    with pytest.raises(ValueError, match="expected 1 frames of 12 bytes"):
        scatter([fits], x[:1], 1, False)
    assert fits.done == 0
