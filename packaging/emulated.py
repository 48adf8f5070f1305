"""Run NEON's kernels, and an aarch64 wheel, on another processor: `python packaging/emulated.py`.

    python packaging/emulated.py kernels            tests/simd_check.c, compiled by zig, static
    python packaging/emulated.py wheel WHEEL        its import, info, bits, demo, on Debian's Python

Under qemu-user (Debian: qemu-user-static), without root, chroot or binfmt_misc: the wheel's Python
is Debian's arm64 packages, unpacked, and NumPy its own wheel for aarch64. A demo takes a minute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from headers import apt_options

ROOT = Path(__file__).resolve().parent.parent
QEMU = ("qemu-aarch64-static", "qemu-aarch64")
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
PACKAGES = [
    "libc6", "libgcc-s1", "libstdc++6", "python3.11-minimal", "libpython3.11-minimal", "libexpat1",
    "libpython3.11-stdlib", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1",
    "libcrypt1",
]  # fmt: skip
PROGRAM = """
import numpy as np, fastrnn
found = fastrnn.info()
print(found["platform"], found["isa"])
assert found["isa"]["chosen"] == "neon"
rng = np.random.default_rng(0)
for cell, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    shapes = fastrnn.layers.weights.StackConfig(cell, 7, 21).shapes()
    weights = {k: rng.normal(0, 0.3, s).astype("f") for k, s in shapes.items()}
    x = rng.normal(size=(6, 9, 7)).astype("f")
    for weight_dtype in ("float32", "int8", "int16"):
        layer = getattr(fastrnn, cell).from_state_dict(weights, weight_dtype=weight_dtype)
        y = layer(x)[0]
        for row in range(9):
            stream = layer.stream()
            alone = np.stack([stream.step(x[t, row]) for t in range(6)])
            assert alone.tobytes() == y[:, row].tobytes(), (cell, weight_dtype)
        generic = getattr(fastrnn, cell).from_state_dict(
            weights, weight_dtype=weight_dtype, isa="generic")(x)[0]
        assert abs(generic - y).max() < 1e-5, (cell, weight_dtype)
        print(cell, weight_dtype, "same bits alone and in a batch; near the generic kernels")
"""


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0 if it passed, or if qemu is absent, which is said."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("what", choices=["kernels", "wheel"])
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--cases", default="30", help="of each cell (30)")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/emulated")
    options = parser.parse_args(arguments)
    qemu = next(filter(None, map(shutil.which, QEMU)), None)
    if qemu is None:
        print("skipped: there is no qemu-aarch64-static (Debian: qemu-user-static)")
        return 0
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    if options.what == "kernels":
        return check_kernels(qemu, options.cases, cache)
    if options.wheel is None:
        parser.error("which wheel?")
    return check_wheel(qemu, options.wheel, cache)


def check_kernels(qemu: str, cases: str, cache: Path) -> int:
    """Compile tests/simd_check.c and run it: tails, bits, page guards, threads, errors in ULP."""
    import ziglang

    program = cache / "simd_check"
    kernels = [str(path) for path in sorted((ROOT / "kernels").glob("simd*.c"))]
    sources = [*kernels, *(f"{ROOT}/{name}" for name in ("kernels/team.c", "kernels/cpu.c"))]
    compiler = [str(Path(ziglang.__file__).parent / "zig"), "cc", "-target", "aarch64-linux-musl"]
    command = [*compiler, "-static", *FLAGS, "-o", str(program), f"{ROOT}/tests/simd_check.c"]
    subprocess.run([*command, *sources, "-lm"], check=True)
    for what in (["cells", cases], ["activation", "4099"]):
        done = subprocess.run([qemu, str(program), *what], capture_output=True, text=True)
        print(done.stdout, end="")
        if done.returncode or "neon: not supported" in done.stdout:
            print(done.stderr, file=sys.stderr)
            return 1
    return 0


def check_wheel(qemu: str, wheel: Path, cache: Path) -> int:
    """Unpack a Python for arm64, NumPy and the wheel, and run PROGRAM and the demo."""
    root, site = cache / "root", cache / "site"
    python = root / "usr/bin/python3.11"
    if not python.exists():
        packages = cache / "packages"
        packages.mkdir(exist_ok=True)
        options = apt_options(cache, ("bookworm",), architecture="arm64")
        subprocess.run(["apt-get", "-q", *options, "download", *PACKAGES], cwd=packages, check=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    shutil.rmtree(site, ignore_errors=True)
    platform = ["--platform=manylinux_2_28_aarch64", "--platform=manylinux2014_aarch64"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps"]
    pip += [*platform, "--python-version=311", f"--target={site}", "numpy"]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    run = [qemu, "-L", str(root), str(python), "-S"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    for what in (["-c", PROGRAM], ["-m", "fastrnn", "demo"]):
        if subprocess.run([*run, *what], env=environment, cwd=cache).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
