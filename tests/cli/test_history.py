"""`asyncjobs history`: jobs that have ended, and what job functions took."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.model.clock import now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.histogram import ENDS_MS, histogram_of
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.dying import on_store
from tests.cli.test_usage import call
from tests.cli.test_worker import closed_port


def history(server: Server, *args: str) -> Result:
    return call("history", *args, env={"ASYNCJOBS_URL": server.url})


def in_json(server: Server, *args: str) -> dict[str, Any]:
    result = history(server, *args, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def rows(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()]


@pytest.fixture
def past(server: Server) -> Server:
    """Two jobs that have ended, one of them dead, and figures of this minute and of yesterday."""
    on_store(server.url, _past)
    return server


async def _past(store: RedisBackend) -> None:
    new = [NewJob("default", name, 2, b"{}") for name in ("a", "b")]
    await store.enqueue(EnqueueBatch("token", new))
    lease = await store.lease(LeaseSpec("lease", "w1", ("default",), 30_000))
    a, b = (await lease.exchange(1, (), {"default": Demand(2)})).jobs
    began_ms = a.ready_ms
    a, b = (job._replace(ready_ms=began_ms - 40) for job in (a, b))
    failed = ("shop.pay", 3, a.ready_ms, began_ms, 1.0, 1.25, "ValueError: \x1b[31mno")
    await lease.exchange(
        2,
        [
            Settlement.succeeded(a, run=("shop.ship", 1, a.ready_ms, began_ms, 1.0, 1.25)),
            Settlement.dead(b, b"{}\n{}").telling(failed),
        ],
        {},
    )
    await lease.leave()
    minute = now_ms() // MINUTE_MS * MINUTE_MS
    queued, ran = histogram_of([40.0] * 4, ENDS_MS), histogram_of([0.25] * 4)
    await store.add_figures(
        [
            Figures("default", "shop.ship", minute, 4, 0, queued, ran),
            Figures("default", "shop.pay", minute, 4, 1, queued, ran),
            Figures("default", "shop.ship", minute - 25 * HOUR_MS, 4, 0, queued, ran),
        ]
    )


def test_jobs_that_have_ended(past: Server) -> None:
    result = history(past, "jobs")
    assert result.exit_code == 0
    assert result.stderr == "2 finished jobs\n"
    head, dead, succeeded = rows(result)
    assert head == ["job", "function", "state", "ended", "attempt", "queued", "ran", "error"]
    assert dead[:3] == ["default/b", "shop.pay", "dead"]
    assert dead[4:] == ["3", "40ms", "250ms", "ValueError: \\x1b[31mno"]
    assert succeeded[:3] == ["default/a", "shop.ship", "succeeded"]
    assert succeeded[4:] == ["1", "40ms", "250ms", ""]
    last, first = in_json(past, "jobs")["jobs"]
    assert (last["job"], last["state"], last["worker"]) == ("default/b", "dead", "w1")
    assert (first["ran_s"], first["error"], first["function"]) == (0.25, None, "shop.ship")
    assert first["ready_at"] < first["began_at"]


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (("--state", "dead"), ["default/b"]),
        (("--state", "succeeded", "--state", "cancelled"), ["default/a"]),
        (("--function", "shop.ship"), ["default/a"]),
        (("--error", "valueerror"), ["default/b"]),
        (("--limit", "1"), ["default/b"]),
        (("--since", "1h", "--queue", "default"), ["default/b", "default/a"]),
        (("--queue", "other", "--since", "1h"), []),
    ],
)
def test_filters(past: Server, flags: tuple[str, ...], found: list[str]) -> None:
    assert [job["job"] for job in in_json(past, "jobs", *flags)["jobs"]] == found


def test_what_functions_took(past: Server) -> None:
    result = history(past, "functions")
    assert result.exit_code == 0
    head, pay, ship = rows(result)
    assert head[:5] == ["queue", "function", "attempts", "failed", "queued p50"]
    assert pay[:4] == ["default", "shop.pay", "4", "1 (25 %)"]
    assert ship[:4] == ["default", "shop.ship", "4", "0"]
    assert len(set(ship[4:7])) == len(set(ship[7:])) == 1
    (found,) = in_json(past, "functions", "--function", "shop.pay")["functions"]
    assert (found["attempts"], found["failed"]) == (4, 1)
    assert found["queued_s"]["p50"] == pytest.approx(0.04, rel=0.1)
    assert found["ran_s"]["p99"] == pytest.approx(0.25, rel=0.1)


def test_spans_of_time(past: Server) -> None:
    answer = in_json(past, "functions", "--since", "2d", "--function", "shop.ship")
    assert [each["attempts"] for each in answer["functions"]] == [8]
    answer = in_json(past, "functions", "--since", "2d", "--step", "1h", "--function", "shop.ship")
    assert [each["attempts"] for each in answer["functions"]] == [4, 4]
    head, *_ = rows(history(past, "functions", "--step", "5m"))
    assert head[:2] == ["from", "queue"]


def test_without_a_past(server: Server) -> None:
    result = history(server, "jobs")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no finished job\n")
    result = history(server, "functions")
    assert (result.exit_code, result.stdout) == (0, "no attempt has ended in this time\n")


@pytest.mark.parametrize(
    "args",
    [
        ("functions", "--since", "1s"),
        ("functions", "--since", "31d"),
        ("functions", "--step", "1s"),
        ("jobs", "--state", "ready"),
        ("jobs", "--limit", "0"),
        ("jobs", "--queue", "no queue"),
    ],
)
def test_wrong_usage(server: Server, args: tuple[str, ...]) -> None:
    assert history(server, *args).exit_code == 2


def test_a_queue_that_cannot_be_read(past: Server) -> None:
    key = "{asyncjobs:default}:history"
    past.command("DEL", key)
    past.command("SET", key, "x")
    try:
        result = history(past, "jobs")
        assert result.exit_code == 1
        assert "queue 'default' cannot be read" in result.stderr
    finally:
        past.command("DEL", key)


def test_a_store_that_is_away() -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    for command in ("jobs", "functions"):
        assert call("history", command, env={"ASYNCJOBS_URL": url}).exit_code == 3
