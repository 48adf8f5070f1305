"""Addresses that processes share, and who is told that one is taken."""

from __future__ import annotations

import contextlib
import socket

import pytest

from fastrnn.serve import listen


@pytest.mark.parametrize("spreads", [listen.SPREADS, False])
def test_an_address_for_processes(monkeypatch, spreads):
    monkeypatch.setattr(listen, "SPREADS", spreads)
    with listen.for_processes("127.0.0.1", 0) as place, contextlib.ExitStack() as stack:
        assert place.port > 0
        address = ("127.0.0.1", place.port)
        if spreads:
            with pytest.raises(ConnectionRefusedError):  # it is held, and nobody listens
                socket.create_connection(address)
            listeners = [
                stack.enter_context(socket.create_server(address, reuse_port=True))
                for _ in range(2)
            ]
        else:
            listeners = [place.socket]
        with socket.create_connection(address):
            pass
        with (
            pytest.raises(OSError, match="in use"),
            listen.for_processes("127.0.0.1", place.port),
        ):
            pass
        assert listeners
    with listen.for_processes("127.0.0.1", place.port):
        pass  # it is free again


@pytest.mark.parametrize("waiting", [0, 2])
def test_a_unix_socket_on_which_somebody_listens(tmp_path, waiting):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        for _ in range(waiting):  # it takes nobody, and soon nobody can wait any more
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
        with pytest.raises(OSError, match="somebody listens there"), listen.in_file_system(path):
            pass


def test_a_unix_socket_that_cannot_be(tmp_path):
    for path, message in (
        (tmp_path / ("x" * 150), "too long"),
        (tmp_path / "nowhere" / "socket", "No such file or directory: .*socket"),
        (tmp_path, "there is a file, which is no socket"),
    ):
        with pytest.raises(OSError, match=message), listen.in_file_system(str(path)):
            pass
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(tmp_path / "datagrams")
    with other:
        other.bind(path)
        with pytest.raises(OSError, match=r"rong type.*datagrams"), listen.in_file_system(path):
            pass


def test_every_address_of_a_name_has_the_same_port():
    with listen.for_processes("localhost", 0) as place:
        assert place.port > 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("localhost", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
        ("", False), ("example.org", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches(host, expected):
    assert listen.is_loopback(host) == expected
