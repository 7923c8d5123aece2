"""A parent answers for all of its processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.health.kit import Listener, probe, quick, wait_port, wait_probe

HELD = """
import os, time
from pathlib import Path
while not Path("go").exists():
    time.sleep(0.01)
from tasks import app
"""


def live(body: dict[str, Any]) -> list[bool | None]:
    return [process["live"] for process in body["processes"]]


def test_it_has_started_when_all_were_ready(
    run: Start, folder: Path, server: Any, ledger: Ledger
) -> None:
    (folder / "held.py").write_text(HELD)
    env = quick(folder) | {"ASYNCJOBS_URL": server.url}
    process = run("worker", "held:app", "--processes", "2", "--health-port", "0", env=env)
    port = wait_port(process)
    assert [probe(port, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 503, 503]
    reasons = probe(port, "/startupz")[1]["reasons"]
    assert reasons == ["process 1 was not ready yet", "process 2 was not ready yet"]
    (folder / "go").touch()
    wait_probe(port, "/startupz", 200)
    wait_probe(port, "/readyz", 200)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_one_that_died_is_missed_until_a_new_one_is_ready(watched: Start, folder: Path) -> None:
    process = watched("--processes", "2")
    port = wait_port(process)
    before = wait_probe(port, "/readyz", 200)["processes"]
    os.kill(before[1]["pid"], signal.SIGKILL)
    (reason,) = wait_probe(port, "/readyz", 503)["reasons"]
    assert reason.startswith("process 2 is ")
    assert probe(port, "/livez")[0] == 200
    assert probe(port, "/startupz")[0] == 200
    after = wait_probe(port, "/readyz", 200)["processes"]
    assert after[0]["pid"] == before[0]["pid"]
    assert after[1]["pid"] != before[1]["pid"]
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_one_that_is_blocked_costs_readiness_and_all_that_are_cost_life(
    watched: Start, put: Put, folder: Path, ledger: Ledger
) -> None:
    process = watched("--processes", "2", "--concurrency", "1")
    port = wait_port(process)
    wait_probe(port, "/readyz", 200)
    put("block_until", str(folder / "first"))
    body = wait_probe(port, "/readyz", 503, lambda body: False in live(body))
    assert sorted(map(bool, live(body))) == [False, True]
    assert probe(port, "/livez")[0] == 200
    put("block_until", str(folder / "second"))
    assert wait_probe(port, "/livez", 503)["reasons"] == ["no worker process is live"]
    (folder / "first").touch()
    (folder / "second").touch()
    wait_probe(port, "/readyz", 200)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_one_that_says_nothing_is_not_live(watched: Start) -> None:
    process = watched("--processes", "2")
    port = wait_port(process)
    (first, _) = wait_probe(port, "/readyz", 200)["processes"]
    os.kill(first["pid"], signal.SIGSTOP)
    try:
        (reason,) = wait_probe(port, "/readyz", 503)["reasons"]
        assert reason.startswith("process 1 has said nothing for ")
    finally:
        os.kill(first["pid"], signal.SIGCONT)
    wait_probe(port, "/readyz", 200)
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_systemd_hears_the_parent_alone(work: Start, folder: Path) -> None:
    with Listener(str(folder / "notify")) as systemd:
        env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "400000"}
        process = work("--processes", "2", env=quick(folder) | env)
        systemd.wait_for("READY=1")
        systemd.wait_for("STATUS=taking jobs")
        systemd.wait_for("WATCHDOG=1")
        process.send(signal.SIGTERM)
        systemd.wait_for("STOPPING=1")
        assert process.end() == 0
    lines = systemd.lines
    assert (lines.count("READY=1"), lines.count("STOPPING=1")) == (1, 1)
    assert lines.index("READY=1") < lines.index("STOPPING=1")
