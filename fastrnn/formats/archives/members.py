"""The files inside a container (a zip or a tar archive), and which of them is the one meant.

One level is followed: an archive inside an archive is read only where it is itself a format of
weights, as every file of torch.save is. A member that is compressed is held in memory, within the
budget of the file around it; of one that is not, what is asked for is read from the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fastrnn.errors import FormatError
from fastrnn.formats.inventory import Contents
from fastrnn.formats.source import Source, shown

SEPARATOR = "::"
# What torch.optim names its tensors: state.0.exp_avg, of the first parameter.
_OF_AN_OPTIMIZER = re.compile(r"(.+\.)?state\.\d+\.[^.]+")


@dataclass(frozen=True)
class Member:
    """A file in a container: its first bytes (guess.HEAD at most), and how it is opened."""

    head: Callable[[], bytes]
    open: Callable[[], Source]


def contents(
    kind: str,
    members: Mapping[str, Member],
    wanted: str,
    read: Callable[[Source], Contents],
    looks_like_weights: Callable[[bytes], bool],
) -> Contents:
    """What member `wanted` holds, or where that is "", the only member that holds weights.

    A member whose tensors are all an optimizer's state does not count.

    Raises
    ------
    FormatError
        If there is no such member, none or more than one that holds weights, or one
        that is damaged.
    """
    if wanted:
        if wanted not in members:
            raise FormatError(f"has no member {shown(wanted)}, it has {_listed(members)}")
        return _titled(_read(wanted, members[wanted], read), kind, wanted)
    found: dict[str, Contents] = {}
    for name, member in members.items():
        if looks_like_weights(member.head()):
            held = _read(name, member, read)
            if _holds_weights(held):
                found[name] = held
    if len(found) == 1:
        ((name, held),) = found.items()
        return _titled(held, kind, name)
    if found:
        raise FormatError(
            f"is a {kind} with weights in {len(found)} members, say which as in "
            f"'{SEPARATOR}{next(iter(found))}' behind the path: {_listed(found)}"
        )
    raise FormatError(f"is a {kind} without weights that are read here: it has {_listed(members)}")


def split(path: str, exists: Callable[[str], bool]) -> tuple[str, str]:
    """The path and the member that "agent.zip::policy.pth" names; "" for none.

    A file that has the whole name goes first.
    """
    container, mark, member = path.rpartition(SEPARATOR)
    return (container, member) if mark and container and not exists(path) else (path, "")


def _read(name: str, member: Member, read: Callable[[Source], Contents]) -> Contents:
    try:
        return read(member.open())
    except FormatError as error:
        raise FormatError(f"member {shown(name)}: {error}") from None


def _holds_weights(held: Contents) -> bool:
    names = [*held.weights, *held.skipped]
    return not all(map(_OF_AN_OPTIMIZER.fullmatch, names))


def _titled(held: Contents, kind: str, name: str) -> Contents:
    return replace(held, format=f"{held.format} ({shown(name)} in a {kind})")


def _listed(members: Mapping[str, object]) -> str:
    names = list(members)
    return ", ".join(map(shown, names[:20])) + (", ..." if len(names) > 20 else "")
