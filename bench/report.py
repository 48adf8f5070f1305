"""Make the report page, its pictures and README's performance section from the recorded results.

python bench/report.py           writes them
python bench/report.py --check   fails if README's section is not what the records give

Records are bench/results/<version>-<cpu>-<isa>.json, as `pytest bench --record` writes them. The
newest of a whole run is reported, its history over those of the same CPU and instruction set, and a
table of the newest of each other instruction set of that CPU. --check needs NumPy alone, the rest
the extra `plots`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrnn.measure.record import Record, newest_by_isa, read_record
from fastrnn.measure.timing import geometric_mean
from fastrnn.plots.tables import (
    OURS,
    ROUGH,
    Row,
    by_case,
    figure,
    in_words,
    lead,
    pool_table,
    wide_table,
)

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"
PICTURE, PEERS, ROOFLINE, HISTORY = "performance.png", "peers.png", "roofline.png", "history.png"
PAGE = "report.html"  # too large to be committed
REPEAT = "pip install -e '.[bench,plots]'\npytest bench --record && python bench/report.py"
WIDTH = 104  # of README's lines
BEGIN, END = "<!-- performance: made by bench/report.py -->", "<!-- end -->"

# Cases in README's table: cell, H, B. Those that the record lacks are left out.
SHOWN = [
    ("LSTM", 32, 1),
    ("LSTM", 128, 1),
    ("LSTM", 512, 1),
    ("LSTM", 128, 16),
    ("LSTM", 512, 64),
    ("GRU", 128, 1),
    ("GRU", 512, 1),
    ("GRU", 128, 64),
]


def read_records(results: Path) -> list[Record]:
    """Return every record in `results`, the one to report last, before it the oldest first.

    Raises
    ------
    SystemExit
        If there is none.
    """
    records = [read_record(path) for path in sorted(results.glob("[0-9]*.json"))]
    if not records:
        sys.exit(f"{results}: no record; pytest bench --record makes one")
    records.sort(key=lambda record: str(record["date"]))
    reported = newest_by_isa(records)[0]
    return [*(record for record in records if record is not reported), reported]


def read_instructions(results: Path) -> list[dict[str, Any]]:
    """Return the counts that instructions.py recorded, as a record has them."""
    path = results / "instructions.json"
    if not path.exists():
        return []
    compilers = json.loads(path.read_text(encoding="utf-8"))["compilers"]
    return [
        {**row, "isa": f"{row['isa']}, {compiler}"}
        for compiler, found in compilers.items()
        for row in found["per_step"]
    ]


def make_section(record: Record, results: str, others: Sequence[Record] = ()) -> str:
    """Return README's performance section for `record`, between its markers.

    `others` are of the same CPU, each of another instruction set.
    """
    rows = record.get("cases", [])
    shown = _shown(rows)
    machine = record["machine"]
    where = f"{machine['cpu']}, {machine['isa']['chosen']}, {record['date'][:10]}"
    table, code = _markdown_table(*wide_table(shown)), f"```\n{REPEAT}\n```"
    pool = record.get("pool", [])
    pools = _markdown_table(*pool_table(pool)) if pool else ""
    paragraphs = [
        "One step per call from Python, one thread, float32: microseconds per step of all B rows, "
        "medians of interleaved rounds in one process, CPU time. Input and hidden size are equal "
        f"where one is given. {_text(where)}.",
        table,
        _ROUGH_NOTE if any(row["runner"] in ROUGH for row in shown) else "",
        f"![Time per step against hidden size, fastrnn and other runtimes]({results}/{PICTURE})",
        " ".join(filter(None, [*_comparisons(rows), _latency(record.get("latency", []))])),
        *(part for other in others for part in _other_isa(other)),
        _POOL_NOTE if pool else "",
        pools,
        _real_time(pool),
        f"{_text(_versions(record))}. `{results}/` has every figure, with quartiles, sequences, "
        "DeepBench's shapes, latency, and the machine's limits, and pictures of "
        f"[the other runtimes]({results}/{PEERS}) and [the roofs]({results}/{ROOFLINE}). To repeat "
        "it on your machine within half an hour (`--quick`: two minutes), and to make a page "
        "and this section of it:",
        code,
    ]
    wrapped = [
        text if text.startswith(("|", "```")) else _paragraph(text) for text in paragraphs if text
    ]
    return "\n\n".join([BEGIN, *wrapped, END])


def _other_isa(record: Record) -> list[str]:
    """Say and show what a record of another instruction set has."""
    rows, isa = record.get("cases", []), record["machine"]["isa"]["chosen"]
    return [
        f"With `FASTRNN_ISA={isa}`, {record['date'][:10]}; the other runtimes take what the CPU "
        "has. " + " ".join(_comparisons(rows)),
        _markdown_table(*wide_table(_shown(rows))),
    ]


_ROUGH_NOTE = (
    "torch int8 is torch's dynamic quantization: a quarter of the bytes and coarser outputs, by up "
    "to 0.05 in the root mean square. It does not count as the fastest other runtime, here and "
    "below."
)


_POOL_NOTE = (
    "A thousand streams, each with a state of its own, stepped together: microseconds per stream "
    "and step, one thread. Without a pool, states are joined before a step and split after it "
    "(batched), or each stream has a call of its own (one by one)."
)


def _real_time(pool: Sequence[Row]) -> str:
    """Say how many streams of a published model one core carries."""
    for row in pool:
        if "streams_in_real_time" in row:
            return (
                f"One core carries {row['streams_in_real_time'] // 100 * 100:,.0f} streams of the "
                f"LSTM of {_text(row['name'])} in real time, a step each 32 ms."
            )
    return ""


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of README's cases: of the grid, then the published models' single steps."""
    found = [
        row
        for case in SHOWN
        for row in rows
        if (row["group"], row["steps"]) == ("grid", 1)
        and row["input_size"] == row["hidden_size"]
        and (row["cell"], row["hidden_size"], row["batch"]) == case
    ]
    models = [row for row in rows if (row["group"], row["steps"]) == ("models", 1)]
    return [*found, *models]


