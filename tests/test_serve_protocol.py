"""Commands: what is one, and that what is none costs no time."""

from __future__ import annotations

import base64
import contextlib
import json
import time

import pytest

from fastrnn.serve.protocol import (
    BAD_STATE,
    SPARE,
    UNSUPPORTED,
    RefusedError,
    answer,
    parse_command,
    state_chars,
)

STATE = bytes(range(256)) * 4
CHARS = state_chars(len(STATE))
LOAD = answer("load", STATE)
BASE64 = base64.b64encode(STATE).decode()


def test_how_long_a_state_is():
    for size in range(10):
        assert state_chars(size) == len(base64.b64encode(bytes(size)))


@pytest.mark.parametrize(
    "text",
    [
        LOAD,
        LOAD.replace("/", "\\/"),  # as some write JSON
        json.dumps({"state": BASE64, "op": "load"}),
        json.dumps({"op": "load", "state": BASE64, "note": 'a "state": of mind'}),
        json.dumps({"note": "state", "op": "load", "state": BASE64}, indent=4),
        f' {{ "op"\n:\t"load" ,"state" : "{BASE64}" }} ',
    ],
)
def test_a_load(text):
    assert parse_command(text, CHARS) == ("load", STATE)


@pytest.mark.parametrize("op", ["save", "reset"])
def test_what_has_no_state(op):
    assert parse_command(json.dumps({"op": op}), CHARS) == (op, b"")
    assert parse_command(json.dumps({"op": op, "id": "x" * 500}), CHARS) == (op, b"")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", UNSUPPORTED),
        ("{", UNSUPPORTED),
        ("[" * SPARE, UNSUPPORTED),
        ("1" * SPARE, UNSUPPORTED),
        ('{"op": "save", "op": "reset"}', UNSUPPORTED),
        ('{"op": "load", "state": "AAAA", "state": "AAAA"}', UNSUPPORTED),
        ('{"op": "load", "state": "AAAA', UNSUPPORTED),
        ('{"op": ["load"], "state": "AAAA"}', UNSUPPORTED),
        ('{"state": "AAAA"}', UNSUPPORTED),
        ('{"op": "load"}', BAD_STATE),
        ('{"op": "load", "state": 7}', BAD_STATE),
        ('{"op": "load", "state": ["AAAA"]}', BAD_STATE),
        ('{"op": "load", "x": {"state": "AAAA"}}', BAD_STATE),
        ('{"op": "load", "state": "AAA"}', BAD_STATE),
        ('{"op": "load", "state": "AA=A"}', BAD_STATE),
        ('{"op": "load", "state": "AA\\u0041A"}', BAD_STATE),
        ('{"op": "load", "state": "AA\\nAA"}', BAD_STATE),
        ('{"op": "load", "state": "ÄÄÄÄ"}', BAD_STATE),
        ('{"op": "load", "state": "\ud800AAA"}', BAD_STATE),
        (json.dumps({"op": "load", "state": "A" * (2 * CHARS + 4)}), BAD_STATE),
        (json.dumps({"op": "save", "id": "x" * SPARE}), UNSUPPORTED),
    ],
)
def test_what_is_no_command(text, code):
    with pytest.raises(RefusedError) as refused:
        parse_command(text, CHARS)
    assert refused.value.code == code


LENGTH = 250_000


@pytest.mark.parametrize(
    "text",
    [
        '{"op":"reset","x":[' + "[[]]," * (LENGTH // 5),
        '{"op":"reset","x":"' + "\\u00e9" * (LENGTH // 6),
        '{"op":"load","state":"' + "A" * LENGTH + '"}',
        '{"op":"load","state":"' + "\\/" * (LENGTH // 2) + '"}',
        '{"op":"load","state":[' + "1," * (LENGTH // 2),
        '"state"' + " " * LENGTH,
        '"state" ' * (LENGTH // 8),
        '"state":"' * (LENGTH // 9),
        "[" * LENGTH,
        "9" * LENGTH,
    ],
    ids=lambda text: text[:24],
)
@pytest.mark.parametrize("most", [CHARS, LENGTH])
def test_no_text_takes_long(text, most):
    """The best of some tries: json.loads took 20 ms for the first."""
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        with contextlib.suppress(RefusedError):  # a state may be so long
            parse_command(text, most)
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.004
