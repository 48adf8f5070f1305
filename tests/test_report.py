"""Pages, pictures and README's section: what is in them is what is in the record."""

from __future__ import annotations

import base64
import copy
import importlib.util
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from synthetic_record import CPU, case_rows, synthetic_record

from fastrnn.measure.record import newest_by_isa, read_record, write_record
from fastrnn.plots.tables import (
    binary_size,
    by_case,
    carried,
    deepbench_table,
    fastest_other,
    figure,
    in_words,
    limits_table,
    wide_table,
)

REPORT = Path(__file__).resolve().parent.parent / "bench" / "report.py"
HOSTILE = "<script>alert(1)</script>\"' | $x$ [a](http://b) `c`\n# d"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    if not REPORT.exists():
        pytest.skip("bench/ is in the repository and not in the source distribution")
    spec = importlib.util.spec_from_file_location("report", REPORT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from fastrnn.plots.page import make_page

    earlier = synthetic_record("0.0.0", "2000-01-01T00:00:00Z", 1.4)
    return make_page(synthetic_record(), [earlier], title="a title")


class Reader(HTMLParser):
    """Every tag with its attributes, the cells of every table, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[list[str]] = []
        self.text = ""
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th"):
            self.lines[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.lines[-1][-1] += data


# Words and tables


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0123, "0.012"), (0.7, "0.70"), (3.44, "3.4"), (9.96, "10"), (10.4, "10"),
        (999.4, "999"), (1234.5, "1,234"), (99999, "99,999"), (2.5e6, "2.5e+06"), (None, "-"),
    ],
)  # fmt: skip
def test_figures(value, shown):
    assert figure(value) == shown


def test_sizes_of_caches():
    assert list(map(binary_size, (8192, 1 << 20, 3 << 29))) == ["8 KiB", "1 MiB", "1.5 GiB"]


def test_cases_in_words():
    row = case_rows("LSTM", 96, 4, 100, input_size=40, name="VAD")[0]
    assert in_words(row) == "VAD: LSTM I=40 H=96, B=4, T=100"
    row |= {"name": None, "num_layers": 2, "proj_size": 8, "bidirectional": True, "steps": 1}
    assert in_words(row) == "LSTM I=40 H=96 2 layers P=8, both directions, B=4"


def test_the_first_of_our_rows_counts_and_int8_is_no_match():
    layers = (("simd", "avx512", 1), ("blas", None, 1))
    of = by_case(case_rows("LSTM", 512, 1, 1, layers=layers))["LSTM I=512 H=512 B=1 T=1"]
    assert of["fastrnn"]["engine"] == "simd"
    assert of["torch int8"]["us_per_step"] < of["fastrnn"]["us_per_step"]
    assert fastest_other(of)["runner"] == "onnxruntime"
    del of["onnxruntime"], of["openvino"], of["torch"], of["torch cell"]
    assert fastest_other(of) is None


def test_the_wide_table_is_the_record():
    rows = case_rows("LSTM", 128, 1, 1) + case_rows("GRU", 128, 1, 100, runners=("torch",))
    header, lines = wide_table(rows)
    assert header == ["case", "fastrnn", "ONNX Runtime", "OpenVINO", "torch cell", "torch module",
                      "torch int8", "fastest other", "of the limit"]  # fmt: skip
    us = {row["runner"]: figure(row["us_per_step"]) for row in rows[:6]}
    names = ("fastrnn", "onnxruntime", "openvino", "torch cell", "torch", "torch int8")
    assert lines[0][1:7] == [us[name] for name in names]
    assert lines[0][7:] == [f"{rows[4]['ratio']:.2f}x", f"{rows[0]['limit_fraction']:.0%}"]
    assert lines[1][2:5] == ["-", "-", "-"]


def test_limits_of_several_isas():
    header, lines = limits_table(synthetic_record()["limits"])
    assert header == ["", "avx512", "avx2"]
    assert lines[0] == ["multiply-adds", "100 GFLOP/s", "50 GFLOP/s"]
    assert lines[-1] == ["reads of 256 MiB", "20 GB/s", "10 GB/s"]


# The page


def test_every_row_of_the_record_is_on_the_page(page):
    lines = {tuple(line) for line in Reader(page).lines}
    for row in synthetic_record()["cases"]:
        assert any(
            line[0] == in_words(row) and row["how"] in line and figure(row["us_per_step"]) in line
            for line in lines
            if len(line) == 11
        )


def test_every_section_is_on_the_page(page):
    reader = Reader(page)
    for words in ("a title", CPU, "Published models", "DeepBench", "Over versions", "Latency"):
        assert words in reader.text
    lines = reader.lines
    assert ["LSTM H=128", "flat out", "55,404", "3.4", "7.1", "12", "101", "577"] in lines
    assert ["LSTM I=128 H=128 B=1 T=1", "avx2", "12,345"] in lines
    assert ["LSTM I=512 H=512 B=1 T=1", "2", "1.80x"] in lines
    assert ["torch module", "1,000", "150", "700"] in lines
    assert ["torch", "0.0.1"] in lines


def test_the_page_loads_nothing(page):
    reader = Reader(page)
    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in loading & attributes.keys():
            assert attributes[name].startswith("data:image/svg+xml;base64,")
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = (a["content"] for _, a in reader.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_pictures_are_whole_and_load_nothing(page):
    from xml.etree import ElementTree

    pictures = [attributes for tag, attributes in Reader(page).tags if tag == "img"]
    assert len(pictures) > 6
    for attributes in pictures:
        assert attributes["alt"]
        root = ElementTree.fromstring(base64.b64decode(attributes["src"].partition(",")[2]))
        assert root.tag.endswith("svg")
        for element in root.iter():
            for name, value in element.attrib.items():
                if name.rpartition("}")[2] == "href":
                    assert value.startswith(("#", "data:"))


def test_names_in_a_record_stay_text(report):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from fastrnn.plots.page import make_page

    record = synthetic_record()
    record["machine"]["cpu"] = record["machine"]["isa"]["chosen"] = HOSTILE
    record["versions"] = {HOSTILE: HOSTILE}
    record["commit"] = record["date"] = HOSTILE
    record["costs"] = {HOSTILE: {HOSTILE: 1.0}}
    record["limits"] = {HOSTILE: record["limits"]["avx512"]}
    for row in record["cases"]:
        row |= {"name": HOSTILE, "how": HOSTILE, "isa": HOSTILE}
        row["group"] = HOSTILE if row["steps"] > 1 else row["group"]
        row["runner"] = HOSTILE if row["runner"] == "openvino" else row["runner"]
    for row in record["pool"]:
        row |= {"name": HOSTILE, "way": HOSTILE + row["way"]}
    html = make_page(record, title=HOSTILE)
    assert "<script" not in html
    assert "<script>alert(1)</script>" in Reader(html).text
    before = Reader(make_page(synthetic_record()))
    assert {tag for tag, _ in Reader(html).tags} == {tag for tag, _ in before.tags}
    section = report.make_section(record, "bench/results")
    assert not re.search(r"(?<!\\)<script|(?<!\\)\]\(http|(?<!\\)`c", section)
    assert "\n# d" not in section
    tables = [part.splitlines() for part in section.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_a_page_of_a_record_with_nothing_in_it():
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from fastrnn.plots.page import make_page

    record = {k: v for k, v in synthetic_record().items() if k not in ("limits", "cases")}
    for name in ("latency", "instructions", "costs", "threads"):
        del record[name]
    html = make_page(record)
    assert CPU in html
    assert "<img" not in html


# The figures


def test_curves_are_the_rows():
    pytest.importorskip("matplotlib")
    from fastrnn.plots import charts

    rows = [row for batch in (1, 4, 16) for row in case_rows("LSTM", 128, batch, 1)]
    (axes,) = charts.time_by_batch(rows).axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for runner, name in (("fastrnn", "fastrnn"), ("torch", "torch module")):
        want = [[r["batch"], r["us_per_step"]] for r in rows if r["runner"] == runner]
        assert curves[name] == want
    limit = [[r["batch"], r["limit_us"]] for r in rows if r["runner"] == "fastrnn"]
    assert curves["this machine's limit"] == limit
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "µs per step, CPU time"


WAYS = (("simd", "avx512", 1), ("simd", "avx2", 1), ("blas", "-", 1), ("simd", "avx512", 2))


def test_ways_are_told_apart_by_colour_and_mark_and_threads_are_in_wall_time():
    pytest.importorskip("matplotlib")
    from fastrnn.plots import charts

    rows = [row for batch in (1, 4) for row in case_rows("LSTM", 128, batch, 1, layers=WAYS)]
    (axes,) = charts.ways_by_batch(rows).axes
    names = [line.get_label() for line in axes.lines]
    assert names == ["simd avx512", "simd avx2", "blas -"]
    for look in ("color", "marker", "linestyle"):
        assert len({str(getattr(line, f"get_{look}")()) for line in axes.lines}) == len(names)
    (axes,) = charts.threads_by_batch(rows).axes
    assert [line.get_label() for line in axes.lines] == ["1 thread", "2 threads"]
    assert axes.get_ylabel() == "µs per step, wall time"
    walls = [r["us_per_step_wall"] for r in rows if r["how"] == "simd avx512 threads=2"]
    assert axes.lines[1].get_ydata().tolist() == walls
    assert charts.threads_by_batch(case_rows("LSTM", 128, 1, 1)) is None


def test_points_of_the_roofline_have_names():
    pytest.importorskip("matplotlib")
    from fastrnn.plots.roofline import roofline

    record = synthetic_record()
    (axes,) = roofline(record).axes
    places = {text.get_text(): text.xyann[1] for text in axes.texts if "B=" in text.get_text()}
    names = {f"{cell} H={size}, B=1, 16, 64" for cell in ("LSTM", "GRU") for size in (32, 128, 512)}
    assert places.keys() == names | {"Made-up VAD: LSTM I=40 H=96, B=1"}
    heights = sorted(places.values())
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.04


def test_the_roofline_has_a_roof_of_integers():
    pytest.importorskip("matplotlib")
    from fastrnn.plots.roofline import roofline

    record = synthetic_record()
    (isa,) = {record["machine"]["isa"]["chosen"]}
    record["limits"][isa]["int8_gops"] = 321.0
    rows = [case_rows("LSTM", 512, batch, 1, runners=())[0] for batch in (1, 16)]
    record["compact"] = [
        {**row, "isa": isa, "weight_dtype": name} for row in rows for name in ("int8", "int16")
    ]
    (axes,) = roofline(record).axes
    assert [text.get_text() for text in axes.texts if text.get_text().startswith("321")] == [
        "321: the same of int8 and int16 weights"
    ]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"int8 weights", "int16 weights"} <= set(labels)


@pytest.mark.parametrize(
    ("us", "batch", "said"),
    [
        (19.0, 16, "One core carries 8,400 streams at 100 frames a second, stepped 16 at a time: "
         "a stream takes 1.2 µs a frame."),
        (9000.0, 1, "One core carries 1 stream at 100 frames a second, stepped one by one: "
         "a stream takes 9,000 µs a frame."),
        (12345.0, 1, "One core does not carry a stream at 100 frames a second: a frame takes "
         "12 ms."),
    ],
)  # fmt: skip
def test_what_one_core_carries(us, batch, said):
    row = case_rows("LSTM", 128, batch, 1, runners=())[0] | {"us_per_step": us}
    worse = case_rows("LSTM", 128, 2, 1, runners=())[0] | {"us_per_step": 1e6}
    assert carried([row, worse]) == said
    assert carried(case_rows("LSTM", 128, 1, 100)) == ""


def test_the_fraction_of_the_limit_is_of_what_it_limits():
    pytest.importorskip("matplotlib")
    from fastrnn.plots import charts

    layers = (("simd", "avx512", 1), ("simd", "avx512", 2))
    rows = [r for batch in (1, 4) for r in case_rows("LSTM", 128, batch, 1, layers=layers)]
    (axes,) = charts.fraction_of_limit(rows).axes
    names = {line.get_label() for line in axes.lines if not line.get_label().startswith("_")}
    assert names == {"fastrnn", "ONNX Runtime", "OpenVINO", "torch cell", "torch module"}


def test_records_that_have_nothing_to_draw():
    pytest.importorskip("matplotlib")
    from fastrnn.plots import charts
    from fastrnn.plots.latency import latency_histograms
    from fastrnn.plots.roofline import roofline

    alone = case_rows("LSTM", 128, 1, 1, runners=())
    for draw in (charts.time_by_batch, charts.time_by_size, charts.fraction_of_limit,
                 charts.peers_side_by_side, latency_histograms):  # fmt: skip
        assert draw([]) is None
    assert charts.time_by_batch(alone) is None
    assert charts.peers_side_by_side(alone) is None
    assert charts.history([synthetic_record()]) is None
    record = synthetic_record()
    del record["limits"]
    assert roofline(record) is None


def test_history_is_in_the_order_of_dates():
    pytest.importorskip("matplotlib")
    from fastrnn.plots import charts

    new, old = synthetic_record("2", "2002-01-01T00:00:00Z"), synthetic_record(slower=2.0)
    (axes,) = charts.history([new, old]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "0.0.1\n2001-02-03",
        "2\n2002-01-01",
    ]
    for line in axes.lines:
        before, after = line.get_ydata()
        assert before == pytest.approx(2 * after)


# README


@pytest.fixture
def checkout(tmp_path: Path, report: ModuleType) -> list[str]:
    """Arguments for a README with markers, and a record."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    results = tmp_path / "bench" / "results"
    write_record(synthetic_record(), results / "0.0.1-synthetic.json")
    return ["--readme", str(readme), "--results", str(results)]


def test_the_section_is_written_and_checked(report, checkout, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert report.main([*checkout, "--check"]) == 1
    assert "-old" in capsys.readouterr().err
    assert report.main(checkout) == 0
    capsys.readouterr()
    assert report.main([*checkout, "--check"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "old" not in text
    for name in re.findall(r"\]\((bench/results/[^)]+)\)", text):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    first = {p.name: p.read_bytes() for p in (tmp_path / "bench" / "results").iterdir()}
    assert report.main(checkout) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "bench" / "results").iterdir()} == first


def test_instructions_are_on_the_page(report, checkout, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    results = tmp_path / "bench" / "results"
    counts = {"id": "GRU I=1 H=1 B=1 T=1", "isa": "avx2", "per_step": 54321.0}
    table = {"compilers": {"gcc 0": {"flags": "", "per_step": [counts]}}}
    (results / "instructions.json").write_text(json.dumps(table))
    assert report.main(checkout) == 0
    lines = Reader((results / report.PAGE).read_text("utf-8")).lines
    assert ["GRU I=1 H=1 B=1 T=1", "avx2, gcc 0", "54,321"] in lines


def test_a_figure_that_changes_fails_the_check(report, checkout, tmp_path, capsys):
    readme, (path,) = tmp_path / "README.md", (tmp_path / "bench" / "results").iterdir()
    record = json.loads(path.read_text())
    section = report.make_section(record, "bench/results")
    readme.write_text(report.replace_section(readme.read_text(), section))
    assert report.main([*checkout, "--check"]) == 0
    changed = copy.deepcopy(record)
    for row in changed["cases"]:
        if (row["id"], row["runner"]) == ("LSTM I=128 H=128 B=1 T=1", "fastrnn"):
            row["us_per_step"] *= 1.5
    path.write_text(json.dumps(changed))
    assert report.main([*checkout, "--check"]) == 1
    assert "+| LSTM H=128, B=1 |" in capsys.readouterr().err


def test_the_newest_record_is_reported(report, checkout, tmp_path):
    results = tmp_path / "bench" / "results"
    write_record(
        synthetic_record("0.0.2", "2003-01-01T00:00:00Z"), results / "0.0.2-synthetic.json"
    )
    shutil.copy(results / "0.0.1-synthetic.json", results / "9-another.json")
    (results / "instructions.json").write_text("{}")  # not a record
    *_, newest = report.read_records(results)
    assert newest["fastrnn"] == "0.0.2"
    assert "2003-01-01" in report.make_section(newest, "bench/results")


def of_isa(isa, date, cpu=CPU):
    record = synthetic_record("0.0.1", date)
    record["machine"] = {**record["machine"], "cpu": cpu, "isa": {"chosen": isa}}
    return record


def test_the_newest_of_every_instruction_set_of_the_cpu_is_told(report, checkout, tmp_path):
    records = [
        of_isa("avx2", "2001-01-01T00:00:00Z"),
        of_isa("avx2", "2001-01-02T00:00:00Z"),
        of_isa("generic", "2001-01-05T00:00:00Z", "another CPU"),
        of_isa("avx512", "2001-01-04T00:00:00Z"),
        of_isa("avx512", "2001-01-06T00:00:00Z"),
    ]
    found = [(r["machine"]["isa"]["chosen"], r["date"][9]) for r in newest_by_isa(records)]
    assert found == [("avx512", "6"), ("avx2", "2")]
    assert newest_by_isa([]) == []
    part = {**of_isa("avx2", "2001-01-09T00:00:00Z"), "pool": []}
    assert [r["date"][9] for r in newest_by_isa([*records[:2], part])] == ["2"]
    assert [r["date"][9] for r in newest_by_isa([records[3], part])] == ["4", "9"]
    results = tmp_path / "bench" / "results"
    for i, record in enumerate(records):
        write_record(record, results / f"0.0.1-{i}.json")
    (results / "0.0.1-synthetic.json").unlink()
    newest, other = (read_record(results / f"0.0.1-{i}.json") for i in (4, 1))
    section = report.make_section(newest, "bench/results", [other])
    assert section.count("| LSTM H=128, B=1 |") == 2
    assert "With `FASTRNN_ISA=avx2`, 2001-01-02; the other runtimes" in " ".join(section.split())
    readme = tmp_path / "README.md"
    readme.write_text(report.replace_section(readme.read_text(), section))
    assert report.main([*checkout, "--check"]) == 0


def test_deepbench_counts_the_products_of_the_state():
    rows = case_rows("LSTM", 96, 2, 25, input_size=32, group="deepbench", runners=("openvino",))
    header, (line,) = deepbench_table(rows)
    assert len(header) == len(line)
    ours, other = rows[0]["gflops"], rows[-1]["gflops"]
    assert line[1:] == [
        *map(figure, (0.75 * ours, ours, 0.75 * other, other)),
        "OpenVINO",
    ]
    (alone,) = deepbench_table(rows[:1])[1]
    assert alone[3:] == ["-", "-", "-"]


def test_the_section_has_the_pool(report):
    section = report.make_section(synthetic_record(), "bench/results")
    assert "| streams of | pool, all ready | torch, batched |" in section
    assert "| LSTM I=96 H=80 | **2.5** | 4.5 |" in section
    assert "| Made-up VAD: LSTM I=96 H=80 | **2.5** | 4.5 |" in section
    assert "One core carries 12,300 streams of the LSTM of Made-up VAD in real time" in section
    without = {**synthetic_record(), "pool": []}
    assert "streams" not in report.make_section(without, "bench/results").split("How")[0]


def test_the_section_says_what_the_record_does(report):
    record = synthetic_record()
    section = report.make_section(record, "bench/results")
    for words in (
        CPU,
        "2001-02-03",
        "fastrnn 0.0.1 at 0000000",
        "torch 0.0.1",
        "onnxruntime 0.0.2",
    ):
        assert words in section
    grid = [row for row in record["cases"] if row["group"] == "grid" and row["steps"] == 1]
    (row,) = [r for r in grid if r["id"] == "LSTM I=128 H=128 B=1 T=1" and r["runner"] == "fastrnn"]
    assert f"| LSTM H=128, B=1 | **{figure(row['us_per_step'])}** |" in section
    assert "| Made-up VAD: LSTM I=40 H=96, B=1 |" in section
    ratios = [of["onnxruntime"]["ratio"] for of in by_case(grid).values()]
    product = 1.0
    for ratio in ratios:
        product *= ratio
    words = " ".join(section.split())
    assert f"takes {product ** (1 / 18):.2f} times as long in the geometric mean of 18" in words
    assert f"at least {min(ratios):.2f} times" in words


def test_a_faster_runtime_is_told(report):
    record = synthetic_record()
    for row in record["cases"]:
        if row["id"] == "GRU I=32 H=32 B=1 T=1" and row["runner"] == "openvino":
            row["us_per_step"], row["ratio"] = 0.1, 0.2
    words = " ".join(report.make_section(record, "bench/results").split())
    assert "at least 0.20 times (GRU H=32, B=1); it is the faster one in 1." in words


@pytest.mark.parametrize("text", ["", "{begin}", "{end} {begin}", "{begin} {begin} {end}"])
def test_a_readme_without_its_markers_is_refused(report, text):
    with pytest.raises(SystemExit, match="expected <!-- performance"):
        report.replace_section(text.format(begin=report.BEGIN, end=report.END), "")


def test_no_record_is_told(report, tmp_path):
    with pytest.raises(SystemExit, match="no record"):
        report.read_records(tmp_path)
