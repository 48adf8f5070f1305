"""Which origins can match a browser's, and which hosts are this server's own."""

from __future__ import annotations

import pytest

from fastrnn.serve.hosts import check_origin, is_own_name


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org",
        "http://example.org:8080",
        "http://localhost:5173",
        "http://127.0.0.1",
        "http://[::1]:3000",
        "https://xn--bcher-kva.example",
        "https://under_score.example.",
        "chrome-extension://abcdefghijklmnop",
        "capacitor://localhost",
        "null",
        "file://",
    ],
)
def test_what_browsers_send(origin):
    check_origin(origin)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("", "can match nothing, expected one such as https://example.org"),
        ("*", "can match nothing"),
        ("example.org", "can match nothing"),
        ("//example.org", "can match nothing"),
        ("https://", "can match nothing"),
        ("https://example.org/app", "can match nothing"),
        ("https://example.org?x", "can match nothing"),
        ("https://user@example.org", "can match nothing"),
        ("https://exa mple.org", "browsers know no such host"),
        ("https://*.example.org", "browsers know no such host"),
        ("https://bücher.example", "browsers know no such host"),
        ("https://a..b", "browsers know no such host"),
        ("http://1.2.3", "browsers know no such host"),
        ("http://127.0.0.01", "browsers know no such host"),
        ("http://[fe80::1%25eth0]", "browsers know no such host"),
        ("http://[::1", "can match nothing"),
        ("http://example.org:65536", "browsers know no such host"),
        ("http://example.org:http", "can match nothing"),
        ("wss://example.org", "a page has http or https, not wss"),
        ("https://example.org/", "browsers send 'https://example.org'"),
        ("HTTPS://Example.org", "browsers send 'https://example.org'"),
        ("https://example.org:443", "browsers send 'https://example.org'"),
        ("http://example.org:80", "browsers send 'http://example.org'"),
        ("http://example.org:08080", "browsers send 'http://example.org:8080'"),
        ("http://example.org:", "browsers send 'http://example.org'"),
        ("http://[0:0::1]", r"browsers send 'http://\[::1\]'"),
        ("https://example.org\n", "can match nothing|no such host"),
    ],
)
def test_what_no_browser_sends(origin, message):
    with pytest.raises(ValueError, match=message):
        check_origin(origin)


@pytest.mark.parametrize(
    "header",
    [
        "localhost", "LocalHost:80", "localhost.", "127.0.0.1:8765", "[::1]:8765", "[::1]",
        "10.0.0.7", "metrics.internal:9", "Metrics.Internal.",
    ],
)  # fmt: skip
def test_names_of_ones_own(header):
    assert is_own_name(header, {"metrics.internal"})


@pytest.mark.parametrize(
    "header",
    [
        None, "", "evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil",
        "127.1", "[::1", "::1", "evil.example:80:80", "internal", "[]", "localhost:80x", "0x7f000001",
        "user@localhost", "localhost/", "metrics.internal..",
    ],
)  # fmt: skip
def test_names_of_others(header):
    assert not is_own_name(header, {"metrics.internal"})
