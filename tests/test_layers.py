"""Layers against torch, against the float64 reference, and what they promise on their own."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import reference
from conftest import ENGINES, SIZES, TOLERANCE
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
EVERY_CELL = pytest.mark.parametrize("cell", list(LAYERS))


@st.composite
def cases(draw):
    """A layer's options, an input shape and which of hx and lengths are given."""
    cell = draw(st.sampled_from(list(LAYERS)))
    hidden = draw(SIZES)
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if cell == "LSTM" and hidden > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, hidden - 1))
    if cell == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    steps = draw(st.integers(1, 12))
    batch = draw(st.none() | st.integers(0, 9))
    lengths = None
    if batch and draw(st.booleans()):
        lengths = draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
    return {
        "cell": cell,
        "sizes": (draw(SIZES), hidden),
        "options": options,
        "steps": steps,
        "batch": batch,
        "lengths": lengths,
        "state": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
    }


def make_input(case, dtype):
    """x in the layout the case asks for, and hx or None."""
    rng = np.random.default_rng(case["seed"])
    options, (input_size, hidden) = case["options"], case["sizes"]
    steps, batch = case["steps"], case["batch"]
    lead = (steps,) if batch is None else (steps, batch)
    if options["batch_first"] and batch is not None:
        lead = (batch, steps)
    x = rng.standard_normal((*lead, input_size)).astype(dtype)
    if not case["state"]:
        return x, None
    states = options["num_layers"] * (1 + options["bidirectional"])
    middle = () if batch is None else (batch,)
    h = rng.standard_normal((states, *middle, options.get("proj_size") or hidden)).astype(dtype)
    c = rng.standard_normal((states, *middle, hidden)).astype(dtype)
    return x, (h, c) if case["cell"] == "LSTM" else h


def torch_says(torch, module, case, x, hx):
    """(y, state) of torch, as arrays; ragged batches through PackedSequence."""

    def tensors(value):
        if isinstance(value, tuple):
            return tuple(map(torch.from_numpy, value))
        return None if value is None else torch.from_numpy(value)

    rnn = torch.nn.utils.rnn
    batch_first = case["options"]["batch_first"]
    x = torch.from_numpy(x)
    with torch.no_grad():
        if case["lengths"] is None:
            y, state = module(x, tensors(hx))
        else:
            packed = rnn.pack_padded_sequence(
                x, torch.tensor(case["lengths"]), batch_first, enforce_sorted=False
            )
            y, state = module(packed, tensors(hx))
            y, _ = rnn.pad_packed_sequence(y, batch_first, total_length=case["steps"])
    return y.numpy(), tuple(s.numpy() for s in state) if isinstance(state, tuple) else state.numpy()


def assert_same(ours, theirs, tolerance):
    if isinstance(theirs, tuple):
        assert isinstance(ours, tuple)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b, tolerance)
    else:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(max_examples=150)
@given(case=cases())
def test_layers_say_what_torch_says(torch, how, dtype, case):
    torch.manual_seed(case["seed"])
    module = getattr(torch.nn, case["cell"])(*case["sizes"], **case["options"])
    module = module.to(getattr(torch, dtype)).eval()
    extra = {k: v for k, v in case["options"].items() if k in ("batch_first", "nonlinearity")}
    layer = LAYERS[case["cell"]].from_state_dict(module.state_dict(), **how, **extra)
    x, hx = make_input(case, dtype)
    y, state = layer(x, hx, case["lengths"])
    expected, expected_state = torch_says(torch, module, case, x, hx)
    assert_same(y, expected, TOLERANCE[dtype])
    assert_same(state, expected_state, TOLERANCE[dtype])


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@settings(max_examples=100)
@given(case=cases(), reset_after=st.booleans())
def test_layers_say_what_the_formulas_say(how, dtype, case, reset_after):
    options = {k: v for k, v in case["options"].items() if k not in ("batch_first", "nonlinearity")}
    config = StackConfig(case["cell"], *case["sizes"], **options)
    weights = reference.random_weights(config, np.random.default_rng(case["seed"]), dtype)
    extra = {k: v for k, v in case["options"].items() if k == "nonlinearity"}
    if case["cell"] == "GRU":
        extra["reset_after"] = reset_after
    layer = LAYERS[case["cell"]].from_state_dict(weights, **how, **extra)
    case["options"]["batch_first"] = False
    case["batch"] = case["batch"] or 1
    x, hx = make_input(case, dtype)
    h, c = hx if case["cell"] == "LSTM" and hx else (hx, None)
    y, h_n, c_n = reference.run(config, weights, x, h, c, **extra)
    ours, state = layer(x, hx)
    np.testing.assert_allclose(ours, y, **TOLERANCE[dtype])
    assert_same(
        state,
        tuple(a.astype(dtype) for a in (h_n, c_n)) if case["cell"] == "LSTM" else h_n.astype(dtype),
        TOLERANCE[dtype],
    )