def _comparisons(rows: Sequence[Row]) -> list[str]:
    """Say how the fastest other runtime of every case compares, and where it wins."""
    sentences = []
    grid = [row for row in rows if row["group"] == "grid"]
    for subject, of in (
        ("Over the whole grid", [row for row in grid if row["steps"] == 1]),
        ("In whole sequences", [row for row in grid if row["steps"] > 1]),
        ("In DeepBench's inference set", [row for row in rows if row["group"] == "deepbench"]),
    ):
        cases = by_case(of)
        leads = {name: ratio for name, each in cases.items() if (ratio := lead(each)) is not None}
        if not leads:
            continue
        least = min(leads, key=leads.__getitem__)
        slower = sum(ratio < 1 for ratio in leads.values())
        where = _text(in_words(cases[least][OURS]))
        sentences.append(
            f"{subject} ({_span(of)}) the fastest other runtime takes "
            f"{geometric_mean(leads.values()):.2f} times as long in the geometric mean of "
            f"{len(leads)} cases, and at least {leads[least]:.2f} times ({where})"
            + (f"; it is the faster one in {slower}." if slower else ".")
        )
    return sentences


def _span(rows: Sequence[Row]) -> str:
    parts = []
    for letter, key in (("H", "hidden_size"), ("B", "batch"), ("T", "steps")):
        values = sorted({row[key] for row in rows})
        both = f"{letter} {values[0]} to {values[-1]}"
        parts.append(both if len(values) > 1 else f"{letter}={values[0]}")
    return ", ".join(parts)


def _latency(latency: Sequence[Any]) -> str:
    paced = [entry for entry in latency if entry["rate_hz"]]
    if not paced:
        return ""
    entry = paced[0]
    us = entry["us"]
    return (
        f"One stream of {entry['cell']} H={entry['hidden_size']} at {entry['rate_hz']:g} steps a "
        f"second: {figure(us['p50'])} µs in the median, {figure(us['p99'])} at the 99th "
        f"percentile, {figure(us['p99.9'])} at the 99.9th (wall time)."
    )


def _versions(record: Record) -> str:
    machine = record["machine"]
    found = {"fastrnn": record["fastrnn"], **record.get("versions", {})}
    found |= {name: machine[name] for name in ("numpy", "scipy", "python")}
    commit = f" at {record['commit']}" if record.get("commit") else ""
    versions = [f"{name} {version}" for name, version in found.items()]
    return f"{versions[0]}{commit}, {', '.join(versions[1:])}"


def _markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    cells = [list(map(_text, line)) for line in lines]
    bold = [[line[0], f"**{line[1]}**", *line[2:]] for line in cells]
    rows = [list(map(_text, header)), rule, *bold]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(words: str) -> str:
    """Escape what would be more than text in Markdown: names come from records."""
    return re.sub(r"([\\`|\[\]<>*])", r"\\\1", " ".join(words.split()))


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def replace_section(readme: str, section: str) -> str:
    """Return `readme` with what is between the markers replaced.

    Raises
    ------
    SystemExit
        If they are not there, once each and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest:
        sys.exit(f"README.md: expected {BEGIN} and then {END}, once")
    return before + section + after


def write_pictures(record: Record, earlier: Sequence[Record], results: Path) -> list[Path]:
    """Write the page, and the figures that stand alone; return their paths."""
    from fastrnn.plots import charts
    from fastrnn.plots.page import make_page
    from fastrnn.plots.roofline import roofline
    from fastrnn.plots.style import write_png

    rows = record.get("cases", [])
    grid = [row for row in rows if (row["group"], row["steps"]) == ("grid", 1)]
    figures = {
        PICTURE: charts.time_by_size(grid),
        PEERS: charts.peers_side_by_side(_shown(rows)),
        ROOFLINE: roofline(record),
        HISTORY: charts.history([*earlier, record]),
    }
    written = []
    for name, made in figures.items():
        path = results / name
        if made is None:
            path.unlink(missing_ok=True)  # of a record before
        else:
            write_png(made, path)
            written.append(path)
    page = results / PAGE
    page.write_text(make_page(record, earlier), encoding="utf-8")
    return [*written, page]


def _machine(record: Record) -> tuple[str, str]:
    return record["machine"]["cpu"], record["machine"]["isa"]["chosen"]


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the report; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare README's section")
    parser.add_argument("--readme", type=Path, default=README, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    *others, record = read_records(args.results)
    earlier = [other for other in others if _machine(other) == _machine(record)]
    results = args.results.resolve().relative_to(args.readme.resolve().parent).as_posix()
    readme = args.readme.read_text(encoding="utf-8")
    section = make_section(record, results, newest_by_isa([*others, record])[1:])
    wanted = replace_section(readme, section)
    if args.check:
        if readme == wanted:
            return 0
        lines = difflib.unified_diff(
            readme.splitlines(), wanted.splitlines(), "README.md", "the records", lineterm=""
        )
        print(*lines, "README.md: run python bench/report.py", sep="\n", file=sys.stderr)
        return 1
    whole = {**record, "instructions": read_instructions(args.results)}
    for path in write_pictures(whole, earlier, args.results):
        print(f"{path}: {path.stat().st_size:,} bytes")
    args.readme.write_text(wanted, encoding="utf-8")
    print(f"{args.readme}: performance section of {record['date']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
