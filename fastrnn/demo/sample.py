"""New text from the demo's model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrnn.demo.model import NEWLINE, UNKNOWN, CharacterModel, decode, encode


def sample(
    model: CharacterModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    length: int,
    temperature: float = 0.6,
) -> list[str]:
    """Continue each of `prompts` to `length` characters, as live streams that are stepped together.

    A stream reads its prompt while others are already writing, and draws from a generator of its
    own, seeded with its one of `seeds`.

    Raises
    ------
    ValueError
        If there is not one seed for each prompt, or the temperature is not above 0.
    """
    streams = len(prompts)
    if streams == 0 or streams != len(seeds):
        raise ValueError(
            f"sample: {streams} prompts and {len(seeds)} seeds, expected one seed each"
        )
    if not temperature > 0:
        raise ValueError(f"sample: temperature={temperature}, expected more than 0")
    generators = [np.random.default_rng(seed) for seed in seeds]
    read = [encode(prompt) for prompt in prompts]
    stream = model.gru.stream(batch=streams)
    x = np.empty((streams, model.gru.input_size), np.float32)
    h = np.empty((streams, model.gru.hidden_size), np.float32)
    written = np.empty((length, streams), np.uint8)
    last = np.full(streams, NEWLINE, np.uint8)
    for t in range(length):
        stream.step(model.embed(last, out=x), out=h)
        p = np.exp(model.log_probabilities(h, temperature))
        p[:, UNKNOWN] = 0.0
        up_to = p.cumsum(axis=1)
        for row, generator in enumerate(generators):
            if t < len(read[row]):
                written[t, row] = read[row][t]
            else:
                drawn = generator.random() * up_to[row, -1]
                written[t, row] = np.searchsorted(up_to[row], drawn, side="right")
        last = written[t]
    return [decode(column) for column in written.T]
