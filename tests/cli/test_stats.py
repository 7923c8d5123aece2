"""`asyncjobs stats`: queues, rates, workers; once, or again and again."""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.model.ends import ENDS
from asyncjobs.testing.servers import Server, start_server
from tests.cli.conftest import Put, Start
from tests.cli.operator import operate
from tests.cli.process import Ledger, Process
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port
from tests.kit.environment import LIMIT_S


def next_line(process: Process) -> Any:
    """The next JSON line that the command prints; killed when it prints none."""
    assert process.process.stdout is not None
    limit = threading.Timer(LIMIT_S, process.process.kill)
    limit.start()
    try:
        line = process.process.stdout.readline()
    finally:
        limit.cancel()
    assert line, process.text
    return json.loads(line)


def test_queues_and_workers(
    folder: Path, server: Server, put: Put, work: Start, ledger: Ledger
) -> None:
    put("nap", 60, number=5)
    put("send", number=2)
    worker = work("--concurrency", "1", "--name", "blue", "--queues", "default")
    ledger.wait_for("began", 1)
    done = operate(folder, "stats", "--json", "--url", server.url)
    assert (done.code, done.err) == (0, "")
    fields = done.json()
    assert fields["store"]["version"] == server.version
    default, mail = fields["queues"]
    assert (default["queue"], mail["queue"]) == ("default", "mail")
    assert default["ready"] == {"critical": 0, "high": 0, "normal": 4, "low": 0}
    assert (default["running"], default["scheduled"], default["dead"]) == (1, 0, 0)
    assert (default["workers"], mail["workers"]) == (1, 0)
    assert default["oldest_ready_s"] > 0
    assert (default["outbox"], default["oldest_outbox_s"]) == (0, None)
    assert sum(mail["ready"].values()) == 2
    assert 0 < mail["per_second"]["enqueued"] <= 2 / 60
    (entry,) = fields["workers"]
    assert (entry["worker"], entry["pid"]) == ("blue", worker.process.pid)
    assert (entry["queues"], entry["concurrency"]) == (["default"], 1)
    assert 0 < entry["lease_left_s"] <= 15
    assert entry["lease_age_s"] > 0


def test_as_text(folder: Path, server: Server, put: Put, work: Start, ledger: Ledger) -> None:
    put("nap", 0, number=3)
    put("fail")
    assert work("--burst", "--burst-wait", "0s", "--queues", "default").end() == 0
    done = operate(folder, "stats", "--url", server.url)
    assert done.code == 0
    heads = [row for row in done.rows() if row[0] == "queue"]
    assert heads == [
        [
            "queue",
            "critical",
            "high",
            "normal",
            "low",
            "running",
            "scheduled",
            "dead",
            "workers",
            "oldest",
        ],
        ["queue", "enqueued", *ENDS, "rescheduled"],
    ]
    counts, rates = [row for row in done.rows() if row[0] == "default"]
    assert counts[1:] == ["0", "0", "0", "0", "0", "0", "1", "0", "-"]
    assert float(rates[1]) > 0
    assert "no worker; start one" in done.out


def test_ends_are_counted(folder: Path, server: Server, put: Put, work: Start) -> None:
    put("nap", 0, number=6)
    put("fail", number=3)
    assert work("--burst", "--burst-wait", "0s").end() == 0
    default, _ = operate(folder, "stats", "--json", "--url", server.url).json()["queues"]
    rates = default["per_second"]
    assert rates["succeeded"] == pytest.approx(2 * rates["dead"], abs=0.002)
    assert rates["succeeded"] > 0
    assert (rates["discarded"], rates["cancelled"], rates["rescheduled"]) == (0, 0, 0)


def test_a_table_on_a_terminal_of_80(
    folder: Path, server: Server, put: Put, work: Start, ledger: Ledger
) -> None:
    put("nap", 60)
    work("--name", "blue")
    ledger.wait_for("began", 1)
    env = {"ASYNCJOBS_URL": server.url, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    done = operate(folder, "stats", env=env, terminal=True)
    assert done.code == 0
    assert "\t" not in done.out
    assert "…" not in done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "queue critical high normal low running scheduled dead workers oldest" in lines
    assert "default 0 0 0 0 1 0 0 1 -" in lines
    assert any(line.startswith("blue ") for line in lines)


def test_an_empty_store(folder: Path, server: Server) -> None:
    done = operate(folder, "stats", "--url", server.url)
    assert done.code == 0
    assert "no queue yet" in done.out
    assert operate(folder, "stats", "--json", "--url", server.url).json()["queues"] == []


@pytest.mark.unaudited("its workers are planted, without exchanges")
def test_stored_text_cannot_steer_the_terminal(folder: Path, server: Server, put: Put) -> None:
    put("send")
    key = "{asyncjobs:mail}:workers"
    server.command("ZADD", key, "9999999999999", "lease-1", "9999999999999", "lease-2")
    server.command("HSET", f"{key}:info", "lease-1", '{"worker": "\\u001b[2Jevil"}')
    server.command("HSET", f"{key}:info", "lease-2", "[1")
    server.command("SADD", "asyncjobs:queues", b"\xff\x1b[2J")
    done = operate(folder, "stats", "--url", server.url)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "\\x1b[2Jevil" in done.out


def test_an_unreachable_store(folder: Path) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    done = operate(folder, "stats", "--url", url)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"Error: the store at {url}/0 is not available")


def test_watching_ends_with_a_signal(run: Start, server: Server, put: Put) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    watching = run("stats", "--watch", "100ms", "--json", env=env)
    assert next_line(watching)["queues"] == []
    put("send")
    while not (queues := next_line(watching)["queues"]):
        continue
    assert queues[0]["queue"] == "mail"
    watching.send(signal.SIGINT)
    assert (watching.end(), watching.text) == (0, "")


def test_watching_needs_no_number(run: Start, server: Server) -> None:
    watching = run("stats", "--watch", "--json", env={"ASYNCJOBS_URL": server.url})
    assert next_line(watching)["workers"] == []
    watching.send(signal.SIGTERM)
    assert watching.end() == 0


def test_watching_outlasts_the_store(run: Start) -> None:
    with start_server("valkey") as server:
        watching = run("stats", "--watch", "100ms", "--json", env={"ASYNCJOBS_URL": server.url})
        next_line(watching)
        server.kill()
        watching.wait_for("is not available")
        back_at = datetime.now(UTC)
        server.restart()
        while datetime.fromisoformat(next_line(watching)["at"]) < back_at:
            continue
        watching.send(signal.SIGINT)
        assert watching.end() == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--watch", "0"], "it must be at least 0.1s"),
        (["--watch", "often"], "'often' is not a duration"),
        (["--jsom"], "Did you mean '--json'?"),
    ],
)
def test_usage(args: list[str], expected: str) -> None:
    result = call("stats", *args)
    assert result.exit_code == 2
    assert expected in result.output
