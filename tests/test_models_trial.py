"""What a file declares of its inputs' shapes bounds nothing that is made to try it out."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import onnx_models
import pytest
from onnx import helper
from onnx_models import value

import fastrnn

HUGE = 10**9  # floats: 4 GB, in a file of 200 bytes

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import fastrnn
model = fastrnn.load_model(sys.argv[1])
for make in (lambda: model.stream(), lambda: model.pool(2)):
    try:
        make()
    except ValueError as error:
        print(error)
with open("/proc/self/status") as status:  # ru_maxrss has the parent's, too
    print(*(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")))
"""


def relu(*shape):
    node = helper.make_node("Relu", ["x"], ["y"])
    return onnx_models.model([node], [value("x", *shape)], [value("y", *shape)])


def with_state(x, h):
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["h"], ["h_out"])]
    return onnx_models.model(
        nodes, [value("x", *x), value("h", *h)], [value("y", *x), value("h_out", *h)]
    )


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (relu("batch", "time", HUGE), "input 'x' of "),
        (relu("a", "b", "c", "d", 1 << 24), "input 'x' of "),
        (with_state(("batch", HUGE), ("batch", 4)), "input 'x' of "),
        (with_state(("batch", 4), ("batch", HUGE)), "'h' "),
        (with_state((1, 4), (1, HUGE)), "'h' "),
    ],
    ids=["input", "many axes", "beside a state", "state", "state of a batch of one"],
)
def test_a_declared_shape_is_not_allocated(tmp_path, proto, says):
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=60
    )
    *errors, mebibytes = done.stdout.splitlines() or [done.stderr]
    assert done.returncode == 0, done.stderr
    assert len(errors) == 2
    assert all(says in error and "MiB" in error for error in errors), errors
    assert int(mebibytes) < 400


def test_many_open_axes_take_no_time():
    """Each would be tried by itself, over the whole graph."""
    names = [f"x{i}" for i in range(3000)]
    nodes = [helper.make_node("Relu", [name], [f"y{name}"]) for name in names]
    proto = onnx_models.model(
        nodes,
        [value(name, "batch", f"t{name}", 2) for name in names],
        [value(f"y{name}", "batch", f"t{name}", 2) for name in names],
    )
    model = fastrnn.load_model(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"3001 axes are open, expected at most 64: .*time_axis"):
        model.stream()


def test_few_candidates_for_states_are_named():
    names = [f"x{i}" for i in range(3000)]
    proto = onnx_models.model(
        [helper.make_node("Relu", [name], [f"y{name}"]) for name in names],
        [value(name, 1, 2) for name in names],
        [value(f"y{name}", 1, 2) for name in names],
    )
    model = fastrnn.load_model(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"states= may be 'x0': 'yx0', .*, \.\.\.\)$") as caught:
        model.stream()
    assert len(str(caught.value)) < 1000


def test_what_is_said_of_time_needs_no_trial_of_each():
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(40)]
    proto = onnx_models.model(
        nodes,
        [value(f"x{i}", "batch", f"t{i}", 2) for i in range(40)],
        [value(f"y{i}", "batch", f"t{i}", 2) for i in range(40)],
    )
    stream = fastrnn.load_model(proto.SerializeToString(), time_axis=1).stream()
    x = np.ones((3, 2), np.float32)
    assert stream.run(**{f"x{i}": x for i in range(40)})["y7"].shape == (3, 2)


def chain(make, count, weight, **more):
    """Nodes after one another that all have one weight."""
    nodes, last = [], "x"
    for i in range(count):
        nodes += make(i, last, f"v{i}")
        last = f"v{i}"
    axes = more.pop("axes", ("batch", weight.shape[0]))
    return onnx_models.model(
        nodes, [value("x", *axes)], [value(last, *(None,) * len(axes))], {"w": weight, **more}
    )


def test_nodes_that_share_their_weights_share_what_is_packed():
    """A small file could name one weight ten thousand times."""
    square = np.ones((1, 4 * 16, 16), np.float32)

    def lstm(i, before, after):
        return [
            helper.make_node("LSTM", [before, "w", "r"], [f"{after}y"], hidden_size=16),
            helper.make_node("Squeeze", [f"{after}y", "one"], [after]),
        ]

    proto = chain(lstm, 300, square, r=square.copy(), one=np.array([1]), axes=("time", "batch", 16))
    model = fastrnn.load_model(proto.SerializeToString())
    assert len({id(layer) for layer in model.layers.values()}) == 1
    assert model(np.zeros((2, 3, 16), np.float32)).shape == (2, 3, 16)


def test_what_is_packed_is_bounded_by_the_file():
    weight = np.ones((512, 512), np.float32)

    def product(i, before, after):
        return [helper.make_node("Gemm", [before, "w"], [after], alpha=1 + i / 1000)]

    content = chain(product, 200, weight).SerializeToString()  # 200 MiB of a file of 1
    with pytest.raises(fastrnn.FormatError, match=r"packed .* more memory than the file's size"):
        fastrnn.load_model(content)
    assert fastrnn.load_model(chain(product, 20, weight).SerializeToString())


def test_shared_weights_are_scaled_only_as_far_as_the_file_allows():
    weight = np.full((128, 128, 3), 1e-3, np.float32)
    names = dict(zip("abmv", np.ones((4, 128), np.float32), strict=True))

    def scaled(i, before, after):
        return [
            helper.make_node("Conv", [before, "w"], [f"{after}c"], pads=[1, 1]),
            helper.make_node("BatchNormalization", [f"{after}c", *"abmv"], [after]),
        ]

    proto = chain(scaled, 300, weight, **names, axes=("batch", 128, "time"))
    model = fastrnn.load_model(proto.SerializeToString())
    x = np.zeros((1, 128, 4), np.float32)
    assert np.isfinite(model(x)).all()


def peak_of(call, *args):
    """The most bytes that a call had at a time."""
    tracemalloc.start()
    try:
        call(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("streams", [False, True], ids=["call", "stream"])
def test_what_cannot_stay_is_not_made_to_find_out(streams):
    """A chain of nodes needs two values at a time, in its first run too."""
    x = np.ones((4, 100_000), np.float32)
    names = ["x", *(f"v{i}" for i in range(400))]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]
    nodes.append(helper.make_node("Neg", ["h"], ["h_out"]))
    proto = onnx_models.model(
        nodes,
        [value("x", "batch", x.shape[1]), value("h", "batch", 4)],
        [value(names[-1], "batch", x.shape[1]), value("h_out", "batch", 4)],
    )
    model = fastrnn.load_model(proto.SerializeToString())
    run = model.stream(batch=4).step if streams else lambda x: model(x, np.zeros((4, 4)))
    assert peak_of(run, x) < 64 * x.nbytes  # 400 times with all of them
    assert peak_of(run, x) < 10 * x.nbytes


def test_large_windows_take_no_time():
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3000, 3000], pads=[1500] * 4)
    proto = onnx_models.model([node], [value("x", "batch", 1, 64, 64)], [value("y", *(None,) * 4)])
    model = fastrnn.load_model(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"MaxPool.*would take"):
        model(np.zeros((1, 1, 64, 64), np.float32))
