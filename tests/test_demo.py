"""The demo: its model, how it scores and samples, and `fastrnn demo` with the files it ships."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from fastrnn import demo
from fastrnn.cli import main
from fastrnn.cli.demo import PROMPTS, agrees
from fastrnn.layers.weights import StackConfig

KEYS = {
    "version",
    "text",
    "characters",
    "streams",
    "parameters",
    "engine",
    "isa",
    "bits_per_character",
    "torch",
    "torch_bits_per_character",
    "equal",
    "seconds_per_step",
    "characters_per_second",
    "samples",
}


def random_weights(embedding_size=5, hidden_size=12):
    random = np.random.default_rng(0)
    shapes = {
        "embedding.weight": (demo.SYMBOLS, embedding_size),
        "head.weight": (demo.SYMBOLS, hidden_size),
        "head.bias": (demo.SYMBOLS,),
    }
    gru = StackConfig("GRU", embedding_size, hidden_size, num_layers=2)
    shapes |= {f"gru.{name}": shape for name, shape in gru.shapes().items()}
    return {name: random.normal(0, 0.5, s).astype(np.float16) for name, s in shapes.items()}


@pytest.fixture(scope="module")
def model():
    return demo.CharacterModel(random_weights())


@pytest.fixture(scope="module")
def shipped():
    return demo.CharacterModel()


# The model


def test_the_alphabet_is_newline_and_printable_ascii():
    text = "\n" + "".join(map(chr, range(32, 127)))
    assert text == demo.ALPHABET
    np.testing.assert_array_equal(demo.encode(text), np.arange(96))
    assert demo.decode(demo.encode(text)) == text


@pytest.mark.parametrize("character", ["\r", "\0", "\x7f", "\x80", "é", "\u2028", "\U0001f600"])
def test_every_other_character_is_one_unknown_symbol(character):
    assert demo.encode(character).tolist() == [demo.UNKNOWN]
    assert demo.decode([demo.UNKNOWN]) == "\N{REPLACEMENT CHARACTER}"


def test_a_tab_is_a_space_and_nothing_is_nothing():
    assert demo.encode("a\tb").tolist() == demo.encode("a b").tolist()
    assert demo.encode("").tolist() == []


def test_log_probabilities_are_normalised_and_float64(model):
    h = np.random.default_rng(0).standard_normal((3, 12), np.float32) * 50
    log_p = model.log_probabilities(h)
    assert log_p.dtype == np.float64
    assert log_p.shape == (3, demo.SYMBOLS)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-12)
    cold = model.log_probabilities(h, temperature=0.5)
    np.testing.assert_allclose(cold - cold[:, :1], 2 * (log_p - log_p[:, :1]), rtol=1e-9, atol=1e-9)


# Scoring


def test_a_model_that_knows_nothing_needs_log2_of_the_alphabet():
    zeros = {name: np.zeros_like(array) for name, array in random_weights().items()}
    result = demo.score(demo.CharacterModel(zeros), demo.encode("any text"))
    assert result.bits_per_character == pytest.approx(math.log2(demo.SYMBOLS), rel=1e-12)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 1000])
def test_streams_together_score_as_one_by_one(n, model):
    indices = np.random.default_rng(n).integers(0, demo.SYMBOLS, n).astype(np.uint8)
    result = demo.score(model, indices, streams=64)
    assert (result.characters, result.streams) == (n, 64)
    assert result.steps == math.ceil(n / 64)
    pieces = [indices[i : i + result.steps] for i in range(0, n, result.steps)]
    bits = sum(demo.score(model, p, streams=1).bits_per_character * len(p) for p in pieces)
    assert result.bits_per_character == pytest.approx(bits / n, rel=1e-9)


def test_scores_are_those_of_torch(model):
    path = Path(__file__).parent.parent / "bench" / "demo_model" / "model.py"
    if not path.exists():
        pytest.skip("bench/ is not here")
    torch = pytest.importorskip("torch")
    spec = util.spec_from_file_location("demo_model", path)
    theirs = util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    text = "def f(x):\n\treturn 'é' + x\n" * 9
    np.testing.assert_array_equal(demo.encode(text), theirs.encode(text).numpy())
    weights = {name: torch.tensor(array) for name, array in random_weights().items()}
    expected = theirs.bits_per_character(theirs.from_weights(weights), theirs.encode(text), 64)
    result = demo.score(model, demo.encode(text))
    assert result.bits_per_character == pytest.approx(expected, abs=1e-6)


def test_progress_and_times(model):
    calls = []
    result = demo.score(model, demo.encode("x" * 640), progress=lambda *call: calls.append(call))
    assert calls == [(step, 10) for step in range(1, 11)]
    assert 0 < result.step_seconds < result.seconds


def test_no_text_no_score(model):
    with pytest.raises(ValueError, match="empty"):
        demo.score(model, demo.encode(""))


# Sampling


def test_samples_start_with_their_prompts_and_repeat_with_their_seeds(model):
    texts = demo.sample(model, ["A", "Two words "], [1, 2], length=30)
    assert [len(text) for text in texts] == [30, 30]
    assert texts[0].startswith("A")
    assert texts[1].startswith("Two words ")
    assert set("".join(texts)) <= set(demo.ALPHABET)
    assert texts == demo.sample(model, ["A", "Two words "], [1, 2], length=30)
    assert texts != demo.sample(model, ["A", "Two words "], [3, 4], length=30)


def test_a_sample_does_not_depend_on_the_streams_beside_it(model):
    (alone,) = demo.sample(model, ["If "], [7], length=40)
    assert demo.sample(model, ["The ", "If ", "x" * 50], [1, 7, 2], length=40)[1] == alone


def test_cold_samples_take_the_likeliest(model):
    assert len({demo.sample(model, ["a"], [seed], 20, 1e-4)[0] for seed in range(4)}) == 1


@pytest.mark.parametrize(
    ("prompts", "seeds", "temperature"), [(["a"], [1, 2], 1.0), ([], [], 1.0), (["a"], [1], 0.0)]
)
def test_samples_that_cannot_be(prompts, seeds, temperature, model):
    with pytest.raises(ValueError, match=r"^sample: "):
        demo.sample(model, prompts, seeds, 10, temperature)


# What is shipped


def test_the_shipped_files_fit_the_promises():
    assert demo.WEIGHTS.stat().st_size < 1_000_000
    text = demo.read_text(demo.TEXT)
    assert len(text) >= 16_384
    reference = demo.read_reference()
    assert reference.text == demo.TEXT.name
    assert reference.characters == len(text)
    assert reference.streams == demo.STREAMS


def test_the_figure_is_that_of_torch_to_4_decimals(shipped):
    result = demo.score(shipped, demo.encode(demo.read_text(demo.TEXT)))
    reference = demo.read_reference()
    assert abs(result.bits_per_character - reference.bits_per_character) < 5e-5
    assert result.bits_per_character < 5  # of log2(97) = 6.6: it has learnt something


def test_a_person_sees_both_figures_speed_and_samples(capsys):
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no progress bar where there is no terminal
    reference = demo.read_reference()
    assert f"bits per character     {reference.bits_per_character:.4f}\n" in out
    assert f"in PyTorch {reference.torch}" in out
    assert f"{reference.bits_per_character:.4f}  equal to 4 decimals\n" in out
    assert "time per step" in out
    assert "characters per second" in out
    for number, prompt in enumerate(PROMPTS, start=1):
        assert f"\n  {number}  {prompt}" in out


def test_a_clean_process_needs_no_torch():
    script = (
        "import sys; from fastrnn.cli import main; code = main(['demo', '--json']); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert set(report) == KEYS
    assert report["equal"] is True
    assert report["streams"] == 64
    assert report["torch"] == demo.read_reference().torch
    assert [sample["prompt"] for sample in report["samples"]] == list(PROMPTS)
    assert all(sample["text"].startswith(sample["prompt"]) for sample in report["samples"])


def test_another_figure_than_torchs_is_1(monkeypatch, capsys):
    reference = demo.read_reference()
    monkeypatch.setattr(
        "fastrnn.cli.demo.read_reference",
        lambda: demo.Reference(
            **{**vars(reference), "bits_per_character": reference.bits_per_character + 1e-4}
        ),
    )
    assert main(["demo"]) == 1
    assert "NOT EQUAL to 4 decimals" in capsys.readouterr().out
    assert main(["demo", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["equal"] is False


def test_figures_of_different_texts_do_not_agree():
    result = demo.Score(2.5, 100, 64, 2, 1e-3, 1.0)
    reference = demo.Reference("text.txt", 100, 64, 2.50004, "2.13.0")
    assert agrees(result, reference)
    assert not agrees(result, demo.Reference(**{**vars(reference), "characters": 99}))
    assert not agrees(result, demo.Reference(**{**vars(reference), "bits_per_character": 2.5001}))


# The user's own text


def test_ones_own_text_is_scored_without_reference(tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_bytes(b"If the object is mutable, its value\r\ncan change.\n" * 5)
    assert main(["demo", "--text", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == KEYS
    assert report["text"] == str(path)
    assert report["characters"] == 48 * 5
    assert report["equal"] is report["torch"] is report["torch_bits_per_character"] is None
    assert main(["demo", "--text", str(path)]) == 0
    out = capsys.readouterr().out
    assert "240 characters" in out
    assert "in PyTorch" not in out


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty, expected at least one character"),
        (b"caf\xe9", "not UTF-8 text (byte 0xe9), expected a UTF-8 text file"),
    ],
)
def test_a_text_that_cannot_be_scored_is_1(content, problem, tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    assert main(["demo", "--text", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"fastrnn: error: {path}: {problem}\n"
