"""One worker process: what its probes, its file and systemd hear, in health and in faults."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest

from asyncjobs.testing.servers import start_server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.health.kit import Listener, probe, quick, wait_port, wait_probe
from tests.kit.waiting import ticks

PATHS = ("/livez", "/readyz", "/startupz")


def test_a_worker_is_live_before_it_is_ready(run: Start, folder: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        process = run(
            "worker", "tasks:app", "--health-port", "0", env={"ASYNCJOBS_URL": url} | quick(folder)
        )
        port = wait_port(process)
        assert [probe(port, path)[0] for path in PATHS] == [200, 503, 503]
        assert probe(port, "/startupz")[1]["reasons"] == ["the worker has not registered yet"]


def test_then_it_is_ready_and_says_who_it_is(watched: Start) -> None:
    process = watched("--name", "first")
    port = wait_port(process)
    body = wait_probe(port, "/readyz", 200)
    assert body == {"ok": True, "reasons": [], "worker": "first"}
    assert [probe(port, path)[0] for path in PATHS] == [200, 200, 200]
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_a_blocked_loop_is_told_while_it_lasts(watched: Start, put: Put, folder: Path) -> None:
    file = folder / "health"
    process = watched("--health-file", str(file))
    port = wait_port(process)
    put("block_until", str(folder / "free"))
    (reason,) = wait_probe(port, "/livez", 503)["reasons"]
    assert reason.startswith("the event loop is blocked, for ")
    assert probe(port, "/readyz")[0] == 503
    assert probe(port, "/startupz")[0] == 200
    stale = file.stat().st_mtime_ns
    assert wait_probe(port, "/livez", 503, lambda body: reason not in body["reasons"])
    assert file.stat().st_mtime_ns == stale
    (folder / "free").touch()
    wait_probe(port, "/readyz", 200)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_without_its_store_a_worker_is_live_and_not_ready(
    run: Start, folder: Path, ledger: Ledger
) -> None:
    with start_server("valkey") as own:
        process = run(
            *("worker", "tasks:app", "--health-port", "0", "--lease", "1s"),
            env={"ASYNCJOBS_URL": own.url} | quick(folder),
        )
        port = wait_port(process)
        wait_probe(port, "/readyz", 200)
    (reason,) = wait_probe(port, "/readyz", 503)["reasons"]
    assert reason.startswith("the lease was last confirmed ")
    assert [probe(port, path)[0] for path in PATHS] == [200, 503, 200]


def test_a_worker_that_stops_is_live_and_not_ready(
    watched: Start, put: Put, ledger: Ledger
) -> None:
    put("nap", 600)
    process = watched()
    port = wait_port(process)
    ledger.wait_for("began", 1)
    assert probe(port, "/readyz")[0] == 200
    process.send(signal.SIGTERM)
    assert wait_probe(port, "/readyz", 503)["reasons"] == ["the worker is stopping"]
    assert probe(port, "/livez")[0] == 200
    process.send(signal.SIGTERM)
    assert process.end() == 4


def test_one_that_takes_no_more_jobs_is_not_ready(watched: Start, put: Put, folder: Path) -> None:
    put("wait_for_file", str(folder / "go"))
    process = watched("--max-jobs", "1")
    reason = "the worker is quiet: it takes no more jobs"
    assert wait_probe(wait_port(process), "/readyz", 503, lambda b: reason in b["reasons"])
    (folder / "go").touch()
    assert process.end() == 0


def test_the_file_is_written_anew_and_removed(work: Start, folder: Path) -> None:
    file = folder / "health"
    process = work("--health-file", str(file), env=quick(folder))
    process.wait_started()
    seen: set[int] = set()
    for _ in ticks():
        seen.add(file.stat().st_mtime_ns)
        if len(seen) > 3 and json.loads(file.read_bytes())["ready"]:
            break
    assert json.loads(file.read_bytes())["pid"] == process.process.pid
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert [path.name for path in folder.iterdir() if "health" in path.name] == []


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_hears_in_order(work: Start, folder: Path, put: Put, kind: str) -> None:
    address = f"@asyncjobs-{os.getpid()}" if kind == "abstract" else str(folder / "notify")
    with Listener(address) as systemd:
        env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        process = work(env=quick(folder) | env)
        systemd.wait_for("READY=1")
        systemd.wait_for("STATUS=taking jobs")
        put("block_until", str(folder / "free"))
        systemd.wait_for("STATUS=the event loop is blocked")
        count = systemd.lines.count("WATCHDOG=1")
        (folder / "free").touch()
        systemd.wait_next("STATUS=taking jobs")
        systemd.wait_next("WATCHDOG=1")
        process.send(signal.SIGTERM)
        systemd.wait_for("STOPPING=1")
        assert process.end() == 0
    lines = systemd.lines
    assert count >= 1
    assert (lines.count("READY=1"), lines.count("STOPPING=1")) == (1, 1)
    blocked = lines.index("STATUS=the event loop is blocked")
    assert lines.index("READY=1") < blocked < lines.index("STOPPING=1")
    free = lines.index("STATUS=taking jobs", blocked)
    assert "WATCHDOG=1" not in lines[blocked:free]


def test_a_port_in_use_passes_and_ends_with_1(work: Start) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for more in ((), ("--processes", "2")):
            process = work("--health-port", str(port), *more)
            assert process.end() == 1
            (told,) = process.records()
            assert told["event"].startswith(f"--health-port {port} on 127.0.0.1: the port is in")
            assert told["level"] == "critical"


def test_what_a_restart_cannot_mend_ends_with_2(work: Start, folder: Path) -> None:
    for flags in (
        ("--health-port", "0", "--health-host", "203.0.113.1"),
        ("--health-file", str(folder / "nowhere" / "health")),
    ):
        process = work(*flags)
        assert process.end() == 2
        (told,) = process.records()
        assert told["event"].startswith(flags[0])


def test_the_variables_of_the_environment(work: Start, folder: Path) -> None:
    file = folder / "health"
    env = {"ASYNCJOBS_WORKER_HEALTH_PORT": "0", "ASYNCJOBS_WORKER_HEALTH_FILE": str(file)}
    process = work(env=quick(folder) | env)
    wait_probe(wait_port(process), "/readyz", 200)
    assert file.exists()
    process.send(signal.SIGTERM)
    assert process.end() == 0
