"""Tokens: what a file may hold, and what a request must."""

from __future__ import annotations

import pytest

from fastrnn.serve.tokens import Tokens

ANNA, BERT = "a-long-token.of~anna", "another_TOKEN+of.bert"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may\n\nanna {ANNA}\n  bert\t{BERT}  \n")
    return path


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "name"),
    [
        (f"Bearer {ANNA}", None, "anna"),
        (f"bearer   {BERT} ", None, "bert"),
        (None, f"fastrnn, bearer.{BERT}", "bert"),
        (None, f"bearer.{ANNA}", "anna"),
        (f"Bearer {ANNA}x", None, None),
        (f"Bearer {ANNA[:-1]}", None, None),
        (f"Basic {ANNA}", None, None),
        (ANNA, None, None),
        (f"Bearer {ANNA.upper()}", None, None),
        ("Bearer", None, None),
        ("Bearer \udcff\udcfe", None, None),
        ("", f"bearer.{ANNA}", None),  # a header that is wrong is not made good by another
        (None, ANNA, None),
        (None, "fastrnn", None),
        (None, None, None),
    ],
)
def test_whose_token_a_request_has(path, authorization, subprotocols, name):
    assert Tokens(str(path)).name(authorization, subprotocols) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no tokens"),
        ("# anna\n", "no tokens"),
        ("anna\n", "line 1: expected NAME TOKEN"),
        (f"anna {ANNA} more", "line 1: expected NAME TOKEN"),
        (f"anna {ANNA}\nbert not/ok/in/a/subprotocol", "line 2: expected NAME TOKEN"),
        ("anna tooshort", "line 1: a token has at least 16 characters"),
        (f"anna {ANNA}\nbert {ANNA}", "line 2: the token is that of another line"),
    ],
)
def test_files_that_are_none(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Tokens(str(path))
    for word in text.split():
        if len(word) > 6 and word != "anna":
            assert word not in str(caught.value)


def test_reading_anew(path):
    tokens = Tokens(str(path))
    path.write_text("nonsense")
    with pytest.raises(ValueError, match="expected NAME TOKEN"):
        tokens.reload()
    assert tokens.name(f"Bearer {ANNA}", None) == "anna"
    path.write_text(f"carl {BERT}")
    tokens.reload()
    assert tokens.name(f"Bearer {ANNA}", None) is None
    assert tokens.name(f"Bearer {BERT}", None) == "carl"
