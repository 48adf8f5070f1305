"""`fastrnn trace`: its figures against the trace, its pictures, and what it refuses."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from cli_files import block_imports, stack_weights

import fastrnn
from fastrnn.cli import main
from fastrnn.cli.trace_input import read_sequence
from fastrnn.formats import npy, write
from fastrnn.layers.retention import half_lives, unit_order
from fastrnn.layers.weights import StackConfig

PNG = b"\x89PNG\r\n\x1a\n"
CONFIGS = [
    StackConfig("LSTM", 3, 5, num_layers=2, bidirectional=True),
    StackConfig("LSTM", 3, 5, proj_size=2),
    StackConfig("GRU", 3, 5),
    StackConfig("RNN", 3, 5, num_layers=2),
]


@pytest.fixture
def make(tmp_path: Path, rng: np.random.Generator):
    """Write a model and an x of a shape; return their paths and x."""

    def write_both(config: StackConfig, *shape: int) -> tuple[str, str, np.ndarray]:
        model, inputs = tmp_path / "model.npz", tmp_path / "x.npy"
        write(model, stack_weights("encoder.rnn", config))
        x = rng.standard_normal(shape).astype(np.float32)
        np.save(inputs, x)
        return str(model), str(inputs), x

    return write_both


def as_json(capsys, *argv: str):
    assert main(["trace", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


# Half-lives and orders


def test_the_half_life_of_a_constant_gate_halves_a_state():
    gate = np.array([0.25, 0.5, 0.9, 0.999])
    steps = half_lives(np.tile(gate, (7, 1)))
    np.testing.assert_allclose(gate**steps, 0.5)


def test_half_lives_use_what_a_product_over_time_leaves():
    gate = np.array([[0.9], [0.1], [0.7]])
    (steps,) = half_lives(gate)
    assert np.prod(gate) ** (steps / 3) == pytest.approx(0.5)


def test_half_lives_of_gates_that_are_shut_once_or_always_open():
    gate = np.array([[1, 0.5], [1, 0]], np.float32)
    assert half_lives(gate).tolist() == [math.inf, 0]


def test_unit_orders():
    gate = np.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5]])
    assert unit_order(gate, "retention").tolist() == [1, 2, 0]
    assert unit_order(gate, "index").tolist() == [0, 1, 2]
    state = np.array([[0.1, 0.2, -3], [-0.5, 0, 0], [0.4, 1, 0]])
    assert unit_order(state, "peak").tolist() == [2, 0, 1]


# The figures


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_figures_are_those_of_the_layers_trace(config, make, capsys):
    model, inputs, x = make(config, 7, 3)
    report = as_json(capsys, model, "--input", inputs)
    traced = fastrnn.load(model).trace(x)
    places = [
        (layer, d)
        for layer in range(config.num_layers)
        for d in (("forward", "reverse") if config.bidirectional else ("forward",))
    ]
    assert [(part["layer"], part["direction"]) for part in report["parts"]] == places
    assert (report["steps"], report["first_step"], report["end_step"]) == (7, 0, 7)
    for part in report["parts"]:
        at = (part["layer"], int(part["direction"] == "reverse"))
        signed = {"cell", "candidate"}
        assert {*part["gates"], *part["states"]} == traced.keys() - signed
        for name, gate in part["gates"].items():
            assert gate["mean"] == pytest.approx(traced[name][at].mean(), rel=1e-6)
            assert gate["shut"] == np.mean(traced[name][at] < 0.1)
            assert gate["open"] == np.mean(traced[name][at] > 0.9)
        for name, state in part["states"].items():
            norm = np.sqrt((traced[name][at].astype(float) ** 2).sum(1))
            assert state["norm_mean"] == pytest.approx(norm.mean())
            assert state["norm_max"] == pytest.approx(norm.max())
            assert state["largest"] == pytest.approx(np.abs(traced[name][at]).max())
        if config.cell == "RNN":
            assert "half_life_steps" not in part
        else:
            gate = traced["forget" if config.cell == "LSTM" else "update"][at]
            np.testing.assert_allclose(part["half_life_steps"], half_lives(gate))


def test_what_is_said(make, capsys):
    model, inputs, x = make(StackConfig("LSTM", 3, 5), 7, 3)
    assert main(["trace", model, "--input", inputs]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    traced = fastrnn.load(model).trace(x)
    forget = traced["forget"][0, 0]
    assert "layer 0, forward" in out
    assert f"forget gate  mean {forget.mean():.2f}" in out
    longest = half_lives(forget)
    assert f"longest: unit {longest.argmax()} ({longest.max():.2g})" in out


def test_a_unit_that_never_forgets_is_told(make, tmp_path, capsys):
    _, inputs, _ = make(StackConfig("LSTM", 3, 2), 7, 3)
    weights = stack_weights("", StackConfig("LSTM", 3, 2))
    weights["bias_ih_l0"][2] = 100  # unit 0's forget gate
    write(tmp_path / "open.npz", weights)
    report = as_json(capsys, str(tmp_path / "open.npz"), "--input", inputs)
    assert report["parts"][0]["half_life_steps"][0] is None
    assert main(["trace", str(tmp_path / "open.npz"), "--input", inputs]) == 0
    out = capsys.readouterr().out
    assert "longest: unit 0 (endless)" in out
    assert "longer than the 7 steps shown: 1 unit" in out


def test_rows_lengths_and_layouts_pick_one_sequence(make, tmp_path, capsys):
    model, inputs, x = make(StackConfig("GRU", 3, 5, bidirectional=True), 7, 2, 3)
    alone = tmp_path / "alone.npy"
    np.save(alone, x[:5, 1])
    want = as_json(capsys, model, "--input", str(alone))["parts"]
    options = ["--row", "1", "--lengths", "7,5"]
    assert as_json(capsys, model, "--input", inputs, *options)["parts"] == want
    np.save(inputs, x.swapaxes(0, 1))
    assert as_json(capsys, model, "--input", inputs, *options, "--batch-first")["parts"] == want


def test_steps_and_layer_choose_what_is_shown_and_not_what_is_run(make, capsys):
    model, inputs, x = make(StackConfig("GRU", 3, 5, num_layers=2), 7, 1, 3)
    report = as_json(capsys, model, "--input", inputs, "--steps", "4:6", "--layer", "1")
    (part,) = report["parts"]
    assert part["layer"] == 1
    gate = fastrnn.load(model).trace(x)["update"][1, 0, 4:6, 0]
    np.testing.assert_allclose(part["half_life_steps"], half_lives(gate))


def test_what_tensors_do_not_say(make, capsys):
    model, inputs, x = make(StackConfig("RNN", 3, 5), 7, 3)
    (part,) = as_json(capsys, model, "--input", inputs, "--nonlinearity", "relu")["parts"]
    h = fastrnn.load(model, nonlinearity="relu").trace(x)["h"]
    assert part["states"]["h"]["largest"] == pytest.approx(h.max())
    model, inputs, x = make(StackConfig("GRU", 3, 5), 7, 3)
    (part,) = as_json(capsys, model, "--input", inputs, "--reset-before")["parts"]
    update = fastrnn.load(model, reset_after=False).trace(x)["update"]
    np.testing.assert_allclose(part["half_life_steps"], half_lives(update[0, 0]))


def test_one_of_several_stacks(make, tmp_path, capsys):
    _, inputs, _ = make(StackConfig("GRU", 3, 5), 7, 3)
    model = str(tmp_path / "two.npz")
    both = stack_weights("a", StackConfig("LSTM", 3, 5)) | stack_weights(
        "b", StackConfig("GRU", 3, 5)
    )
    write(model, both)
    assert as_json(capsys, model, "--input", inputs, "--stack", "b")["cell"] == "GRU"
    assert main(["trace", model, "--input", inputs]) == 1
    assert "2 recurrent stacks" in capsys.readouterr().err


# The pictures


@pytest.mark.parametrize("sort", ["retention", "peak", "index"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_picture_of_every_cell(config, sort, make, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    model, inputs, _ = make(config, 7, 3)
    labels = tmp_path / "labels.txt"
    labels.write_text("a $b$\n\tё")
    options = ["--png", str(tmp_path / "a.png"), "--sort", sort, "--labels", str(labels)]
    assert main(["trace", model, "--input", inputs, *options]) == 0
    assert "a.png: heat maps" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_maps_show_the_trace_in_one_order_of_units(rng):
    pytest.importorskip("matplotlib")
    from fastrnn.plots.gates import draw_trace

    weights = stack_weights("", StackConfig("LSTM", 3, 5, num_layers=2))
    traced = fastrnn.LSTM.from_state_dict(weights).trace(rng.standard_normal((7, 3)))
    figure = draw_trace(traced, "LSTM", title="", first_step=10)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    names = ["input", "forget", "cell", "output", "c", "h"]
    assert len(images) == 2 * len(names)
    for layer in range(2):
        order = unit_order(traced["forget"][layer, 0], "retention")
        for name, image in zip(names, images[layer * 6 :], strict=False):
            np.testing.assert_array_equal(image.get_array(), traced[name][layer, 0][:, order].T)
            assert image.get_extent() == [9.5, 16.5, 5, 0]
            low, high = image.get_clim()
            assert (low, high) == (0, 1) if name not in ("cell", "c", "h") else low == -high


@pytest.mark.parametrize("steps", [7, 53, 1000])
@pytest.mark.parametrize("units", [1, 40, 96, 208, 256, 512])
def test_every_unit_has_pixels_of_its_own(units, steps, rng):
    """Read back from the file: each value's colour fills its whole pixels, and touches no other's."""
    pytest.importorskip("matplotlib")
    from matplotlib import colormaps
    from matplotlib.image import imread

    from fastrnn.plots.gates import draw_trace
    from fastrnn.plots.style import png

    gate = (rng.random((1, 1, steps, units)) < 0.1).astype(np.float32)  # open alone, or shut
    state = rng.uniform(-1, 1, (1, 1, steps, units))
    figure = draw_trace({"update": gate, "h": state}, "GRU", title="", sort="index")
    pixels = np.rint(255 * imread(io.BytesIO(png(figure)))).astype(np.uint8)
    maps = [axes for axes in figure.axes if axes.images]
    for axes, values, colours in zip(maps, (gate, state), ("viridis", "RdBu_r"), strict=True):
        x0, y0, x1, y1 = axes.get_window_extent().extents
        drawn = pixels[round(len(pixels) - y1) : round(len(pixels) - y0), round(x0) : round(x1)]
        high, wide = drawn.shape[0] // units, drawn.shape[1] // steps
        assert drawn.shape[:2] == (high * units, wide * steps)
        low = 0.0 if colours == "viridis" else -np.abs(values).max()
        shares = (values[0, 0].T.astype(np.float64) - low) / (np.abs(values).max() - low)
        expected = colormaps[colours](shares, bytes=True).repeat(high, 0).repeat(wide, 1)
        assert np.abs(drawn.astype(int) - expected).max() <= (1 if colours == "viridis" else 5)
        assert axes.get_ylabel() == "unit"


def test_of_more_units_than_pixels_the_farthest_from_0_is_shown():
    pytest.importorskip("matplotlib")
    from fastrnn.plots.gates import draw_trace
    from fastrnn.plots.pixels import MOST, extremes

    values = np.zeros((5000, 9000), np.float32)
    values[4999, 8999], values[17, 42] = -0.5, 0.25
    small = extremes(values, 3, 4)
    assert small.shape == (1667, 2250)
    assert (small[1666, 2249], small[5, 10], np.count_nonzero(small)) == (-0.5, 0.25, 2)
    traced = dict.fromkeys(("reset", "update", "candidate", "h"), values[None, None])
    figure = draw_trace(traced, "GRU", title="", sort="index")
    assert figure.get_figheight() * figure.dpi <= MOST + 1
    said = [text.get_text() for text in figure.texts]
    assert "state h: of each 2 units by 3 steps the value farthest from 0" in said


def test_tall_pictures_say_the_time_more_than_once(rng):
    pytest.importorskip("matplotlib")
    from fastrnn.plots.gates import draw_trace

    for units, times in ((8, 2), (512, 4)):
        traced = {name: rng.random((2, 1, 9, units)) for name in ("reset", "update", "h")}
        figure = draw_trace(traced, "GRU", title="")
        assert [axes.get_xlabel() for axes in figure.axes].count("time step") == times


def test_a_part_of_the_gates(rng):
    pytest.importorskip("matplotlib")
    from fastrnn.plots.gates import draw_trace

    weights = stack_weights("", StackConfig("LSTM", 3, 5))
    traced = fastrnn.LSTM.from_state_dict(weights).trace(rng.standard_normal((7, 3)))
    figure = draw_trace(traced, "LSTM", title="", show=["c", "forget"], sort="index")
    first, second = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(first, traced["forget"][0, 0].T)
    np.testing.assert_array_equal(second, traced["c"][0, 0].T)


def test_the_same_picture_has_the_same_bytes(make, tmp_path):
    pytest.importorskip("matplotlib")
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 7, 3)
    for name in ("a.png", "b.png"):
        assert main(["trace", model, "--input", inputs, "--png", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_the_extra_figures_are_said_and_a_picture_is_refused(
    make, tmp_path, monkeypatch, capsys
):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 7, 3)
    block_imports(monkeypatch, "matplotlib")
    assert main(["trace", model, "--input", inputs]) == 0
    assert "half-life" in capsys.readouterr().out
    picture = tmp_path / "a.png"
    assert main(["trace", model, "--input", inputs, "--png", str(picture)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "fastrnn: error: --png needs matplotlib: pip install 'fastrnn[plots]'\n",
    )
    assert not picture.exists()


# What is refused


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3), "x.npy: 1 dimensions, expected (T, B, I) or (T, I) (shape (3,))"),
        (np.zeros((4, 2)), "x.npy: 2 features, expected input_size=3 (shape (4, 2))"),
        (np.zeros((0, 3)), "x.npy: no time steps, expected at least 1 (shape (0, 3))"),
        (np.full((4, 3), np.nan), "x.npy: holds NaN or infinite values, expected finite ones"),
        (np.full((4, 3), 1e300), "x.npy: holds NaN or infinite values, expected finite ones"),
        (np.full((4, 3), "a"), "x.npy: is not an array of numbers"),
        (np.full((4, 3), 1j), "x.npy: dtype complex128, expected real numbers"),
        (np.full((4, 3), True), "x.npy: dtype bool, expected real numbers"),
        (np.full((4, 3), None), "x.npy: is not an array of numbers"),
    ],
    ids=["1d", "features", "empty", "nan", "overflow", "text", "complex", "bool", "objects"],
)
def test_an_x_that_does_not_fit_is_1_in_one_line(array, said, make, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 4, 3)
    np.save(inputs, array, allow_pickle=True)
    assert main(["trace", model, "--input", inputs]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"hello",
        lambda data: data.replace(b"(4, 3)", b"(9999999999, 3)"),
        lambda data: data.replace(b"'descr'", b"'descR'"),
        lambda data: data.replace(b"<f4", b"|O8"),
        lambda data: data.replace(b"}", b" "),
        lambda data: data.replace(b"(4, 3), }" + b" " * 30, (b"(%d, 3), }" % 10**25).ljust(39)),
        lambda data: data.replace(
            b"(4, 3), }" + b" " * 30, b"(4294967296,4294967296,3), }".ljust(39)
        ),
        lambda data: data.replace(b"(4, 3)", b"(True,3)"),
        lambda data: data.replace(b"(4, 3), }    ", b"(4, 3), 1: 2}"),
    ],
)
def test_a_damaged_x_is_1_in_one_line(damage, make, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 4, 3)
    path = Path(inputs)
    path.write_bytes(damage(path.read_bytes()))
    assert main(["trace", model, "--input", inputs]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn: error: {inputs}: ")
    assert err.count("\n") == 1


def test_an_archive_of_arrays_is_refused(make, tmp_path, capsys):
    model, _, x = make(StackConfig("GRU", 3, 5), 4, 3)
    np.savez(tmp_path / "x.npz", x=x)
    assert main(["trace", model, "--input", str(tmp_path / "x.npz")]) == 1
    assert "an .npz archive, expected the .npy of one array" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "2 rows, say which with --row"),
        (["--row", "2"], "--row 2: expected 0 to 1"),
        (["--row", "-1"], "--row -1: expected 0 to 1"),
        (["--row", "0", "--lengths", "3"], "--lengths: expected 2 numbers from 1 to 4"),
        (["--row", "0", "--lengths", "3,5"], "--lengths: expected 2 numbers from 1 to 4"),
        (["--row", "0", "--lengths", "a"], "argument --lengths: invalid"),
        (["--row", "0", "--steps", "2:2"], "--steps 2:2: expected a part of 0:4"),
        (["--row", "0", "--steps", "0:5"], "--steps 0:5: expected a part of 0:4"),
        (["--row", "0", "--steps", "3"], "argument --steps: '3', expected A:B"),
        (["--row", "0", "--layer", "1"], "--layer 1: expected 0 to 0"),
        (["--row", "0", "--show", "update,c"], "--show c: expected some of reset, update, cand"),
        (["--row", "0", "--nonlinearity", "relu"], "--nonlinearity is for an RNN"),
        (["--row", "0", "--png", "model.npz"], "'model.npz', expected it to end in .png"),
    ],
)
def test_wrong_usage_is_2_and_names_the_fault(options, said, make, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 4, 2, 3)
    assert main(["trace", model, "--input", inputs, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_labels_that_do_not_fit_are_refused(make, tmp_path, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 4, 3)
    labels = tmp_path / "labels.txt"
    for content, said in ((b"abc", "3 characters, expected one for each of 4 steps"),
                          (b"\xff\xff\xff\xff", "not UTF-8 text")):  # fmt: skip
        labels.write_bytes(content)
        assert main(["trace", model, "--input", inputs, "--labels", str(labels)]) == 1
        assert said in capsys.readouterr().err


def test_files_that_are_not_there_are_2(make, tmp_path, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 4, 3)
    missing = str(tmp_path / "no.npy")
    for argv in ([missing, "--input", inputs], [model, "--input", missing]):
        assert main(["trace", *argv]) == 2
        assert capsys.readouterr().err == f"fastrnn: error: {missing}: No such file or directory\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
def test_a_fifo_is_refused_and_not_waited_for(make, tmp_path, capsys):
    model, _, _ = make(StackConfig("GRU", 3, 5), 4, 2, 3)
    os.mkfifo(tmp_path / "pipe.npy")
    assert main(["trace", model, "--input", str(tmp_path / "pipe.npy")]) == 2
    assert "pipe.npy: not a regular file" in capsys.readouterr().err


# What is not finite


@pytest.fixture
def grows(tmp_path):
    """An RNN whose state grows out of float32 within 60 steps, as command line."""
    write(tmp_path / "m.npz", {"weight_ih_l0": np.ones((4, 2), "f4"),
                               "weight_hh_l0": np.full((4, 4), 2, "f4")})  # fmt: skip
    np.save(tmp_path / "x.npy", np.ones((60, 2), "f4"))
    return [str(tmp_path / "m.npz"), "--input", str(tmp_path / "x.npy"), "--nonlinearity", "relu"]


def test_a_state_that_grows_out_of_its_type_is_null_in_json(grows, capsys):
    (part,) = as_json(capsys, *grows)["parts"]
    assert part["states"]["h"] == {"norm_mean": None, "norm_max": None, "largest": None}
    (part,) = as_json(capsys, *grows, "--steps", "0:20")["parts"]
    assert part["states"]["h"]["largest"] > 1e12


def test_a_gate_that_is_nan_has_no_half_life_and_is_not_called_endless(tmp_path, capsys):
    weights = stack_weights("", StackConfig("LSTM", 2, 8, proj_size=2))
    weights["weight_ih_l0"][:] = 1
    weights["weight_hr_l0"][:] = 3e38  # h is infinite, and the gates of the next step inf - inf
    weights["weight_hh_l0"][:] = [1, -1]
    np.save(tmp_path / "x.npy", np.ones((4, 2), np.float32))
    write(tmp_path / "m.npz", weights)
    argv = [str(tmp_path / "m.npz"), "--input", str(tmp_path / "x.npy")]
    (part,) = as_json(capsys, *argv)["parts"]
    assert part["half_life_steps"] == [None] * 8
    assert part["nan_units"] == 8
    assert main(["trace", *argv]) == 0
    out = capsys.readouterr().out
    assert "  8 units whose forget gate is NaN, without a half-life\n" in out
    assert "endless" not in out


def test_a_picture_of_what_is_not_finite(grows, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["trace", *grows, "--png", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


# Files that change, never end, or are larger than what is wanted of them


def test_an_x_that_becomes_shorter_while_it_is_read_is_told(make, monkeypatch, capsys):
    model, inputs, _ = make(StackConfig("GRU", 3, 5), 1 << 17, 3)
    real = npy.Npy.read

    def shorten(file, view):
        os.truncate(inputs, 4096)
        return real(file, view)

    monkeypatch.setattr(npy.Npy, "read", shorten)
    assert main(["trace", model, "--input", inputs]) == 1
    assert capsys.readouterr().err == (
        f"fastrnn: error: {inputs}: the file became shorter while it was read\n"
    )


def test_nothing_is_mapped():
    """A mapped file that somebody truncates kills the process; memory without a file cannot be."""
    for path in Path(fastrnn.__file__).parent.rglob("*.py"):
        assert "mmap" not in path.read_text("utf-8").replace("mmap.mmap(-1", "").replace(
            "import mmap", ""
        ), path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("batch_first", ["", "of x", "of the layer"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "<f2"])
def test_one_row_is_read_piece_by_piece(order, batch_first, dtype, make, tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "_PIECE", 40)
    x = np.arange(7 * 4 * 3).reshape(7, 4, 3).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(x.swapaxes(0, 1) if batch_first else x, order=order))
    layer = fastrnn.GRU(3, 5, batch_first=batch_first == "of the layer")
    said = {"batch_first": batch_first == "of x"}
    arguments = {"input": str(tmp_path / "x.npy"), **said, "row": 2}
    for lengths, steps in ((None, 7), ([1, 2, 5, 7], 5)):
        found = read_sequence(argparse.Namespace(**arguments, lengths=lengths), layer)
        np.testing.assert_array_equal(found, x[:steps, 2].astype(np.float32))
        assert found.dtype == np.float32
