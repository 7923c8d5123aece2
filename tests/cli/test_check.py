"""`asyncjobs check`: is the store there, and does somebody run its jobs?"""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from tests.cli.conftest import Put, Start
from tests.cli.operator import operate
from tests.cli.test_worker import closed_port, stop


def test_an_empty_store_is_healthy(folder: Path, server: Server) -> None:
    done = operate(folder, "check", env={"ASYNCJOBS_URL": server.url})
    assert (done.code, done.err) == (0, "")
    first, second, last = done.out.splitlines()
    assert first == f"store: valkey {server.version} at {server.url}/0"
    assert second.startswith("no queue yet")
    assert last == "healthy"


def test_jobs_that_nobody_runs_are_unhealthy(
    folder: Path, server: Server, put: Put, work: Start
) -> None:
    put("nap", 0, number=3)
    alone = operate(folder, "check", "--url", server.url)
    assert alone.code == 1
    assert alone.row("default") == ["default", "3", "0", "0", "0", "0", "no worker"]
    assert "queue 'default' holds 3 jobs and has no live worker; start one" in alone.out
    assert alone.out.splitlines()[-1] == "unhealthy"
    wrong = work("--queues", "mail")
    wrong.wait_started()
    assert operate(folder, "check", "--url", server.url).code == 1
    assert stop(wrong) == 0
    worker = work("--name", "one")
    worker.wait_started()
    done = operate(folder, "check", "--url", server.url, "--json")
    assert done.code == 0
    fields = done.json()
    assert fields["healthy"] is True
    assert (fields["warnings"], fields["problems"]) == ([], [])
    (queue,) = [queue for queue in fields["queues"] if queue["queue"] == "default"]
    assert (queue["workers"], queue["healthy"]) == (1, True)
    assert stop(worker) == 0


def test_a_paused_queue_needs_no_worker(folder: Path, server: Server, put: Put) -> None:
    put("nap", 0, number=2)
    env = {"ASYNCJOBS_URL": server.url}
    assert operate(folder, "queues", "pause", "default", "--reason", "a fix", env=env).code == 0
    done = operate(folder, "check", env=env)
    assert done.code == 0
    assert done.row("default") == ["default", "2", "0", "0", "0", "0", "paused"]
    assert "a fix" in done.out
    (queue,) = operate(folder, "check", "--json", env=env).json()["queues"]
    assert (queue["healthy"], queue["paused"]) == (True, True)
    assert operate(folder, "queues", "resume", "default", env=env).code == 0
    assert operate(folder, "check", env=env).code == 1


def test_scheduled_jobs_need_a_worker_too(folder: Path, server: Server) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    assert operate(folder, "enqueue", "tasks:app", "tasks.send", "--delay", "1h", env=env).code == 0
    done = operate(folder, "check", "--json", env=env)
    assert done.code == 1
    (queue,) = done.json()["queues"]
    assert (queue["queue"], queue["scheduled"], queue["healthy"]) == ("mail", 1, False)


def test_dead_letters_need_no_worker(folder: Path, server: Server, put: Put, work: Start) -> None:
    put("fail")
    assert work("--burst", "--burst-wait", "0s").end() == 0
    done = operate(folder, "check", "--url", server.url)
    assert done.code == 0
    assert done.row("default")[4:] == ["1", "0", "ok"]


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_store_that_throws_jobs_away_is_unhealthy(folder: Path, kind: ServerKind) -> None:
    if kind not in available_servers():
        # Debian's server is no requirement; the wheel's has no build for Alpine and Windows.
        pytest.skip(f"no {kind} server on this machine")
    with start_server(kind, config={"maxmemory-policy": "allkeys-lru"}) as server:
        done = operate(folder, "check", "--json", "--url", server.url)
        assert done.code == 1
        assert done.json()["healthy"] is False
        assert "maxmemory-policy allkeys-lru" in done.json()["error"]
        server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        warned = operate(folder, "check", "--url", server.url)
        assert warned.code == 0
        assert "warning: the store at" in warned.out


def test_an_unreachable_store(folder: Path) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    done = operate(folder, "check", "--url", url)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"Error: the store at {url}/0 is not available")
    told = operate(folder, "check", "--url", url, "--json")
    assert told.code == 3
    assert told.json()["healthy"] is False
    assert url in told.json()["error"]


def test_a_store_of_another_layout(folder: Path, server: Server) -> None:
    server.command("SET", "asyncjobs:layout", "99 9.9")
    done = operate(folder, "check", "--url", server.url)
    assert done.code == 3
    assert "layout '99'" in done.err
    # Another prefix is another store, as far as anybody can tell.
    assert operate(folder, "check", "--url", server.url, "--prefix", "mine").code == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--url", "ftp://somewhere"], "unknown scheme 'ftp'"),
        (["--url", "redis://localhost:port"], "look at host and port"),
        (["--url", "memory:", "--prefix", "{x}"], "prefix='{x}' cannot start the store's keys"),
    ],
)
def test_what_cannot_be_a_store(folder: Path, args: list[str], expected: str) -> None:
    done = operate(folder, "check", *args)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


def test_no_password_is_shown(folder: Path, server: Server) -> None:
    url = server.url.replace("redis://", "redis://:sesame@")
    done = operate(folder, "check", "--url", url)
    assert done.code == 1
    assert "refused the credentials" in done.err
    assert "sesame" not in done.out + done.err


def test_the_app_is_never_imported(folder: Path, server: Server) -> None:
    (folder / "tasks.py").write_text("raise SystemExit(9)")
    env = {"ASYNCJOBS_APP": "tasks:app", "ASYNCJOBS_URL": server.url}
    assert operate(folder, "check", env=env).code == 0


def test_without_a_url_it_is_the_embedded_store(folder: Path) -> None:
    if "valkey" not in available_servers():
        # It is the server from the wheel, which has no build for Alpine and Windows.
        pytest.skip("no embedded store on this machine")
    (folder / "pyproject.toml").touch()
    done = operate(folder, "check")
    assert done.code == 0
    assert f"embedded in {folder / '.asyncjobs'}" in done.out
    assert operate(folder, "check", "--json").json()["store"]["embedded"] is True
    refused = operate(folder, "check", env={"ASYNCJOBS_ENV": "production"})
    assert refused.code == 2
    assert "set ASYNCJOBS_URL" in refused.err


def test_colors_on_a_terminal_only(folder: Path, server: Server) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    green = "\x1b[32m"
    shown = operate(folder, "check", env=env, terminal=True)
    assert f"{green}healthy" in shown.out
    plain = operate(folder, "check", env=env | {"NO_COLOR": "1"}, terminal=True)
    assert "healthy" in plain.out
    assert green not in plain.out
    assert "\x1b" not in operate(folder, "check", env=env).out
