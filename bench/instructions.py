"""Count the instructions of a step, and compare with the recorded table.

    python bench/instructions.py             # count and print
    python bench/instructions.py --check     # and fail where a step has grown by more than 3 %
    python bench/instructions.py --update    # and record these counts: a decision, to be committed

Counts are the same on a quiet machine and on a busy one, so that a check can be strict where times
cannot. They depend on the compiler, hence the table has one set of counts for each; with a compiler
that is not in it nothing is compared, and that is said. They say nothing of caches: a step may get
slower with the same count, and a growth on purpose is recorded with --update.

valgrind's callgrind counts (https://valgrind.org/docs/manual/cl-manual.html), in one run of
instructions.c with the flags of setup.py. It knows no AVX-512: `generic` and `avx2` are counted.
Needs Python, a C compiler ($CC, else cc) and valgrind with its headers; without valgrind nothing is
compared, and that is said.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).parent / "results" / "instructions.json"
ISAS = ("generic", "avx2")
MOST_GROWTH = 0.03
HEADER = "valgrind/callgrind.h"

Counts = dict[str, float]  # per step, by "isa case"


@dataclass(frozen=True)
class Comparison:
    """Counts beside recorded ones: what has grown or shrunk too much, come or gone."""

    grown: dict[str, float]  # new over recorded
    shrunk: dict[str, float]
    new: list[str]
    gone: list[str]

    @property
    def passes(self) -> bool:
        """Whether nothing has grown, come or gone."""
        return not (self.grown or self.new or self.gone)


def compare(counts: Counts, recorded: Counts, most: float = MOST_GROWTH) -> Comparison:
    both = {name: counts[name] / recorded[name] for name in counts if name in recorded}
    return Comparison(
        grown={name: ratio for name, ratio in both.items() if ratio > 1 + most},
        shrunk={name: ratio for name, ratio in both.items() if ratio < 1 - most},
        new=[name for name in counts if name not in recorded],
        gone=[name for name in recorded if name not in counts],
    )


def compiler() -> list[str]:
    return os.environ.get("CC", "cc").split()


def compiler_version() -> str:
    command = [*compiler(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^\S*cc ", "gcc ", said.splitlines()[0])  # gcc says the name it was called by


def flags() -> list[str]:
    """Return FLAGS of setup.py, which builds the package with them."""
    for node in ast.parse((ROOT / "setup.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLAGS":
            found: list[str] = ast.literal_eval(node.value)
            return found
    raise SystemExit("instructions.py: setup.py has no FLAGS")


def count() -> Counts:
    """Build instructions.c, run it under callgrind, and return instructions per step."""
    kernels = sorted((ROOT / "kernels").glob("simd*.c"))
    sources = [Path(__file__).with_suffix(".c"), *kernels]
    sources += [ROOT / "kernels" / name for name in ("cpu.c", "team.c")]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "instructions"
        build = [*compiler(), *flags(), "-o", program, *sources, "-lm", "-lpthread"]
        subprocess.run(build, check=True)
        options = ["--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={folder}/out"]
        run = ["valgrind", *options, program, *ISAS]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"instructions.py: {' '.join(map(str, run))} failed:\n{done.stderr}")
        dumps = [path.read_text("utf-8") for path in Path(folder).glob("out.*")]
    counts = dict(found for found in map(parse_dump, dumps) if found)
    if not counts:
        raise SystemExit(f"instructions.py: valgrind counted nothing:\n{done.stderr}")
    return dict(sorted(counts.items()))


def parse_dump(text: str) -> tuple[str, float] | None:
    """Return case and instructions per step of one of callgrind's dumps; None of its last."""
    trigger = re.search(r"^desc: Trigger: Client Request: (.+T=(\d+))$", text, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
    if not trigger or not total:
        return None
    return trigger[1], int(total[1]) / int(trigger[2])


def read_table() -> dict[str, dict[str, Any]]:
    """Return the recorded counts of each compiler; see `rows`."""
    found: dict[str, dict[str, Any]] = {}
    if TABLE.exists():
        found = json.loads(TABLE.read_text("utf-8"))["compilers"]
    return found


def recorded_counts(rows: list[Mapping[str, Any]]) -> Counts:
    return {f"{row['isa']} {row['id']}": row["per_step"] for row in rows}


def only_counted(recorded: Counts, counts: Counts) -> Counts:
    """Leave out instruction sets that this CPU has not, and say so."""
    isas = {name.split()[0] for name in counts}
    for isa in sorted({name.split()[0] for name in recorded} - isas):
        print(f"INSTRUCTIONS NOT COMPARED: {isa}: this CPU has it not")
    return {name: n for name, n in recorded.items() if name.split()[0] in isas}


def rows(counts: Counts) -> list[dict[str, Any]]:
    """Return counts as a record's section "instructions" has them."""
    split = ((*name.split(" ", 1), per_step) for name, per_step in counts.items())
    return [{"id": case, "isa": isa, "per_step": round(n, 1)} for isa, case, n in split]


def update(counts: Counts, version: str) -> None:
    table = read_table()
    table[version] = {"flags": " ".join(flags()), "per_step": rows(counts)}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps({"compilers": table}, indent=1) + "\n", "utf-8")


def tell(counts: Counts, recorded: Counts) -> None:
    for name, per_step in counts.items():
        before = recorded.get(name)
        change = f"{100 * (per_step / before - 1):+8.2f} %" if before else "     new"
        print(f"{name:44}{per_step:14.1f}{change if recorded else ''}")


def check(comparison: Comparison) -> int:
    for name, ratio in comparison.grown.items():
        print(f"GROWN: {name}: {100 * (ratio - 1):+.2f} %")
    for name, ratio in comparison.shrunk.items():
        print(f"shrunk: {name}: {100 * (ratio - 1):+.2f} %: worth recording with --update")
    for what, names in (("NOT IN THE TABLE", comparison.new), ("GONE", comparison.gone)):
        for name in names:
            print(f"{what}: {name}")
    if comparison.passes:
        print(f"no step has grown by more than {100 * MOST_GROWTH:.0f} %")
        return 0
    print(
        "If this is wanted: python bench/instructions.py --update, and say why in the commit.",
        file=sys.stderr,
    )
    return 1


def has_valgrind() -> bool:
    """Whether valgrind is here, and the compiler finds its headers."""
    include = f"#include <{HEADER}>\n"
    finds = [*compiler(), "-E", "-x", "c", "-"]
    return (
        shutil.which("valgrind") is not None
        and subprocess.run(finds, input=include, text=True, capture_output=True).returncode == 0
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="fail where a step has grown")
    action.add_argument("--update", action="store_true", help="record these counts")
    options = parser.parse_args()
    if not has_valgrind():
        print("INSTRUCTIONS NOT COUNTED: no valgrind here, or none of its headers")
        return 1 if options.update else 0
    version = compiler_version()
    table = read_table()
    recorded = recorded_counts(table.get(version, {}).get("per_step", []))
    counts = count()
    print(f"instructions per step, {version}")
    tell(counts, recorded)
    if options.update:
        update(counts, version)
        print(f"recorded in {TABLE.relative_to(ROOT)}")
    elif options.check and not recorded:
        known = "".join(f"\n    {name}" for name in table) or " none"
        print(f"INSTRUCTIONS NOT COMPARED: not recorded for {version}, but for:{known}")
    elif options.check:
        return check(compare(counts, only_counted(recorded, counts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
