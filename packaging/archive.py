"""A wheel as a file: written so that the same contents are the same bytes, and checked."""

from __future__ import annotations

import base64
import hashlib
import time
import zipfile
from pathlib import Path

LIMIT = 2_000_000
MODULES = ("core", "stepper", "pool", "request", "product", "codes", "blas", "simd")
DATA = ("py.typed", "demo/weights.pt", "demo/text.txt", "demo/reference.json", "plots/page.html")
BELOW = ("__init__.pxd", "include/fastrnn.h")  # what others compile against
SOURCES = (".c", ".h", ".pyx", ".pxd")
MACHINES = {"x86_64": 62, "aarch64": 183}  # ELF's e_machine


def retag(wheel: Path, tag: str, folder: Path, epoch: int) -> Path:
    """Write a wheel of the same contents under another tag: cp311-cp311-manylinux_2_17_x86_64.

    Names are sorted, and every file is of `epoch`, in seconds; a zip has no time before 1980.
    """
    with zipfile.ZipFile(wheel) as source:
        contents = {name: source.read(name) for name in source.namelist() if name[-1] != "/"}
    info = next(name for name in contents if name.endswith(".dist-info/WHEEL")).rpartition("/")[0]
    lines = contents[f"{info}/WHEEL"].decode().splitlines()
    kept = [line for line in lines if line and not line.startswith("Tag:")]
    contents[f"{info}/WHEEL"] = "\n".join([*kept, f"Tag: {tag}", ""]).encode()
    del contents[f"{info}/RECORD"]
    lines = [f"{name},{_digest(data)},{len(data)}\n" for name, data in sorted(contents.items())]
    contents[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    moment = max(time.gmtime(epoch)[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(written, "w") as target:
        for name, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, moment)
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            entry.create_system = 3
            target.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return written


def faults(wheel: Path, suffix: str, machine: str, tag: str) -> list[str]:
    """Return what is wrong with a wheel, a sentence each.

    Its size, its modules and their processor, its data, what does not belong, its tag and record.
    `suffix` is how its modules' names end, `machine` one of MACHINES.
    """
    found = []
    size = wheel.stat().st_size
    if size >= LIMIT:
        found.append(f"has {size} bytes, expected less than {LIMIT}")
    with zipfile.ZipFile(wheel) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    modules = {name: data for name, data in contents.items() if name.endswith(".so")}
    expected = {f"fastrnn/_kernels/{name}{suffix}" for name in MODULES}
    if set(modules) != expected:
        found.append(f"has the modules {sorted(modules)}, expected {sorted(expected)}")
    for name, data in modules.items():
        if data[:4] != b"\x7fELF" or int.from_bytes(data[18:20], "little") != MACHINES[machine]:
            found.append(f"{name} is not for {machine}")
    found += [
        f"has no fastrnn/{name}" for name in (*DATA, *BELOW) if f"fastrnn/{name}" not in contents
    ]
    info = wheel.name.removesuffix(f"-{tag}.whl") + ".dist-info"
    if f"Tag: {tag}" not in contents.get(f"{info}/WHEEL", b"").decode().splitlines():
        found.append(f"{info}/WHEEL does not say Tag: {tag}")
    for name in contents:
        source = name.endswith(SOURCES) and name.removeprefix("fastrnn/") not in BELOW
        if not name.startswith(("fastrnn/", f"{info}/")) or source:
            found.append(f"has {name}, which does not belong there")
    lines = contents.get(f"{info}/RECORD", b"").decode().splitlines()
    record = {line.partition(",")[0]: line.partition(",")[2] for line in lines}
    for name, data in contents.items():
        if name != f"{info}/RECORD" and record.get(name) != f"{_digest(data)},{len(data)}":
            found.append(f"RECORD is wrong about {name}")
    return found


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
