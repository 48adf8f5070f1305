"""docs/operators.md lists the operators as the table has them and ONNX's cases test them.

`python tests/test_operators_page.py` writes it.
"""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from test_onnx_node_cases import CASES, nodes, refusal

from fastrnn.models.ops import table

PAGE = Path(__file__).parent.parent / "docs" / "operators.md"
HEAD = f"""# Operators of ONNX models

What `fastrnn.load_model` runs, of opsets {table.OLDEST} to {table.NEWEST}: the opset from which on each form of an
operator holds, and how many of ONNX's own cases for it (of onnx {onnx.__version__}) pass. Any other operator, attribute or type is
refused with an error that names the node.

| operator | forms since opset | cases |
|---|---|---|
"""
TAIL = """
`If` runs, too, in either branch. Types are those that NumPy has: no strings, bfloat16, float8, float4,
int4 or int2; nothing is trained.

`DynamicQuantizeLSTM` computes with the numbers that its weights stand for. LSTM, GRU and RNN nodes
with torch's activations and without clip, peepholes and coupled gates run in fastrnn's layers; all
others in NumPy.
"""


def page() -> str:
    counts: dict[str, int] = {}
    for case in CASES:
        if refusal(case) is None:
            for name in {node.op_type for node in nodes(case.model.graph)}:
                counts[name] = counts.get(name, 0) + 1
    rows = []
    for (domain, name), versions in sorted(table.TABLE.items(), key=lambda item: item[0][::-1]):
        since = ", ".join(str(max(version.since, table.OLDEST)) for version in versions)
        if domain:
            rows.append(f"| {name} ({domain}) | {versions[0].since} | |")
        else:
            rows.append(f"| {name} | {since} | {counts.get(name, 0)} |")
    return HEAD + "\n".join(rows) + "\n" + TAIL


def test_the_page_is_current():
    there, here = PAGE.read_text(), page()
    if f"of onnx {onnx.__version__})" not in there:  # another version has other numbers of cases
        there, here = (
            re.sub(r"(of onnx [^)]*)|\| \d+ \|$", "", t, flags=re.M) for t in (there, here)
        )
    assert there == here


if __name__ == "__main__":
    PAGE.write_text(page())
