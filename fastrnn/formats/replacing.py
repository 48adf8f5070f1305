"""A file that takes its place whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

PRIVATE, PUBLIC = 0o600, 0o666  # before the umask
NOT_HERE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)  # no O_TMPFILE
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Give a new file, which takes its place at `path` at the end of a block that succeeds.

    A file that is there keeps its permissions; a link is replaced, not followed. Where the file
    system can, the new file has no name until it is whole, so that a process that is killed leaves
    nothing behind; elsewhere it is ".<random>.tmp" in the same folder.

    Raises
    ------
    FileExistsError
        Without `overwrite`, if there is something at `path` before or after the block.
    OSError
        If the folder cannot be written to.
    """
    target = os.fspath(path)
    folder = os.path.dirname(target) or os.curdir
    spare = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    there = _status(target)
    if there and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    ours = {folder, spare}
    try:
        file, unnamed = _create(folder, spare, PRIVATE if there else PUBLIC)
        with file:
            yield file
            file.flush()
            _keep_permissions(file.fileno(), _status(target))
            os.fsync(file.fileno())
            if unnamed:
                source = f"/proc/self/fd/{file.fileno()}"
                ours.add(source)
                _link(source, spare if overwrite else target)
        if overwrite:
            os.replace(spare, target)
        elif not unnamed:
            _place(spare, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in ours:
            error.filename, error.filename2 = target, None
        raise
    finally:
        with suppress(OSError):
            os.unlink(spare)


def _status(target: str) -> os.stat_result | None:
    try:
        return os.lstat(target)
    except OSError:
        return None


def _create(folder: str, spare: str, mode: int) -> tuple[BinaryIO, bool]:
    """A new file to write to, and whether it has no name; its name is `spare` otherwise."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_WRONLY, mode), "wb"), True
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return os.fdopen(os.open(spare, flags, mode), "wb"), False


def _keep_permissions(descriptor: int, there: os.stat_result | None) -> None:
    """Give a file the permissions of the one whose place it takes, and its owner where allowed."""
    if there is None or not stat.S_ISREG(there.st_mode) or not hasattr(os, "fchmod"):
        return
    mode = there.st_mode & 0o777
    for owner in ((there.st_uid, there.st_gid), (-1, there.st_gid)):
        with suppress(OSError):
            os.fchown(descriptor, *owner)
            break
    else:
        mode &= ~0o070  # they were another group's
    os.fchmod(descriptor, mode)


def _link(source: str, name: str) -> None:
    """Name an open file: linkat() follows the link in /proc, which link() does not."""
    folder = os.open(os.path.dirname(name) or os.curdir, os.O_PATH)
    try:
        os.link(source, os.path.basename(name), src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _place(spare: str, target: str) -> None:
    """Give `spare` the name `target`, which nobody may have."""
    try:
        os.link(spare, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
        os.replace(spare, target)
