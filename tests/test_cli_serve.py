"""`fastrnn serve` on the command line: help, and what it refuses before it serves."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from serving import ServerProcess, make_layer

from fastrnn.cli import main
from fastrnn.formats import write
from fastrnn.layers.weights import StackConfig
from fastrnn.loading import load_model

SIZES = {
    "lstm": StackConfig("LSTM", 3, 4),
    "rnn": StackConfig("RNN", 3, 4),
    "both_ways": StackConfig("GRU", 3, 4, bidirectional=True),
}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.npz"
    weights = {
        f"{prefix}.{name}": np.zeros(shape, np.float32)
        for prefix, config in SIZES.items()
        for name, shape in config.shapes().items()
    }
    write(path, weights)
    return str(path)


def test_help_documents_the_protocol_and_every_close_code(capsys):
    assert main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("input_size", '"save"', '"load"', '"reset"', "/health", "/metrics", "SIGTERM"):
        assert word in out
    for code in (1001, 1003, 1007, 1008, 1009, 1011, 1013, 4000):
        assert f"  {code}  " in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "3 recurrent stacks, say which"),
        (["nowhere"], 1, "nowhere"),
        (["both_ways"], 2, "bidirectional"),
        (["lstm", "--nonlinearity", "relu"], 2, "--nonlinearity is for an RNN"),
        (["rnn", "--reset-before"], 2, "--reset-before for a GRU"),
        (["lstm", "--threads", "0"], 2, "threads=0, expected an integer >= 1"),
        (["lstm", "--max-streams", "0"], 2, "max_streams=0, expected an integer >= 1"),
        (["lstm", "--max-streams", "1000000000"], 2, "needs 1000000768 open files"),
        (["lstm", "--max-batch", "-1"], 2, "max_batch=-1, expected an integer >= 1"),
        (["lstm", "--max-message", "11"], 2, "max_message=11, expected at least"),
        (["lstm", "--max-wait-ms", "nan"], 2, "--max-wait-ms: expected 0 or more"),
        (["lstm", "--idle-seconds", "-1"], 2, "--idle-seconds: expected 0 or more"),
        (["lstm", "--origin", "example.org"], 2, "origin 'example.org' can match nothing"),
        (["lstm", "--origin", "https://a.org/"], 2, "browsers send 'https://a.org'"),
        (["lstm", "--port", "65536"], 2, "--port 65536: expected 0 to 65535"),
    ],
)
def test_what_cannot_be_served_is_refused(model, capsys, arguments, code, message):
    assert main(["serve", model, *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_port_in_use(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", model, "lstm", "--port", str(taken.getsockname()[1])]) == 2
    assert "address already in use" in capsys.readouterr().err


def test_with_stdout_closed_it_serves(model):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrnn", "serve", model, "lstm", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(os.close, 1),
    )
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.05)
    process.terminate()
    assert process.communicate(timeout=20)[1] == "draining 0 streams\n"
    assert process.returncode == 0


def test_without_the_extra_the_error_says_what_to_install(model):
    code = "import sys; sys.modules['websockets'] = None; from fastrnn.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(main(sys.argv[1:]))", "serve", model, "lstm"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    expected = "fastrnn: error: serve needs websockets: pip install 'fastrnn[serve]'\n"
    assert done.stderr == expected


def test_the_batcher_needs_nothing_of_the_extra():
    code = (
        "import sys; sys.modules.update(websockets=None, prometheus_client=None); "
        "import fastrnn.serve; fastrnn.serve.Batcher"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("cell", "options", "arguments"),
    [
        ("RNN", {"nonlinearity": "relu"}, ["--nonlinearity", "relu"]),
        ("GRU", {"reset_after": False}, ["--reset-before"]),
    ],
)
def test_what_tensors_do_not_say(tmp_path, rng, cell, options, arguments):
    layer = make_layer(cell, **options)
    path = tmp_path / "model.npz"
    np.savez(path, **layer.state_dict())
    x = rng.standard_normal((9, layer.input_size)).astype(np.float32)
    with ServerProcess(path, *arguments) as server, server.connect() as websocket:
        assert f'"cell": "{cell}"' in websocket.recv()
        websocket.send(x.tobytes())
        y = np.frombuffer(websocket.recv(), np.float32)
    np.testing.assert_array_equal(y.reshape(9, -1), layer.stream().run(x))


@pytest.mark.parametrize(
    ("cell", "tensors", "argument"),
    [
        ("GRU", {"h0": (2, 7)}, "h0"),
        ("GRU", {"h0": (2, 1, 7)}, "h=h0"),
        ("LSTM", {"init.h": (2, 7), "init.c": (2, 7)}, "h=init.h,c=init.c"),
        ("LSTM", {"init": (2, 2, 7)}, "init"),
    ],
)
def test_streams_begin_with_the_files_initial_state(tmp_path, rng, cell, tensors, argument):
    layer = make_layer(cell)
    path = tmp_path / "model.npz"
    learned = {name: rng.standard_normal(s).astype(np.float32) for name, s in tensors.items()}
    weights = {f"rnn.{name}": value for name, value in layer.state_dict().items()}
    np.savez(path, **weights, **learned)
    initial = list(learned.values())
    initial = initial[0] if len(initial) == 1 else tuple(initial)
    initial = tuple(initial) if cell == "LSTM" else initial
    x = rng.standard_normal((9, layer.input_size)).astype(np.float32)
    expected = layer.stream(1, initial_state=initial).run(x[:, None])[:, 0]
    process = ServerProcess(path, "--initial-state", argument)
    with process as server, server.connect() as websocket:
        websocket.recv()
        for _ in range(2):
            websocket.send(x.tobytes())
            y = np.frombuffer(websocket.recv(), np.float32)
            np.testing.assert_array_equal(y.reshape(9, -1), expected)
            websocket.send('{"op": "reset"}')
            websocket.recv()


@pytest.mark.parametrize(
    ("prefix", "argument", "code", "message"),
    [
        ("lstm", "nowhere", 1, "--initial-state nowhere: no tensor 'nowhere'"),
        ("lstm", "h=lstm.bias_ih_l0,c=no", 1, "no tensor 'no'"),
        ("lstm", "lstm.bias_ih_l0", 2, "(16,), expected (2, num_layers, hidden_size), or two"),
        ("rnn", "h=rnn.bias_ih_l0,c=rnn.bias_ih_l0", 2, "a RNN has no c"),
        ("rnn", "rnn.bias_ih_l0", 2, "initial_state is (4,), expected (1, 1, 4)"),
    ],
)
def test_an_initial_state_that_does_not_fit(model, capsys, prefix, argument, code, message):
    assert main(["serve", model, prefix, "--port=0", "--initial-state", argument]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize("arguments", [["no", "--port=0", "lstm"], ["no", "lstm", "--port=0"]])
def test_options_may_stand_between_file_and_prefix(arguments, capsys):
    assert main(["serve", *arguments]) == 2
    assert "no: No such file or directory" in capsys.readouterr().err


def test_more_than_file_and_prefix_is_refused(capsys):
    assert main(["serve", "file", "prefix", "--port=0", "more"]) == 2
    assert "unrecognized arguments: more" in capsys.readouterr().err


def test_a_whole_model(rng):
    data = Path(str(find_spec("silero_vad").origin)).parent / "data"
    arguments = ["--fix", "sr=16000", "--shape", "input=?,576"]
    stream = load_model(data / "silero_vad.onnx", fixed={"sr": 16000}).stream()
    x = rng.standard_normal((5, 576)).astype(np.float32) * 0.1
    with (
        ServerProcess(data / "silero_vad.onnx", *arguments) as server,
        server.connect() as websocket,
    ):
        hello = websocket.recv()
        for said in ('"input_shape": "576"', '"output_shape": "1"', stream_fingerprint(data)):
            assert said in hello
        websocket.send(x.tobytes())
        y = np.frombuffer(websocket.recv(), np.float32)
    np.testing.assert_array_equal(y, [stream.step(frame)[0] for frame in x])


def stream_fingerprint(data):
    return load_model(data / "silero_vad.onnx", fixed={"sr": 16000}).fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fix", "sr=16000"], "say them with --shape"),
        (["--fix", "sr=16000", "--shape", "input=1,?,3"], "in the file (None, None)"),
        (["--fix", "sr=16000", "--initial-state", "h0"], "--initial-state is for weights"),
        (["--shape", "input=?,576"], "input 'sr' is (), without an axis for the batch"),
        (["--fix", "sr=16000", "--shape", "input=?,0"], "expected NAME=N,N,..."),
    ],
)
def test_whole_models_that_cannot_be_served_say_why(capsys, arguments, message):
    data = Path(str(find_spec("silero_vad").origin)).parent / "data"
    assert main(["serve", str(data / "silero_vad.onnx"), *arguments]) == 2
    assert message in capsys.readouterr().err
