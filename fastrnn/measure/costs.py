"""Costs around the step: importing, loading and packing, sizes on disk; and those of others.

Each is measured in a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files, requires
from pathlib import Path
from typing import Any

MB = 1e6
# What of each runtime is imported to run a model, and the package it comes in.
MODULES = {
    "fastrnn": "fastrnn",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "tract": "tract",
}
# Beyond NumPy, which everyone needs.
IMPORTING = """
import json, time
import numpy

def resident():  # bytes
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * {page}

before, start = resident(), time.perf_counter()
import {module}
took = time.perf_counter() - start
print(json.dumps([1e3 * took, (resident() - before) / 1e6]))
"""
# One LSTM from its file; seconds of reading tensors, and of making the layer that runs them.
LOADING = {
    "fastrnn": """
import fastrnn
start = clock(); weights = fastrnn.read(path)
read = clock(); fastrnn.LSTM.from_state_dict(weights)
""",
    "torch": """
import torch
start = clock(); weights = torch.load(path)
read = clock(); torch.nn.LSTM(size, size).load_state_dict(weights)
""",
}
LOAD_SIZE = 1024  # I = H: 33.6 MB
IMPORT_RUNS, LOAD_RUNS = 5, 5

Costs = dict[str, float]


def import_costs(name: str, runs: int = IMPORT_RUNS) -> tuple[list[float], float]:
    """Return milliseconds of each of `runs` imports, and MB that stay resident after one.

    The file caches are warm: one import before is not counted. Linux only.
    """
    code = IMPORTING.format(page=os.sysconf("SC_PAGE_SIZE"), module=MODULES[name])
    found = [_result(code) for _ in range(runs + 1)][1:]
    return [ms for ms, _ in found], min(mb for _, mb in found)


def load_costs(name: str, path: Path) -> Costs:
    """Return milliseconds per MB of reading `path`, and of packing what is in it.

    `path` is a state dict of an LSTM of LOAD_SIZE, saved by torch.
    """
    code = f"""
import json, sys
from time import perf_counter as clock
path, size = {str(path)!r}, {LOAD_SIZE}
found = []
for _ in range({LOAD_RUNS}):
    {LOADING[name].strip().replace(chr(10), chr(10) + "    ")}
    packed = clock()
    found.append([1e3 * (read - start), 1e3 * (packed - read)])
print(json.dumps([min(column) for column in zip(*found)]))
"""
    load, pack = _result(code)
    size = path.stat().st_size / MB
    return {"load_ms_per_mb": load / size, "pack_ms_per_mb": pack / size}


def disk_costs(name: str, wheel: bool = True) -> Costs:
    """Return MB of a package's installed files, and of a zip of them, as a wheel is one.

    "installed_with_required_mb" is that of the package and all that it requires, and that requires.
    """
    found = _installed(name)
    needed = {path for each in _required(name) for path in _installed(each)} | set(found)
    costs = {
        "installed_mb": sum(path.stat().st_size for path in found) / MB,
        "installed_with_required_mb": sum(path.stat().st_size for path in needed) / MB,
    }
    if wheel:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in found:
                archive.write(path)
        costs["wheel_mb"] = len(buffer.getvalue()) / MB
    return costs


def _installed(name: str) -> list[Path]:
    if name == "fastrnn":  # installed in place or not: what the wheel has
        folders = [Path(str(import_module("fastrnn").__file__)).parent]
        kernels = Path(str(import_module("fastrnn._kernels").__file__)).parent
        folders += [] if folders[0] in kernels.parents else [kernels]
        sources = {".c", ".h", ".pyx", ".pxd", ".pyc"}
        every = [path for folder in folders for path in folder.rglob("*")]
        return [path for path in every if path.is_file() and path.suffix not in sources]
    try:
        listed = [Path(str(file.locate())) for file in files(name) or []]
    except PackageNotFoundError:
        return []
    return [path for path in listed if path.is_file() and path.suffix != ".pyc"]


def _required(name: str) -> set[str]:
    """Return the packages that are needed to run `name`, here and without extras."""
    from packaging.requirements import Requirement  # the suites' own: pytest requires it

    found: set[str] = set()
    waiting = [name]
    while waiting:
        try:
            lines = requires(waiting.pop()) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if requirement.name not in found and (marker is None or marker.evaluate({"extra": ""})):
                found.add(requirement.name)
                waiting.append(requirement.name)
    return found


def _result(code: str) -> Any:
    elsewhere = tempfile.gettempdir()  # where no source tree is imported instead
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=elsewhere)
    if done.returncode:
        raise RuntimeError(f"{sys.executable} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
