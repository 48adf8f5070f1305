"""No tile of any instruction set spills: its inner loop stores no vector on the stack.

A tile's sums and operands fill the registers, as its row in the table of kernels/vector_*.h says. One
too many, or a compiler that orders them otherwise, and a tile takes half again as long without any
result being wrong: so this reads the disassembly. A constant that is read from there costs nothing.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from test_simd_check import HOUSE_FLAGS

KERNELS = Path(__file__).parent.parent / "kernels"
STUBS = sorted(path.stem.removeprefix("simd_") for path in KERNELS.glob("simd_*.c"))
ISAS = [name for name in STUBS if name != "dispatch"]
MULTIPLICATION = re.compile(
    r"v?(fmadd\w+ps|mulps|pmaddwd|pmulld|pdpbusd|pdpwssd)$|fmla$|smlal2?$|mla$|fmul$"
)
ARM = "aarch64-linux-gnu-"  # prefix of Debian's cross compiler and objdump
INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(?:[0-9a-f]{2} )*\s*(?:notrack )?(\S+)\s*(.*)")
FUNCTION = re.compile(r"[0-9a-f]+ <(tile_(\d+)x(\d+)[^>]*)>:")

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for x86 and across"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump"),
]
needs_arm = pytest.mark.skipif(
    not all(shutil.which(ARM + tool) for tool in ("gcc", "objdump")),
    reason="no aarch64-linux-gnu-gcc",
)


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str


class Tile(NamedTuple):
    name: str
    rows: int
    columns: int
    body: list[Instruction]


def tools(compiler: str, isa: str) -> tuple[str, str]:
    """The compiler and the disassembler for an instruction set."""
    return (f"{ARM}gcc", f"{ARM}objdump") if isa == "neon" else (compiler, "objdump")


def compiled_tiles(compiler: str, isa: str, kernels: Path, work: Path) -> list[Tile]:
    """The tiles in the object code of an instruction set, compiled as it ships."""
    compiled = work / f"{isa}.o"
    source = kernels / f"simd_{isa}.c"
    compiler, objdump = tools(compiler, isa)
    command = [compiler, *HOUSE_FLAGS, "-O3", "-g0", "-fPIC", "-c", "-o", compiled, source]
    subprocess.run(command, check=True)
    listing = subprocess.run(
        [objdump, "--disassemble", "--no-show-raw-insn", compiled],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    tiles: list[Tile] = []
    inside = False
    for line in listing.splitlines():
        if line.endswith(">:"):
            header = FUNCTION.match(line)
            inside = header is not None
            if header:
                tiles.append(Tile(header[1], int(header[2]), int(header[3]), []))
        elif inside and (found := INSTRUCTION.match(line)):
            tiles[-1].body.append(Instruction(int(found[1], 16), found[2], found[3]))
    return tiles


def inner_loops(body: list[Instruction]) -> list[list[Instruction]]:
    """The loops that hold no other loop, and multiply."""
    edges = []
    for instruction in body:
        jump = instruction.name.startswith(("j", "b.", "cb", "tb")) or instruction.name == "b"
        if jump and instruction.operands[:1] != "*":
            target = int(re.search(r"([0-9a-f]+) <", instruction.operands)[1], 16)
            if target <= instruction.address:
                edges.append((target, instruction.address))
    inner = [
        (first, last)
        for first, last in edges
        if not any((first, last) != (a, b) and first <= a and b <= last for a, b in edges)
    ]
    loops = [[i for i in body if first <= i.address <= last] for first, last in inner]
    return [loop for loop in loops if any(MULTIPLICATION.match(i.name) for i in loop)]


def stack_traffic(tile: Tile) -> list[str]:
    """Instructions of its inner loops that store a vector on the stack."""
    has_frame = any(
        i.name == "mov" and i.operands.replace(" ", "") == "%rsp,%rbp" for i in tile.body
    )
    stack = re.compile(r"\(%r[sb]p[^)]*\)$" if has_frame else r"\(%rsp[^)]*\)$|\[sp[^]]*\]$")
    return [
        f"{i.name} {i.operands}"
        for loop in inner_loops(tile.body)
        for i in loop
        if stack.search(i.operands) and re.search(r"%[xyz]mm|\bq\d", i.operands)
    ]


@pytest.mark.parametrize(
    "isa", [pytest.param(isa, marks=needs_arm if isa == "neon" else ()) for isa in ISAS]
)
def test_no_tile_spills(compiler, isa, tmp_path):
    tiles = compiled_tiles(compiler, isa, KERNELS, tmp_path)
    rows = {tile.rows for tile in tiles}
    assert rows == set(range(1, max(rows) + 1)), "every number of rows has its tiles"
    for tile in tiles:
        loops = inner_loops(tile.body)
        assert loops, f"{tile.name} has no inner loop that multiplies"
        most = max(sum(bool(MULTIPLICATION.match(i.name)) for i in loop) for loop in loops)
        assert most >= tile.rows * tile.columns, f"{tile.name}: the inner loop was not found whole"
    spilling = {tile.name: stack_traffic(tile) for tile in tiles}
    assert {name: found for name, found in spilling.items() if found} == {}


def test_a_tile_that_does_not_fit_is_found(compiler, tmp_path):
    """Three rows of six vectors: 18 sums for 16 registers."""
    kernels = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    table = (kernels / "vector_avx2.h").read_text()
    assert "row(3, 4, 4)" in table
    (kernels / "vector_avx2.h").write_text(table.replace("row(3, 4, 4)", "row(3, 6, 6)"))
    spilling = {
        (tile.rows, tile.columns)
        for tile in compiled_tiles(compiler, "avx2", kernels, tmp_path)
        if stack_traffic(tile)
    }
    assert spilling == {(3, 6)}
