"""What strangers at the metrics port can cost: a few files and no threads, for a few seconds."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import pytest

from asyncjobs.host.health import server as module
from asyncjobs.host.health.server import Answer, ProbeServer, Request, listen
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.health.kit import probe, wait_port
from tests.kit.environment import LIMIT_S
from tests.telemetry.test_scrape import fetch, free_port, until

pytest.importorskip("opentelemetry.exporter.prometheus", reason="extra prometheus is missing")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts files by /proc")
IDLE = 300


OWN = 30
"""Files and threads that a process may add for itself meanwhile; far fewer than IDLE."""


@contextmanager
def idle_connections(port: int) -> Iterator[list[socket.socket]]:
    """Connections that never ask for anything."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT_S))
            for _ in range(IDLE)
        ]


def held(pid: int, what: str) -> int:
    """How many files (`fd`) or threads (`task`) the process has."""
    return len(os.listdir(f"/proc/{pid}/{what}"))


def closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@on_linux
def test_idle_connections_take_neither_files_nor_threads_of_a_worker(
    work: Start, put: Put, server: Server, ledger: Ledger
) -> None:
    port = free_port()
    worker = work("--metrics-port", str(port), "--health-port", "0")
    health = wait_port(worker)
    until(lambda: fetch(f"http://127.0.0.1:{port}/metrics"))
    pid = worker.process.pid
    before = held(pid, "fd"), held(pid, "task")
    with idle_connections(port) as connections:
        # The server has looked at all of them once it has refused so many.
        until(lambda: sum(map(closed, connections)) >= IDLE - module.MOST_CONNECTIONS)
        assert held(pid, "fd") - before[0] <= module.MOST_CONNECTIONS + OWN
        assert held(pid, "task") - before[1] <= OWN
        assert probe(health, "/livez")[0] == HTTPStatus.OK
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        put("nap", 0)
        ledger.wait_for("ended", 1)
        # They are cut off in time, though they stay: then there is room for Prometheus.
        assert "asyncjobs_worker_slots" in until(lambda: fetch(f"http://127.0.0.1:{port}/metrics"))
    worker.send(signal.SIGTERM)
    assert worker.end() == 0


@on_linux
def test_nor_of_an_exporter(run: Start, put: Put, server: Server) -> None:
    port = free_port()
    put("send", number=5)
    exporter = run("exporter", "--port", str(port), "--url", server.url)
    until(lambda: fetch(f"http://127.0.0.1:{port}/metrics"))
    pid = exporter.process.pid
    before = held(pid, "fd"), held(pid, "task")
    with idle_connections(port) as connections:
        until(lambda: sum(map(closed, connections)) >= IDLE - module.MOST_CONNECTIONS)
        assert held(pid, "fd") - before[0] <= module.MOST_CONNECTIONS + OWN
        assert held(pid, "task") - before[1] <= OWN
        assert "asyncjobs_queue_jobs" in until(lambda: fetch(f"http://127.0.0.1:{port}/metrics"))
    exporter.send(signal.SIGTERM)
    assert exporter.end() == 0


def test_the_formats_that_prometheus_asks_for_are_kept(run: Start, server: Server) -> None:
    port = free_port()
    exporter = run("exporter", "--port", str(port), "--url", server.url)
    url = f"http://127.0.0.1:{port}"
    plain = until(lambda: fetch(f"{url}/metrics"))
    assert "# TYPE python_info gauge" in plain
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    asked = urllib.request.Request(f"{url}/?name[]=python_info", headers=wanted)
    with urllib.request.urlopen(asked, timeout=LIMIT_S) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.headers["Content-Encoding"] == "gzip"
        text = gzip.decompress(answer.read()).decode()
    assert "python_info" in text
    assert "python_gc" not in text
    assert text.endswith("# EOF\n")
    exporter.send(signal.SIGTERM)
    assert exporter.end() == 0


# The server itself


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    servers: list[ProbeServer] = []

    def start(slow: Callable[[Request], Answer]) -> int:
        quick = {"/quick": lambda: Answer(HTTPStatus.OK, b"quick")}
        server = ProbeServer(listen("127.0.0.1", 0), quick, slow={"/slow": slow})
        servers.append(server)
        server.start()
        return server.port

    yield start
    for server in servers:
        server.stop()


def get(port: int, path: str, headers: str = "") -> bytes:
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer


def test_a_slow_route_holds_up_nobody_and_is_asked_by_one_at_a_time(
    serve: Callable[..., int],
) -> None:
    gate, asked = threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def slow(request: Request) -> Answer:
        running.append(len(running))
        asked.release()
        gate.wait(LIMIT_S)
        return Answer(HTTPStatus.OK, f"{request.query} {request.headers['x-a']}".encode())

    port = serve(slow)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(get(port, "/slow?q=1", "X-A:  b \r\n")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert asked.acquire(timeout=LIMIT_S)
    for _ in range(5):
        assert get(port, "/quick").endswith(b"\r\n\r\nquick")
    assert len(running) == 1
    gate.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [answer.rpartition(b"\r\n\r\n")[2] for answer in answers] == [b"q=1 b"] * 3


def test_one_that_hangs_is_given_up_and_one_that_fails_is_said(
    serve: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    gate = threading.Event()

    def slow(request: Request) -> Answer:
        if not request.query:
            gate.wait(LIMIT_S)
        raise ValueError("planted fault")

    port = serve(slow)
    threads = threading.active_count()
    for _ in range(5):
        assert get(port, "/slow") == b""
    assert threading.active_count() <= threads + 1
    gate.set()
    until(lambda: b" 500 " in get(port, "/slow?q"))
