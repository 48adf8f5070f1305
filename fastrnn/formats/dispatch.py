"""Which reader a file goes to, told by its first bytes and, of an archive, by its records."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats import guess, jsontext, jsonweights, keras, npz, onnx, safetensors, shards
from fastrnn.formats.archives import gzipped, members, tararchive
from fastrnn.formats.archives.members import Member
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.inventory import Contents
from fastrnn.formats.source import Source, shown
from fastrnn.formats.torch import export, legacy, saved

_ZIP, _PICKLE = b"PK\3\4", b"\x80"


def contents(source: Source, member: str = "") -> Contents:
    """What the file holds; of an archive of files, what `member` or the only one with weights does.

    Raises
    ------
    FormatError
        It is damaged, or of no format that is read here.
    """
    if _head(source).startswith(gzipped.MAGIC) and not safetensors.looks_like(_head(source)):
        source = gzipped.inflated(source)
    head = _head(source)
    found: Contents | None = None
    kind, inside = "", dict[str, Member]()
    if safetensors.looks_like(head):  # a length comes first, whose bytes may be another's magic
        found = safetensors.contents(source)
    elif head.startswith(_ZIP):
        archive = ZipArchive(source)
        found = _of_archive(archive)
        if found is None:
            kind, inside = "zip archive", _records(archive)
    elif tararchive.looks_like(head):
        kind, inside = "tar archive", tararchive.members(source)
        if guess.is_old_tar(inside):
            raise FormatError(
                "is of torch.save in its first releases: load it with PyTorch and save it again"
            )
    elif jsonweights.looks_like(head):
        found = _of_json(source)
    else:
        found = _of_file(source, head)
    if found is None:
        return members.contents(kind, inside, member, _of_member, looks_like_weights)
    if member:
        raise FormatError(f"has no members, and {shown(member)} is asked for: it is {found.format}")
    return found


def parsed(source: Source) -> Any:
    """The value of a file of JSON; FormatError where it is none, or too large."""
    if source.size > jsonweights.MAX_FILE:
        raise FormatError(
            f"is JSON of {source.size} bytes, expected {jsonweights.MAX_FILE} at most"
        )
    return jsontext.parse(source.at(0, source.size), source.budget, "the file")


def looks_like_weights(head: bytes) -> bool:
    """Whether a member of an archive that starts with `head` is tried."""
    pickled = head[:1] == _PICKLE and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return head.startswith((_ZIP, keras.MAGIC)) or pickled or safetensors.looks_like(head)


def _head(source: Source) -> bytes:
    return source.at(0, min(source.size, guess.HEAD))


def _of_archive(archive: ZipArchive) -> Contents | None:
    """What an archive that is itself a format of weights holds; None where it is another."""
    root = saved.root_of(archive)
    if root is not None:
        return saved.contents(archive, root)
    if keras.is_archive(archive):
        return keras.contents_of_archive(archive)
    root = export.root_of(archive)
    if root is not None:
        return export.contents(archive, root, _of_record)
    if npz.is_npz(archive):
        return npz.contents(archive)
    return None


def _of_json(source: Source) -> Contents:
    value = parsed(source)
    if shards.is_index(value):
        return shards.contents(value, source, _of_member)
    return jsonweights.contents(value, source.budget)


def _of_file(source: Source, head: bytes) -> Contents:
    if safetensors.looks_like(head):
        return safetensors.contents(source)
    if head.startswith(_PICKLE):
        return legacy.contents(source)
    if head.startswith(keras.MAGIC):
        return keras.contents(source)
    if onnx.looks_like(head):
        return onnx.contents(source)
    raise FormatError(guess.describe(head))


def _of_member(source: Source) -> Contents:
    """What one file of several holds, itself no archive of files and no index."""
    head = _head(source)
    if safetensors.looks_like(head) or not head.startswith(_ZIP):
        return _of_file(source, head)
    archive = ZipArchive(source)
    found = _of_archive(archive)
    if found is None:
        raise FormatError("is an archive inside an archive: unpack it first")
    return found


def _of_record(archive: ZipArchive, name: str) -> Contents:
    return _of_member(archive.member(name, unchecked=True))


def _records(archive: ZipArchive) -> dict[str, Member]:
    """The files of a zip archive; an entry for a folder is none."""
    if guess.is_old_script(archive.records):
        raise FormatError(
            "is a TorchScript archive from before PyTorch 1.4: save it again with a newer one"
        )
    return {
        name: Member(partial(archive.start_of, name, guess.HEAD), partial(archive.member, name))
        for name in archive.records
        if not name.endswith("/")
    }
