"""Wheels: what packaging/ makes of tags, contents and times; and building without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
TAG = "cp311-cp311-manylinux_2_17_x86_64"
SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def room(monkeypatch):
    """The modules of packaging/, which is no package."""
    if not PACKAGING.is_dir():
        pytest.skip("a source distribution has no packaging/")
    monkeypatch.syspath_prepend(PACKAGING)
    names = ("archive", "headers", "targets", "wheels")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield __import__
    for name in names:
        sys.modules.pop(name, None)


def elf(machine: int) -> bytes:
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(40)


@pytest.fixture
def raw(tmp_path, room):
    """Path of a wheel as setuptools writes it, of a function that says what else is in it."""
    archive = room("archive")

    def write(name="raw", **changed):
        path = tmp_path / f"{name}.whl"
        contents = {f"fastrnn/{data}": b"data" for data in (*archive.DATA, *archive.BELOW)}
        contents |= {f"fastrnn/_kernels/{m}{SUFFIX}": elf(62) for m in archive.MODULES}
        contents["fastrnn-9.0.dist-info/WHEEL"] = (
            b"Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\n"
        )
        contents["fastrnn-9.0.dist-info/RECORD"] = b"stale"
        contents |= {key: value for key, value in changed.items() if value is not None}
        for key in (key for key, value in changed.items() if value is None):
            del contents[key]
        with zipfile.ZipFile(path, "w") as file:
            for key, value in contents.items():
                file.writestr(key, value)
        return path

    return write


def test_tags_name_a_python_a_libc_and_a_machine(room):
    targets = room("targets")
    assert len(targets.targets_of([])) == 5 * 2 * 2
    (one,) = targets.targets_of(["cp312-musllinux_aarch64"])
    assert one.wheel_tag == "cp312-cp312-musllinux_1_2_aarch64"
    assert one.zig == "aarch64-linux-musl"
    assert one.suffix == ".cpython-312-aarch64-linux-musl.so"
    (two,) = targets.targets_of(["cp311-manylinux_x86_64"])
    assert (two.wheel_tag, two.suffix, two.zig) == (TAG, SUFFIX, "x86_64-linux-gnu.2.17")


def test_a_python_without_a_gil_has_an_abi_of_its_own(room, tmp_path):
    (one,) = room("targets").targets_of(["cp313t-manylinux_x86_64"])
    assert one.wheel_tag == "cp313-cp313t-manylinux_2_17_x86_64"
    assert one.suffix == ".cpython-313t-x86_64-linux-gnu.so"
    headers = room("headers")
    (tmp_path / "patchlevel.h").write_text(
        "#define PY_MAJOR_VERSION\t3\n#define PY_MINOR_VERSION\t13\n"
    )
    (tmp_path / "pyconfig.h").write_text("/* #undef Py_GIL_DISABLED */\n")
    assert headers.version_in(tmp_path) == "3.13"
    (tmp_path / "pyconfig.h").write_text("#define Py_GIL_DISABLED 1\n")
    assert headers.version_in(tmp_path) == "3.13t"


@pytest.mark.parametrize("tag", ["cp39-manylinux_x86_64", "cp311-win_amd64", "x", "cp312-abi3"])
def test_a_tag_that_is_not_built_is_refused(room, tag):
    with pytest.raises(ValueError, match=f"'{tag}' is no wheel that this builds, expected "):
        room("targets").targets_of(["cp311-manylinux_x86_64", tag])


def test_the_same_contents_are_the_same_bytes(room, raw, tmp_path):
    archive = room("archive")
    wheel = raw()
    os.utime(wheel, (1, 1))
    first = archive.retag(wheel, TAG, tmp_path / "one", 1_700_000_000).read_bytes()
    second = archive.retag(raw("again"), TAG, tmp_path / "two", 1_700_000_000).read_bytes()
    assert first == second
    assert first != archive.retag(wheel, TAG, tmp_path / "three", 1_700_009_000).read_bytes()


def test_a_right_wheel_has_no_faults(room, raw, tmp_path):
    archive = room("archive")
    wheel = archive.retag(raw(), TAG, tmp_path / "out", 0)
    assert wheel.name == f"fastrnn-9.0-{TAG}.whl"
    assert archive.faults(wheel, SUFFIX, "x86_64", TAG) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({f"fastrnn/_kernels/simd{SUFFIX}": elf(183)}, "is not for x86_64"),
        ({f"fastrnn/_kernels/simd{SUFFIX}": None}, "has the modules"),
        ({"fastrnn/py.typed": None}, "has no fastrnn/py.typed"),
        ({"kernels/core.so": elf(62)}, "has kernels/core.so, which does not belong there"),
        ({"fastrnn/_kernels/core.c": b""}, "has fastrnn/_kernels/core.c, which does not belong"),
        ({"fastrnn/large": os.urandom(2_000_000)}, "bytes, expected less than 2000000"),
    ],
)
def test_what_is_wrong_with_a_wheel_is_said(room, raw, tmp_path, changed, fault):
    archive = room("archive")
    wheel = archive.retag(raw(**changed), TAG, tmp_path / "out", 0)
    assert any(fault in found for found in archive.faults(wheel, SUFFIX, "x86_64", TAG))


def test_a_stale_record_and_a_false_tag_are_found(room, raw, tmp_path):
    wheel = raw().rename(tmp_path / f"fastrnn-9.0-{TAG}.whl")
    found = room("archive").faults(wheel, SUFFIX, "x86_64", TAG)
    assert f"fastrnn-9.0.dist-info/WHEEL does not say Tag: {TAG}" in found
    assert "RECORD is wrong about fastrnn/py.typed" in found


def test_headers_are_of_the_version_that_they_say(room, tmp_path):
    headers = room("headers")
    folder = tmp_path / "3.12"
    folder.mkdir()
    (folder / "patchlevel.h").write_text(
        "#define PY_MAJOR_VERSION\t3\n#define PY_MINOR_VERSION\t12\n"
    )
    (folder / "pyconfig.h").touch()
    assert headers.version_in(folder) == "3.12"
    assert headers.headers_of("3.12", tmp_path, tmp_path) == folder
    assert headers.version_in(tmp_path) is None


def test_without_a_compiler_setup_says_what_is_missing(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("kernels", "fastrnn"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so"))
    environment = {key: value for key, value in os.environ.items() if key not in ("CC", "CFLAGS")}
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext"],
        cwd=source, env={**environment, "PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("fastrnn is compiled, which needs a C compiler (")
    for how in ("apt install gcc", "dnf install gcc", "apk add gcc", "xcode-select --install"):
        assert how in said
