"""Damaged files of every format: read, or refused with FormatError, and nothing else.

Each lot of seeded mutants is read in a child process with its memory and the time of every file
bounded. `python tests/test_fuzz_formats.py FORMAT FIRST LAST` reads the mutants of those seeds.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

import fastrnn
from fastrnn import formats
from fastrnn.errors import FormatError

GOLDEN = Path(__file__).parent / "data" / "formats"
CASES = Path(__file__).parent / "data" / "cases"
SHARDS = CASES / "05-shards" / "cut_before_biases"
MEMORY = 384 << 20  # beyond what the process has at its start
SECONDS = 10  # for one file; a sound one takes milliseconds
MUTANTS = 1_000

LENGTHS = [0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]


def written(write: Callable[[io.BytesIO, dict[str, np.ndarray]], None]) -> bytes:
    with np.load(GOLDEN / "expected.npz") as truth:
        weights = {name: truth[name] for name in truth.files if name.startswith("checkpoint.pt")}
    file = io.BytesIO()
    write(file, weights)
    return file.getvalue()


def golden(file: str) -> bytes:
    return (GOLDEN / file).read_bytes()


def case(file: str) -> bytes:
    return (CASES / file).read_bytes()


def of_keras(file: str) -> bytes:
    with zipfile.ZipFile(CASES / "keras" / "files.zip") as archive:
        return archive.read(file)


def in_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("model_config.yaml", "é/model_weights.ckpt"):
            data = b"x: 1" if name.endswith("yaml") else golden("state.pt")
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] = rng.randrange(256)


def truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 100]))


def delete(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 2, 8, 100])]


def splice(rng: random.Random, data: bytearray) -> None:
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[start : start + rng.randrange(200)]
    data[to : to + rng.choice([0, len(piece)])] = piece


def set_length(rng: random.Random, data: bytearray) -> None:
    size = rng.choice([1, 2, 4, 8])
    value = rng.choice([*LENGTHS, len(data), len(data) + 1]) % 256**size
    at = rng.randrange(max(1, len(data) - size))
    data[at : at + size] = value.to_bytes(size, "little")


Mutator = Callable[[random.Random, bytes], bytes]
MUTATIONS = [flip, replace, truncate, insert, delete, splice, set_length]


def mutate(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if changed:
            rng.choice(MUTATIONS)(rng, changed)
    return bytes(changed)


def in_place(mutation: Callable[[random.Random, bytearray], None]) -> Mutator:
    """A mutator of one kind of mutation, which moves nothing."""

    def changed(rng: random.Random, data: bytes) -> bytes:
        made = bytearray(data)
        mutation(rng, made)
        return bytes(made)

    return changed


def mutate_record(rng: random.Random, data: bytes) -> bytes:
    """Mutate records of a zip archive, and write it again with sound checksums and directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        described = (".pkl", ".npy", ".json", ".h5", ".pth")
        chosen = [name for name in names if name.endswith(described)] or names
        target = rng.choice(chosen + names[:1])
        for name in names:
            record = old.read(name)
            new.writestr(name, mutate(rng, record) if name == target else record)
    return buffer.getvalue()


def mutate_header(rng: random.Random, data: bytes) -> bytes:
    """Mutate the start of a file, where its header is, and half of the time mend its length."""
    (length,) = struct.unpack("<Q", data[:8])
    header = mutate(rng, data[8 : 8 + length])
    if rng.random() < 0.5:
        length = len(header)
    return struct.pack("<Q", length) + header + data[8 + struct.unpack("<Q", data[:8])[0] :]


def mutate_inflated(rng: random.Random, data: bytes) -> bytes:
    """Mutate what a gzip file holds."""
    return gzip.compress(mutate(rng, gzip.decompress(data)), 1)


