"""Build the wheels: `python packaging/wheels.py [TAG...]`, such as cp311-manylinux_x86_64, or all.

From a checkout, on any Linux, without Docker: zig (ziglang on PyPI) compiles for every processor
and libc, for glibc 2.17 and musl 1.2; of a Python only its headers are needed (headers.py says
where they are looked for). auditwheel judges the result, archive.py checks its size, name and
contents. Two builds of one commit are the same bytes: times are the commit's, or
SOURCE_DATE_EPOCH's. Wheels for Pythons without a GIL (cp313t) are built where they are named.

    pip install '.[release]' && python packaging/wheels.py cp311-manylinux_x86_64
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from archive import faults, retag
from headers import headers_of
from targets import Target, targets_of

ROOT = Path(__file__).resolve().parent.parent
APART = ("tests", "bench", "docs", "examples")  # folders of which no wheel has anything


def main(arguments: list[str] | None = None) -> int:
    """Build, check and list; 0 if every wheel that was asked for is there and right."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add(
        "tags", nargs="*", metavar="TAG", help="cp310 to cp314, cp313t, cp314t, -, libc, _, machine"
    )
    add("--out", type=Path, default=ROOT / "dist", help="folder of the wheels (dist)")
    add("--headers", type=Path, help="folder of headers for each version: 3.12/Python.h")
    add("--cache", type=Path, default=ROOT / "build/wheels", help="of packages and objects")
    options = parser.parse_args(arguments)
    try:
        targets = targets_of(options.tags)
    except ValueError as error:
        parser.error(str(error))
    cache = options.cache.resolve()
    missing: list[str] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        source = checkout(Path(work) / "source")
        for target in targets:
            include = headers_of(target.python, options.headers, cache)
            if include is None:
                missing.append(f"{target.name}: no headers of Python {target.python} (--headers)")
                continue
            wheel = build(target, source, include, options.out.resolve(), cache)
            found = faults(wheel, target.suffix, target.machine, target.wheel_tag)
            found += objections(wheel, target)
            wrong += [f"{wheel.name}: {fault}" for fault in found]
            print(f"{wheel.stat().st_size:9,} bytes  {wheel.name}", flush=True)
    for line in [*missing, *wrong]:
        print(line, file=sys.stderr)
    print(f"{len(targets) - len(missing)} wheels of {len(targets)}, {len(wrong)} faults")
    return 1 if missing or wrong else 0


def checkout(folder: Path, apart: tuple[str, ...] = APART) -> Path:
    """Copy what git knows to a folder: what was built here before does not enter a wheel."""
    ask = ["git", "ls-files", "-z"]
    listed = subprocess.run(ask, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.split("/")[0] not in apart and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build(target: Target, source: Path, include: Path, out: Path, cache: Path) -> Path:
    """Compile for a target and write its wheel."""
    shutil.rmtree(source / "build", ignore_errors=True)
    shutil.rmtree(source / "raw", ignore_errors=True)
    # always the same path, so that zig knows again what does not depend on the Python
    place = source / "python-headers"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(include, place)
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "raw"]
    variables = environment(target, cache)
    done = subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{target.name}: {done.stdout}{done.stderr}")
    return retag(next((source / "raw").glob("*.whl")), target.wheel_tag, out, epoch())


def environment(target: Target, cache: Path) -> dict[str, str]:
    """Return the variables with which setup.py compiles for a target."""
    import ziglang

    compiler = f"{Path(ziglang.__file__).parent / 'zig'} cc -target {target.zig}"
    return {
        **os.environ,
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared" + linked_libc(target, compiler, cache),
        "CFLAGS": "-Ipython-headers",  # before those of the Python that runs setup.py
        "SETUPTOOLS_EXT_SUFFIX": target.suffix,
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "SOURCE_DATE_EPOCH": str(epoch()),
        "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(cache / "zig"),
    }


def linked_libc(target: Target, compiler: str, cache: Path) -> str:
    """Return what to link with so that a module names the libc as its platform does.

    zig calls musl's libc.so; there, and to auditwheel, it is libc.musl-x86_64.so.1. So a module is
    linked with an empty library of that name, and finds its symbols when it is loaded.
    """
    if target.libc != "musllinux":
        return ""
    name = f"libc.musl-{target.machine}.so.1"
    library = cache / target.machine / name
    library.parent.mkdir(parents=True, exist_ok=True)
    empty = library.with_name("empty.c")
    empty.write_text("")
    alone = ["-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", str(library), str(empty)]
    variables = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig")}
    subprocess.run([*compiler.split(), *alone], check=True, env=variables)
    return f" -nostdlib -Wl,--no-as-needed {library}"


def epoch() -> int:
    """Return the time of files in wheels: SOURCE_DATE_EPOCH, or that of the last commit."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    ask = ["git", "log", "-1", "--format=%ct"]
    return int(told or subprocess.run(ask, cwd=ROOT, check=True, capture_output=True).stdout)


def objections(wheel: Path, target: Target) -> list[str]:
    """Return what auditwheel has against a wheel's platform tag."""
    command = [sys.executable, "-m", "auditwheel", "show", wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    said = re.search(r'platform tag:\s+"(\w+)"', done.stdout)
    if done.returncode or not said:
        return [f"auditwheel: {done.stdout}{done.stderr}"]
    if said[1] != target.platform:
        return [f"auditwheel says {said[1]}, expected {target.platform}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
