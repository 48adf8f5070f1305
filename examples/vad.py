"""Where somebody speaks in a WAV file (16 kHz, mono, 16 bits): `python vad.py speech.wav silero_vad.onnx`."""

import sys
import wave

import numpy as np

import fastrnn

FRAME, CONTEXT, RATE = 512, 64, 16000  # samples; the model sees the end of the frame before, too


def probabilities(samples, stream):
    """Yield the probability of speech in each frame of 32 ms of samples, float32 from -1 to 1."""
    padded = np.pad(samples, (CONTEXT, -len(samples) % FRAME))
    for start in range(0, len(samples), FRAME):
        yield stream.step(padded[start : start + CONTEXT + FRAME])[0]


def segments(probabilities, length):
    """Yield (start, end) in samples: from above 0.5 until below 0.35 for 100 ms, if longer than 250 ms."""
    start = quiet = None
    for i, p in enumerate(probabilities):
        if p >= 0.5:
            start, quiet = i if start is None else start, None
        elif start is not None and p < 0.35:
            quiet = i if quiet is None else quiet
            if (i - quiet) * FRAME >= 0.1 * RATE:
                if (quiet - start) * FRAME > 0.25 * RATE:
                    yield max(start * FRAME - 480, 0), quiet * FRAME + 480
                start = quiet = None
    if start is not None and length - start * FRAME > 0.25 * RATE:
        yield max(start * FRAME - 480, 0), length


if __name__ == "__main__":
    with wave.open(sys.argv[1]) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    stream = fastrnn.load_model(sys.argv[2], fixed={"sr": RATE}).stream()
    for start, end in segments(probabilities(samples, stream), len(samples)):
        print(f"{start / RATE:.2f} to {end / RATE:.2f} s")
