"""The server of the probes: what it answers, and what a stranger can cost it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from asyncjobs.errors import AsyncJobsError, ConfigError
from asyncjobs.host.health import server as module
from asyncjobs.host.health.server import Answer, ProbeServer, bind

LIMIT_S = 20.0


def fail() -> Answer:
    raise RuntimeError("planted")


ROUTES: dict[str, Callable[[], Answer]] = {
    "/livez": lambda: Answer(HTTPStatus.OK, b"alive\n"),
    "/fail": fail,
}


@pytest.fixture
def server() -> Iterator[ProbeServer]:
    server = ProbeServer(bind("127.0.0.1", 0, flag="--health-port"), ROUTES)
    server.start()
    yield server
    server.stop()


def connect(server: ProbeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), LIMIT_S)


def read_all(connection: socket.socket) -> bytes:
    text = b""
    while piece := connection.recv(65536):
        text += piece
    return text


def is_cut_off(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def ask(server: ProbeServer, request: bytes) -> bytes:
    with connect(server) as connection:
        connection.sendall(request)
        return read_all(connection)


def test_a_get_is_answered_and_closed(server: ProbeServer) -> None:
    text = ask(server, b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert (lines[0], body) == (b"HTTP/1.1 200 OK", b"alive\n")
    assert {b"Content-Length: 6", b"Connection: close", b"Cache-Control: no-store"} <= set(lines)


def test_a_head_has_the_same_headers_and_no_body(server: ProbeServer) -> None:
    get = ask(server, b"GET /livez HTTP/1.1\r\n\r\n")
    head = ask(server, b"HEAD /livez HTTP/1.1\r\n\r\n")
    assert head == get.removesuffix(b"alive\n")
    assert head != get


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /livez HTTP/1.1", b"405 Method Not Allowed"),
        (b"GET /other HTTP/1.1", b"404 Not Found"),
        (b"GET livez HTTP/1.1", b"400 Bad Request"),
        (b"GET /livez HTTP/2", b"400 Bad Request"),
        (b"GET /livez", b"400 Bad Request"),
        (b"\x16\x03\x01\xff", b"400 Bad Request"),
        (b"GET /fail HTTP/1.1", b"500 Internal Server Error"),
        (b"GET /" + b"x" * 30_000 + b" HTTP/1.1", b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_refused(server: ProbeServer, request_line: bytes, status: bytes) -> None:
    text = ask(server, request_line + b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert (b"\r\nAllow: GET, HEAD\r\n" in text) == status.startswith(b"405")
    assert ask(server, b"GET /livez HTTP/1.1\r\n\r\n").endswith(b"alive\n")


def test_a_request_that_never_ends_is_cut_off(
    server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    with connect(server) as slow:
        slow.sendall(b"GET /li")
        assert is_cut_off(slow)


def test_connections_over_the_limit_are_cut_off(
    server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 1)
    with connect(server) as first:
        # Accepted in their order, so the second one finds the first there.
        with connect(server) as second:
            assert is_cut_off(second)
        first.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert read_all(first).endswith(b"alive\n")


def test_after_the_stop_nobody_listens(server: ProbeServer) -> None:
    ask(server, b"GET /livez HTTP/1.1\r\n\r\n")
    port = server.port
    with connect(server):
        server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), LIMIT_S)


def test_a_stop_before_the_start_was_over() -> None:
    server = ProbeServer(bind("127.0.0.1", 0, flag="--health-port"), ROUTES)
    server.start()
    server.stop()
    assert not server._thread.is_alive()


def test_a_port_in_use_is_no_error_of_the_configuration() -> None:
    with bind("127.0.0.1", 0, flag="--health-port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AsyncJobsError, match=f"--health-port {port} .* in use") as error:
            bind("127.0.0.1", port, flag="--health-port")
    assert not isinstance(error.value, ConfigError)


def test_an_address_of_another_machine_is_one() -> None:
    with pytest.raises(ConfigError, match=r"--health-port 0 on 203\.0\.113\.1: cannot listen"):
        bind("203.0.113.1", 0, flag="--health-port")


def test_both_families() -> None:
    try:
        listener = bind("::1", 0, flag="--health-port")
    except ConfigError:
        pytest.skip("no IPv6 on this machine")
    with listener:
        assert listener.family == socket.AF_INET6