def mutate_half(rng: random.Random, data: bytes) -> bytes:
    """Mutate the first half of a file, so that one that is long is not cut and shifted each time."""
    return mutate(rng, data[: len(data) // 2]) + data[len(data) // 2 :]


def mutate_pickle(rng: random.Random, data: bytes) -> bytes:
    """Mutate the first part of a file, where its pickles are."""
    cut = min(len(data), 4000)
    return mutate(rng, data[:cut]) + data[cut:]


def mutate_lightly(rng: random.Random, data: bytes) -> bytes:
    """Change a byte or two, so that the graph is often still one."""
    changed = bytearray(data)
    rng.choice([flip, replace, set_length])(rng, changed)
    return bytes(changed)


def onnx_bytes() -> bytes:
    from onnx_models import many_kinds

    return many_kinds().SerializeToString()


Mutator = Callable[[random.Random, bytes], bytes]
FORMATS: dict[str, tuple[Callable[[], bytes], list[Mutator]]] = {
    "zip": (lambda: golden("checkpoint.pt"), [mutate, mutate_record, mutate_record]),
    "module": (lambda: golden("module.pt"), [mutate, mutate_record, mutate_record]),
    "torchscript": (lambda: golden("script.pt"), [mutate, mutate_record, mutate_record]),
    "legacy": (lambda: golden("checkpoint_legacy.pt"), [mutate, mutate_pickle]),
    "safetensors": (lambda: written(formats.safetensors.write), [mutate, mutate_header]),
    "npz": (lambda: written(formats.npz.write), [mutate, mutate_record]),
    "onnx": (onnx_bytes, [mutate]),
    "onnx model": (onnx_bytes, [mutate_lightly]),
    "npz deflated": (lambda: golden("expected.npz"), [mutate, mutate_record]),
    "pickle": (lambda: case("15-plain-pickle/model.pkl"), [mutate, mutate_pickle]),
    "export": (lambda: case("08-pt2/tagger.pt2"), [mutate, mutate_record, mutate_record]),
    "zip around": (lambda: case("07-zip-around/agent.zip"), [mutate, mutate_record, mutate_record]),
    "tar": (in_tar, [mutate, mutate_half]),
    "tar gzip": (lambda: gzip.compress(in_tar(), 1), [mutate, mutate_inflated]),
    "json": (lambda: case("14-json/amp.json"), [mutate, mutate_half]),
    "index": (lambda: (SHARDS / "model.safetensors.index.json").read_bytes(), [mutate]),
    "keras": (lambda: of_keras("keras3.keras"), [mutate, mutate_record, mutate_record]),
    "keras h5": (
        lambda: of_keras("keras2.h5"),
        [in_place(flip), in_place(set_length), mutate, mutate_half],
    ),
    "keras weights": (
        lambda: of_keras("keras3.weights.h5"),
        [in_place(flip), in_place(set_length), mutate, mutate_half],
    ),
    "cudnn": (
        lambda: of_keras("cudnn.h5"),
        [in_place(flip), in_place(set_length), mutate, mutate_half],
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(name):
    # One BLAS thread: each reserves address space, which the limit counts.
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, __file__, name, "0", str(MUTANTS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read, refused = map(int, done.stdout.split())
    assert read + refused == MUTANTS
    assert refused > MUTANTS // 10


def outcome(name: str, path: Path, seed: int) -> str | None:
    """What a refusal says; None where the file was read. Anything else ends the process."""
    try:
        if name == "onnx model":
            run(fastrnn.load_model(path))
            return None
        found = formats.contents(path)
    except FormatError as error:
        return str(error)
    except BaseException:
        print(f"seed {seed}:\n{traceback.format_exc()}")
        sys.exit(1)
    assert all(type(array) is np.ndarray for array in found.weights.values())
    return None


def run(model: fastrnn.Model) -> None:
    """Run what was read, twice; a ValueError that names a node is an answer, too."""
    arrays = [
        np.ones(
            [3 if n is None or isinstance(n, str) else n for n in value.shape or ()], value.dtype
        )
        for value in model.inputs.values()
        if np.prod([n for n in value.shape or () if isinstance(n, int)]) < 1_000_000
    ]
    if len(arrays) < len(model.inputs):
        return
    for _ in range(2):
        words = "node "
        try:
            model(*arrays)
        except ValueError as error:
            words = str(error)
        assert words.startswith(("node ", "Model: ")), words


def read_mutants(name: str, first: int, last: int) -> None:
    import resource

    make, mutators = FORMATS[name]
    sound = make()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    refused = 0
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mutant"
        if name == "index":
            for shard in SHARDS.glob("*.safetensors"):
                shutil.copy(shard, folder)
        for seed in range(first, last):
            rng = random.Random(f"{name} {seed}")
            path.write_bytes(rng.choice(mutators)(rng, sound))
            started = time.perf_counter()
            words = outcome(name, path, seed)
            assert time.perf_counter() - started < SECONDS, f"seed {seed} took too long"
            assert words is None or words.startswith(f"{path}: "), words
            assert words is None or len(words) < 2000, words
            refused += words is not None
    print(last - first - refused, refused)


if __name__ == "__main__":
    read_mutants(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
