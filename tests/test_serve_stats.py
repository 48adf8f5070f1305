"""`Window`: the last samples, whatever comes at once."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.serve.stats import WINDOW, Window


@pytest.mark.parametrize(
    "size", [WINDOW // 2 + 1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 3 * WINDOW + 7]
)
@pytest.mark.parametrize("before", [0, 5])
def test_a_window_keeps_the_last_samples_of_any_number_at_once(size, before):
    window = Window()
    samples = np.arange(before + 3 * size, dtype=float)
    window.add_all(samples[:before])
    for begin in range(before, len(samples), size):
        window.add_all(samples[begin : begin + size])
    found, last = window.quantiles(), samples[-WINDOW:]
    assert window.count == len(samples)
    assert found["p50"] == np.percentile(last, 50)
    assert found["max"] == samples[-1]
    assert found["mean"] == samples.mean()


def test_no_samples():
    window = Window()
    window.add_all(np.empty(0))
    assert window.quantiles() == {}
