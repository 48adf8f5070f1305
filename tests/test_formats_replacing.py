"""A file takes its place whole or not at all, with the permissions that were there, and no trace."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from fastrnn.formats import replacing as module
from fastrnn.formats.replacing import replacing

WAYS = ["unnamed", "named", "without links"]
EVERY_WAY = pytest.mark.parametrize("way", WAYS)
POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and signals of POSIX")


def refuses(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return call


def use(way, patch):
    """As if on a file system that cannot do more; `patch` is monkeypatch.setattr, or setattr."""
    if way == "unnamed":
        if not hasattr(os, "O_TMPFILE"):
            pytest.skip("no O_TMPFILE")
        return
    patch(module, "_create", lambda folder, spare, mode: (
        os.fdopen(os.open(spare, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb"), False,
    ))  # fmt: skip
    if way == "without links":
        patch(os, "link", refuses(errno.EPERM))


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def fill(path, during, **options):
    with replacing(path, **options) as file:
        file.write(b"new")
        during()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@EVERY_WAY
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_new_file(way, overwrite, tmp_path, umask, monkeypatch):
    use(way, monkeypatch.setattr)
    with replacing(tmp_path / "a.npz", overwrite=overwrite) as file:
        file.write(b"whole")
        assert not (tmp_path / "a.npz").exists()
    assert (tmp_path / "a.npz").read_bytes() == b"whole"
    assert names(tmp_path) == ["a.npz"]
    if os.name == "posix":
        assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o644


@POSIX
@EVERY_WAY
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_stay(way, mode, tmp_path, umask, monkeypatch):
    use(way, monkeypatch.setattr)
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    path.chmod(mode)
    with replacing(path) as file:
        file.write(b"new")
        for entry in set(tmp_path.iterdir()) - {path}:
            assert entry.stat().st_mode & 0o077 == 0  # nobody else reads what is not there yet
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() == b"new"


@EVERY_WAY
def test_what_comes_meanwhile_stays(way, tmp_path, monkeypatch):
    use(way, monkeypatch.setattr)
    path = tmp_path / "a.npz"
    with pytest.raises(FileExistsError) as told:
        fill(path, lambda: path.write_bytes(b"precious"), overwrite=False)
    assert (told.value.filename, told.value.filename2) == (str(path), None)
    assert path.read_bytes() == b"precious"
    assert names(tmp_path) == ["a.npz"]
    with pytest.raises(FileExistsError):
        fill(path, lambda: pytest.fail("entered"), overwrite=False)


@EVERY_WAY
def test_the_longest_name(way, tmp_path, monkeypatch):
    use(way, monkeypatch.setattr)
    path = tmp_path / ("a" * 251 + ".npz")
    for overwrite in (False, True):
        with replacing(path, overwrite=overwrite) as file:
            file.write(b"x")
    assert names(tmp_path) == [path.name]


@EVERY_WAY
def test_a_link_is_replaced_and_not_followed(way, tmp_path, monkeypatch):
    use(way, monkeypatch.setattr)
    (tmp_path / "real").write_bytes(b"real")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"real"


@EVERY_WAY
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_a_failure_leaves_what_was_there_and_nothing_else(way, error, tmp_path, monkeypatch):
    use(way, monkeypatch.setattr)
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def fail():
        raise error

    with pytest.raises((KeyboardInterrupt, OSError)):
        fill(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.npz"]


@EVERY_WAY
@pytest.mark.parametrize("path", ["no/a.npz", "folder"])
def test_errors_name_the_path(way, path, tmp_path, monkeypatch):
    use(way, monkeypatch.setattr)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=path) as told:
        fill(tmp_path / path, lambda: None)
    assert told.value.filename == str(tmp_path / path)
    assert ".tmp" not in str(told.value)
    assert names(tmp_path) == ["folder"]


def test_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for overwrite in (False, True):
        with replacing("a.npz", overwrite=overwrite) as file:
            file.write(b"x")
    assert names(tmp_path) == ["a.npz"]


@POSIX
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_process_that_is_killed_leaves_nothing(signum, tmp_path):
    use("unnamed", setattr)
    code = f"""
        from fastrnn.formats.replacing import replacing
        with replacing({str(tmp_path / "a.npz")!r}) as file:
            file.write(b"half")
            file.flush()
            print("writing", flush=True)
            input()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signum)
    process.communicate(timeout=20)
    assert process.returncode == -signum
    assert names(tmp_path) == []
