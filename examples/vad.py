"""Where somebody speaks in a WAV file, 16 kHz mono: `python vad.py speech.wav silero_vad.onnx`."""

import sys
import wave

import numpy as np

import fastrnn

FRAME, CONTEXT, RATE = 512, 64, 16000  # samples; the model sees the end of the frame before, too


def segments(samples, stream):
    """Yield (start, end) of speech: from above 0.5 until below 0.35 for 100 ms, 250 ms at least."""
    padded = np.pad(samples, (CONTEXT, -len(samples) % FRAME))
    start = quiet = None
    for at in range(0, len(samples), FRAME):
        (probability,) = stream.step(padded[at : at + CONTEXT + FRAME])
        if probability >= 0.5:
            start, quiet = at if start is None else start, None
        elif start is not None and probability < 0.35:
            quiet = at if quiet is None else quiet
            if at - quiet >= 0.1 * RATE:
                if quiet - start > 0.25 * RATE:
                    yield max(start - 480, 0), quiet + 480
                start = quiet = None
    if start is not None and len(samples) - start > 0.25 * RATE:
        yield max(start - 480, 0), len(samples)


if __name__ == "__main__":
    with wave.open(sys.argv[1]) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    stream = fastrnn.load_model(sys.argv[2], fixed={"sr": RATE}).stream()
    for start, end in segments(samples, stream):
        print(f"{start / RATE:.2f} to {end / RATE:.2f} s")