@pytest.mark.parametrize("engine", ["auto", "blas"])
@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_both_forms_of_gru_are_those_of_onnx(rng, engine, linear_before_reset):
    ort = pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx.helper")
    config = StackConfig("GRU", 5, 9)
    weights = reference.random_weights(config, rng)

    def zrh(name):  # ONNX orders the gates z, r, h
        r, z, n = np.split(weights[name], 3)
        return np.concatenate([z, r, n])[None]

    tensors = {
        "W": zrh("weight_ih_l0"),
        "R": zrh("weight_hh_l0"),
        "B": np.concatenate([zrh("bias_ih_l0"), zrh("bias_hh_l0")], axis=1),
    }
    x = rng.standard_normal((7, 3, 5)).astype(np.float32)
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B"], ["y"], hidden_size=9, linear_before_reset=linear_before_reset
    )
    float32 = 1
    graph = helper.make_graph(
        [node],
        "gru",
        [helper.make_tensor_value_info("x", float32, x.shape)],
        [helper.make_tensor_value_info("y", float32, (7, 1, 3, 9))],
        [helper.make_tensor(k, float32, v.shape, v.ravel()) for k, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    layer = fastrnn.GRU.from_state_dict(
        weights, reset_after=bool(linear_before_reset), engine=engine
    )
    np.testing.assert_allclose(layer(x)[0], expected[:, 0], **TOLERANCE["float32"])


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@EVERY_CELL
def test_a_long_sequence_is_projected_in_chunks_with_the_same_result(rng, cell, how, dtype):
    config = StackConfig(cell, 12, 40)
    weights = reference.random_weights(config, rng, dtype)
    layer = LAYERS[cell].from_state_dict(weights, **how)
    x = rng.standard_normal((700, 5, 12)).astype(dtype)
    y, *_ = reference.run(config, weights, x)
    tolerance = {"rtol": 0, "atol": 2e-6 if dtype == "float32" else 1e-13}
    np.testing.assert_allclose(layer(x)[0], y, **tolerance)


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@EVERY_CELL
def test_a_bad_row_harms_no_other(rng, cell, how, dtype):
    config = StackConfig(cell, 6, 17, num_layers=2)
    layer = LAYERS[cell].from_state_dict(reference.random_weights(config, rng, dtype), **how)
    x = rng.standard_normal((9, 8, 6)).astype(dtype)
    clean, _ = layer(x)
    bad = x.copy()
    bad[2, 1], bad[3, 4], bad[0, 6] = np.nan, np.inf, 1e30
    y, _ = layer(bad)
    others = [0, 2, 3, 5, 7]
    np.testing.assert_array_equal(y[:, others], clean[:, others])
    assert np.isnan(y[2:, 1]).all()


def test_any_real_input_is_converted(rng):
    layer = fastrnn.GRU.from_state_dict(
        reference.random_weights(StackConfig("GRU", 4, 8), rng), batch_first=True
    )
    x = rng.integers(-3, 3, (2, 5, 4))
    expected, _ = layer(x.astype(np.float32))
    inputs = [
        x,
        x.tolist(),
        x.astype(np.float64),
        x.astype(np.float16),
        x.astype(">f4"),
        np.asfortranarray(x.astype(np.float32)),
        np.repeat(x, 2, axis=2)[..., ::2].astype(np.float32),
    ]
    for value in inputs:
        y, _ = layer(value)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, expected)


def test_unaligned_input_is_taken(rng):
    layer = fastrnn.GRU.from_state_dict(reference.random_weights(StackConfig("GRU", 4, 8), rng))
    x = rng.standard_normal((5, 2, 4)).astype(np.float32)
    buffer = np.empty(x.nbytes + 1, np.uint8)
    unaligned = buffer[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    assert not unaligned.flags.aligned
    np.testing.assert_array_equal(layer(unaligned)[0], layer(x)[0])


def lstm(**options):
    config = StackConfig("LSTM", 40, 16)
    weights = reference.random_weights(config, np.random.default_rng(0))
    return fastrnn.LSTM.from_state_dict(weights, **options)


X = np.zeros((5, 8, 40), np.float32)
H = np.zeros((1, 8, 16), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: lstm()(X[..., :39]),
            ValueError,
            r"LSTM: x has 39 features, expected input_size=40 \(x.shape=\(5, 8, 39\)\)",
        ),
        (
            lambda: lstm()(X[0, 0]),
            ValueError,
            r"x has 1 dimensions, expected \(T, B, I\) or \(T, I\)",
        ),
        (lambda: lstm(batch_first=True)(X[None]), ValueError, r"expected \(B, T, I\) or \(T, I\)"),
        (lambda: lstm()(X[:0]), ValueError, "no time steps"),
        (lambda: lstm()(X[:0, 0]), ValueError, "no time steps"),
        (lambda: lstm()(X.astype(complex)), TypeError, "x has dtype complex128, expected a real"),
        (lambda: lstm()(np.full((5, 8, 40), "a")), TypeError, "x has dtype <U1"),
        (lambda: lstm()(X, H), ValueError, r"hx is ndarray, expected a pair \(h_0, c_0\)"),
        (lambda: lstm()(X, (H,)), ValueError, "expected a pair"),
        (
            lambda: lstm()(X, (H, H[:, :7])),
            ValueError,
            r"c_0 is \(1, 7, 16\), expected \(1, 8, 16\)",
        ),
        (lambda: lstm()(X[:, 0], (H, H)), ValueError, r"h_0 is \(1, 8, 16\), expected \(1, 16\)"),
        (lambda: lstm()(X, lengths=[5] * 7), ValueError, r"lengths is \(7,\), expected .*\(8,\)"),
        (
            lambda: lstm()(X, lengths=[5] * 7 + [-1]),
            ValueError,
            r"lengths\[7\] is -1, expected 0 to 5",
        ),
        (lambda: lstm()(X, lengths=[6] + [5] * 7), ValueError, r"lengths\[0\] is 6"),
        (
            lambda: lstm()(X, lengths=[1.5] * 8),
            TypeError,
            "lengths has dtype float64, expected integers",
        ),
        (lambda: lstm()(X[:, 0], lengths=[5]), ValueError, "lengths need a batch"),
        (
            lambda: lstm(engine="cuda"),
            ValueError,
            "engine='cuda', expected one of 'auto', 'simd', 'blas'",
        ),
        (lambda: lstm(dtype="float16"), ValueError, "dtype=float16, expected float32 or float64"),
        (lambda: fastrnn.LSTM(0, 4), ValueError, "input_size=0, expected an integer >= 1"),
        (lambda: fastrnn.LSTM(4, 2.5), ValueError, "hidden_size=2.5"),
        (lambda: fastrnn.LSTM(4, 4, num_layers=True), ValueError, "num_layers=True"),
        (lambda: fastrnn.LSTM(4, 4, proj_size=4), ValueError, "proj_size=4, expected less than"),
        (lambda: fastrnn.LSTM(4, 4, dropout=2), ValueError, "dropout=2, expected 0 to 1"),
        (lambda: fastrnn.RNN(4, 4, nonlinearity="gelu"), ValueError, "nonlinearity='gelu'"),
        (lambda: fastrnn.LSTM(40, 16)(X), RuntimeError, "no weights yet"),
        (lambda: fastrnn.LSTM(40, 16).stream(), RuntimeError, "no weights yet"),
        (lambda: fastrnn.LSTM(40, 16).trace(X), RuntimeError, "no weights yet"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_batch_of_none_is_an_empty_answer():
    y, (h, c) = lstm()(X[:, :0])
    assert y.shape == (5, 0, 16)
    assert h.shape == c.shape == (1, 0, 16)


def test_the_callers_arrays_are_left_alone(rng):
    layer = lstm()
    x = rng.standard_normal((5, 8, 40)).astype(np.float32)
    h = rng.standard_normal((1, 8, 16)).astype(np.float32)
    before = x.copy(), h.copy()
    layer(x, (h, h))
    layer(x, (h, h), lengths=[5, 1, 2, 3, 4, 5, 1, 2])
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(h, before[1])


@EVERY_CELL
def test_load_state_dict_takes_what_state_dict_gives(rng, cell):
    config = StackConfig(cell, 5, 6, num_layers=2, bidirectional=True)
    first = LAYERS[cell].from_state_dict(reference.random_weights(config, rng))
    second = LAYERS[cell](5, 6, 2, bidirectional=True)
    second.load_state_dict(first.state_dict())
    assert list(first.state_dict()) == list(config.shapes())
    x = rng.standard_normal((4, 3, 5))
    np.testing.assert_array_equal(first(x)[0], second(x)[0])


def test_load_state_dict_wants_just_its_own(rng):
    weights = reference.random_weights(StackConfig("LSTM", 5, 6), rng)
    layer = fastrnn.LSTM(5, 6)
    with pytest.raises(ValueError, match="bias_hh_l0 is missing"):
        layer.load_state_dict({k: v for k, v in weights.items() if k != "bias_hh_l0"})
    with pytest.raises(ValueError, match=r"weight_ih_l0 has shape \(24, 4\), expected \(24, 5\)"):
        layer.load_state_dict({**weights, "weight_ih_l0": weights["weight_ih_l0"][:, 1:]})
    with pytest.raises(ValueError, match=r"LSTM: head\.weight is no parameter"):
        layer.load_state_dict({**weights, "head.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="weight_ih_l1 is one too many"):
        layer.load_state_dict({**weights, "weight_ih_l1": weights["weight_ih_l0"]})
    with pytest.raises(ValueError, match="bias_ih_l0 holds NaN, expected finite float32"):
        layer.load_state_dict({**weights, "bias_ih_l0": np.full(24, np.nan)})
    with pytest.raises(ValueError, match="infinite values"):
        layer.load_state_dict({**weights, "bias_ih_l0": np.full(24, 1e300)})
    with pytest.raises(TypeError, match="bias_ih_l0 has dtype int64, expected floating point"):
        layer.load_state_dict({**weights, "bias_ih_l0": np.zeros(24, int)})
    layer.load_state_dict(weights)
    layer(np.zeros((1, 1, 5)))


def test_weights_are_private_copies(rng):
    weights = reference.random_weights(StackConfig("RNN", 5, 6), rng)
    layer = fastrnn.RNN.from_state_dict(weights)
    x = rng.standard_normal((3, 2, 5))
    before, _ = layer(x)
    weights["weight_hh_l0"][...] = 0
    np.testing.assert_array_equal(layer(x)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        layer.state_dict()["weight_hh_l0"][0] = 1


@EVERY_CELL
def test_dtype_is_float64_only_if_every_weight_is(rng, cell):
    weights = reference.random_weights(StackConfig(cell, 5, 6), rng, "float64")
    assert LAYERS[cell].from_state_dict(weights).dtype == np.float64
    assert LAYERS[cell].from_state_dict(weights, dtype="float32").dtype == np.float32
    mixed = {**weights, "bias_ih_l0": weights["bias_ih_l0"].astype(np.float32)}
    assert LAYERS[cell].from_state_dict(mixed).dtype == np.float32


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_layers_can_be_copied_and_pickled(duplicate):
    layer = lstm(batch_first=True)
    twin = duplicate(layer)
    assert repr(twin) == repr(layer)
    np.testing.assert_array_equal(twin(X + 1)[0], layer(X + 1)[0])


@pytest.mark.parametrize(
    "name", ["dtype", "engine", "isa", "threads", "batch_first", "hidden_size"]
)
def test_options_are_fixed(name):
    with pytest.raises(AttributeError):
        setattr(lstm(), name, None)


def test_repr_says_how_to_make_it():
    assert repr(fastrnn.GRU(3, 4, 2, bidirectional=True, reset_after=False, engine="blas")) == (
        "GRU(3, 4, num_layers=2, bidirectional=True, reset_after=False, dtype=float32, engine='blas')"
    )


@pytest.mark.parametrize("engine", ["auto", "blas"])
def test_threads_share_a_layer(rng, engine):
    layer = lstm(engine=engine)
    inputs = [rng.standard_normal((30, 4, 40)).astype(np.float32) for _ in range(4)]
    expected = [layer(x)[0] for x in inputs]
    wrong = []

    def work(x, y):
        for _ in range(50):
            if not np.array_equal(layer(x)[0], y):
                wrong.append(x)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@pytest.mark.parametrize("batch_first", [False, True])
@example(lengths=[1, 1, 1])
@example(lengths=[4, 4, 4])
@example(lengths=[1, 4, 2])
@example(lengths=[0, 0])
@example(lengths=[3, 0, 4])
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6))
@settings(max_examples=10)
def test_a_ragged_row_is_what_it_is_alone(how, dtype, batch_first, lengths):
    config = StackConfig("LSTM", 3, 5, num_layers=2, bidirectional=True)
    rng = np.random.default_rng(1)
    weights = reference.random_weights(config, rng, dtype)
    layer = fastrnn.LSTM.from_state_dict(weights, batch_first=batch_first, **how)
    x = rng.standard_normal((4, len(lengths), 3)).astype(dtype)
    hx = tuple(rng.standard_normal((4, len(lengths), 5)).astype(dtype) for _ in "hc")
    y, state = layer(x.swapaxes(0, 1) if batch_first else x, hx, lengths=lengths)
    y = y.swapaxes(0, 1) if batch_first else y
    for row, length in enumerate(lengths):
        alone, state_alone = np.empty((0, 10)), tuple(part[:, row] for part in hx)
        if length:
            alone, state_alone = layer(x[:length, row], state_alone)
        np.testing.assert_allclose(y[:length, row], alone, **TOLERANCE[dtype])
        for ours, theirs in zip(state, state_alone, strict=True):
            np.testing.assert_allclose(ours[:, row], theirs, **TOLERANCE[dtype])
        assert not y[length:, row].any()


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_one_initial_state_for_every_row(rng, cell):
    config = StackConfig(cell, 3, 5, num_layers=2, bidirectional=True)
    layer = getattr(fastrnn, cell).from_state_dict(reference.random_weights(config, rng))
    x = rng.standard_normal((4, 6, 3)).astype(np.float32)
    one = tuple(rng.standard_normal((4, 5)).astype(np.float32) for _ in range(1 + (cell == "LSTM")))
    forms = (np.repeat(part[:, None], 6, 1) for part in one), one, (part[:, None] for part in one)
    many, *few = (tuple(form) if cell == "LSTM" else next(iter(form)) for form in forms)
    expected, _ = layer(x, many)
    for hx in few:
        np.testing.assert_array_equal(layer(x, hx)[0], expected)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_no_rows_take_no_time_however_many_steps_they_have(cell):
    """Nor memory: neither a run, nor a ragged one, nor a trace walks through time."""
    config = StackConfig(cell, 3, 5, num_layers=2)
    weights = reference.random_weights(config, np.random.default_rng(0))
    layer = getattr(fastrnn, cell).from_state_dict(weights)
    x = np.zeros((10**11, 0, 3), np.float32)
    assert layer(x)[0].shape == layer(x, lengths=np.zeros(0, int))[0].shape == (10**11, 0, 5)
    assert layer.trace(x)["h"].shape == (2, 1, 10**11, 0, 5)
    pool = layer.pool(1)
    assert pool.run([], x).shape == pool.run([], x, lengths=[]).shape == (10**11, 0, 5)
