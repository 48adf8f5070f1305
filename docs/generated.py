"""Pages that are made of what stands elsewhere: the command's --help, the records, the changelog.

A hook of MkDocs, whose `on_files` adds them to the pages in this folder.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from fastrnn.cli import make_parser
from fastrnn.measure.record import Record, newest_by_isa, read_record
from fastrnn.plots.tables import (
    TABLE_GROUPS,
    deepbench_table,
    limits_table,
    pool_table,
    wide_table,
)

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = "90"  # of what --help writes
PICTURES = {
    "performance.png": "Time per step against hidden size",
    "peers.png": "Other runtimes' time over fastrnn's",
    "roofline.png": "What was achieved, under the roofs that were measured",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "design.md",
    "docs/operators.md": "operators.md",
}
SERVED = "examples/serve_vad.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and pictures."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for name, path in pictures().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {
        "command.md": command_page(),
        "performance.md": performance_page(),
        "guides/served-vad.md": _moved((ROOT / SERVED).read_text("utf-8")),
        "design.md": _moved((ROOT / "CONTRIBUTING.md").read_text("utf-8")).replace(
            "# Contributing", "# Design and contributing", 1
        ),
        "changelog.md": _moved((ROOT / "CHANGELOG.md").read_text("utf-8")),
    }


def pictures() -> dict[str, Path]:
    """Return the path of each picture by its name."""
    found = {f"pictures/{name}": ROOT / "bench" / "results" / name for name in PICTURES}
    return found | {"pictures/trace.png": ROOT / "bench" / "demo_model" / "trace.png"}


def _moved(text: str) -> str:
    """Return a page of the repository whose links go to pages here, or are words alone."""
    return LINK.sub(lambda m: f"]({PAGES[m[1]]}{m[2] or ''})" if m[1] in PAGES else "]", text)


def command_page() -> str:
    """Return what `fastrnn --help` says, and that of each command."""
    os.environ["COLUMNS"] = COLUMNS
    parser = make_parser()
    parts = ["# The command", _help(parser)]
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        parts += [f"## fastrnn {name}", _help(command)]
    return "\n\n".join(parts) + "\n"


def _help(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().rstrip()}\n```"


def performance_page() -> str:
    """Return the newest record's tables, with the pictures that were drawn of it."""
    results = ROOT / "bench" / "results"
    records = [read_record(path) for path in results.glob("[0-9]*.json")]
    readme = (ROOT / "README.md").read_text("utf-8")
    said = readme.partition("<!-- performance: made by bench/report.py -->")[2]
    said = said.partition("<!-- end -->")[0].replace("bench/results/", "pictures/")
    parts = [
        "# Performance",
        _moved_pictures(said).strip(),
        "## Weights of fewer bits",
        _section(readme, "### A quarter of the bytes"),
        "## Pictures",
        *(f"![{alt}](pictures/{name})" for name, alt in PICTURES.items() if name not in said),
        *(part for record in newest_by_isa(records) for part in _tables(record)),
    ]
    text = "\n\n".join(parts) + "\n"
    return re.sub(r"!\[[^]]*\]\(([^)]*)\)", r"[\g<0>](\1)", text)  # at full size, where asked


def _section(readme: str, title: str) -> str:
    """Return what README says under a title, without its code."""
    found = readme.partition(f"{title}\n")[2]
    assert found, f"README.md has no {title}"
    return re.sub(r"```.*?```\n", "", re.split(r"^#+ ", found, flags=re.M)[0], flags=re.S).strip()


def _moved_pictures(text: str) -> str:
    return re.sub(r"`pictures/`", "`bench/results/`", text)


def _tables(record: Record) -> list[str]:
    """Return every case of a record, and the machine's limits, as tables in Markdown."""
    parts = [f"## Every case of {record['machine']['cpu']}, {record['machine']['isa']['chosen']}"]
    groups: dict[str, list[Any]] = {}
    for row in record.get("cases", []):
        groups.setdefault(row["group"], []).append(row)
    for group, rows in groups.items():
        parts += [f"### {TABLE_GROUPS.get(group, group)}", _table(*wide_table(rows))]
        if group == "deepbench":
            parts += [
                "GFLOP/s, counting the products of the state alone, as DeepBench does, and all:",
                _table(*deepbench_table(rows)),
            ]
    if record.get("pool"):
        parts += ["### A thousand streams", _table(*pool_table(record["pool"]))]
    parts += ["### What one core can do", _table(*limits_table(record.get("limits", {})))]
    return parts


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    rows = [header, rule, *lines]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows)
