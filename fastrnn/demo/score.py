"""How many bits per character the demo's model needs for a text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastrnn.demo.model import NEWLINE, Array, CharacterModel

STREAMS = 64


@dataclass(frozen=True)
class Score:
    """What scoring a text gave, and how long it took."""

    bits_per_character: float
    characters: int
    streams: int
    steps: int
    step_seconds: float  # median of the GRU's step of all streams
    seconds: float  # all of it, with embedding, head and softmax in NumPy


def score(
    model: CharacterModel,
    indices: Array,
    streams: int = STREAMS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """Score `indices` (n,) as `streams` streams that are stepped together.

    The text is cut into `streams` contiguous pieces of ceil(n / streams) characters; the last ones
    are padded, or empty, and padding is not counted. Each stream starts from the zero state with a
    newline as its first input. The figure is the mean of -log2 p(character | those before it in its
    stream) over all characters.

    Parameters
    ----------
    progress : function of (steps done, steps in all)
        Called after every step.

    Raises
    ------
    ValueError
        If there is nothing to score.
    """
    n = len(indices)
    if n == 0:
        raise ValueError("score: the text is empty, expected at least one character")
    steps = math.ceil(n / streams)
    padded = np.full(streams * steps, NEWLINE, np.uint8)
    padded[:n] = indices
    targets = np.ascontiguousarray(padded.reshape(streams, steps).T)  # (T, B)
    starts = steps * np.arange(streams)
    stream = model.gru.stream(batch=streams)
    x = np.empty((streams, model.gru.input_size), np.float32)
    h = np.empty((streams, model.gru.hidden_size), np.float32)
    rows = np.arange(streams)
    last = np.full(streams, NEWLINE, np.uint8)
    step_seconds = np.empty(steps)
    total = 0.0
    begin = time.perf_counter()
    for t, target in enumerate(targets):
        model.embed(last, out=x)
        before = time.perf_counter()
        stream.step(x, out=h)
        step_seconds[t] = time.perf_counter() - before
        log_p = model.log_probabilities(h)[rows, target]
        total += float(log_p[starts + t < n].sum())
        last = target
        progress(t + 1, steps)
    return Score(
        bits_per_character=-total / (n * math.log(2)),
        characters=n,
        streams=streams,
        steps=steps,
        step_seconds=float(np.median(step_seconds)),
        seconds=time.perf_counter() - begin,
    )
