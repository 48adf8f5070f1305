"""What a wheel is for: a Python, a libc and a processor, from tags as cibuildwheel writes them."""

from __future__ import annotations

import re
from typing import NamedTuple

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FREE = ("3.13t", "3.14t")  # without a GIL; made where they are asked for
LIBCS = ("manylinux", "musllinux")
MACHINES = ("x86_64", "aarch64")
GLIBC = "2.17"  # the oldest of manylinux2014; NumPy's wheels want no older
MUSL = "1_2"


class Target(NamedTuple):
    """One wheel to be built."""

    python: str  # "3.11"; "3.13t" has no GIL
    libc: str
    machine: str

    @property
    def name(self) -> str:
        """As it was asked for: cp311-manylinux_x86_64."""
        return f"{self.abi}-{self.libc}_{self.machine}"

    @property
    def abi(self) -> str:
        """The wheel's second tag."""
        return "cp" + self.python.replace(".", "")

    @property
    def platform(self) -> str:
        """The wheel's third tag."""
        version = GLIBC.replace(".", "_") if self.libc == "manylinux" else MUSL
        return f"{self.libc}_{version}_{self.machine}"

    @property
    def wheel_tag(self) -> str:
        """The whole of it."""
        return f"{self.abi.rstrip('t')}-{self.abi}-{self.platform}"

    @property
    def zig(self) -> str:
        """What zig calls the platform."""
        return f"{self.machine}-linux-" + (f"gnu.{GLIBC}" if self.libc == "manylinux" else "musl")

    @property
    def suffix(self) -> str:
        """End of a module's file name: on musl, Pythons disagree on theirs before 3.11."""
        if self.libc == "musllinux" and self.python == "3.10":
            return ".so"
        libc = "gnu" if self.libc == "manylinux" else "musl"
        return f".cpython-{self.abi[2:]}-{self.machine}-linux-{libc}.so"


TARGETS = tuple(Target(p, libc, m) for libc in LIBCS for m in MACHINES for p in PYTHONS)
MORE = tuple(Target(p, libc, m) for libc in LIBCS for m in MACHINES for p in FREE)


def targets_of(tags: list[str]) -> list[Target]:
    """Return what tags name, in their order: all of them if there are none.

    Raises
    ------
    ValueError
        for a tag that is none of TARGETS' or MORE's
    """
    known = {target.name: target for target in (*TARGETS, *MORE)}
    for tag in tags:
        if tag not in known:
            hint = (
                "cp310 to cp314, cp313t, cp314t, - , manylinux or musllinux, _, x86_64 or aarch64"
            )
            if re.fullmatch(r"cp\d+-abi3.*|.*-abi3.*", tag):
                hint = "no abi3: CONTRIBUTING.md says why"
            raise ValueError(f"{tag!r} is no wheel that this builds, expected {hint}")
    return [known[tag] for tag in tags] or list(TARGETS)
