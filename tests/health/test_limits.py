"""When a process counts as dead: for how long its loop may stand still, on both sides."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.health import ParentHealth, WorkerHealth
from asyncjobs.host.health import condition, fleet
from asyncjobs.host.health.health import Health, HealthOptions
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.supervisor import Supervisor
from tests.health.kit import probe

pytestmark = pytest.mark.anyio

LIMIT_S = 10.0
"""What docs/guides/deploying.md says of /livez, and what a liveness probe is set up by."""
START_S = 1000.0
SERVED = HealthOptions(port=0)


class Clock:
    """Stands where the health reads the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = START_S
        for module in (condition, fleet):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now_s))


def of_a_worker() -> Health:
    return WorkerHealth(SERVED, Worker(AsyncJobs("memory:")), None)


def of_a_parent(reported_s: float) -> Health:
    """With one process, which has reported then."""
    child = SimpleNamespace(pid=1, is_alive=True, was_ready=True, report=({}, reported_s))
    health = ParentHealth(SERVED, "all")
    processes = SimpleNamespace(
        size=1, is_stopping=False, children=lambda: {1: cast("Child", child)}
    )
    health.supervisor = cast("Supervisor", processes)
    return health


async def is_live(health: Health, clock: Clock, silent_s: float, mark_s: float = START_S) -> bool:
    """What /livez says when the loop has not turned for so long."""
    assert health._pulse is not None
    assert health._server is not None
    health._pulse.stop()
    health._pulse.mark_s = mark_s
    clock.now_s = START_S + silent_s
    answer: tuple[int, dict[str, Any]] = await asyncio.to_thread(
        probe, health._server.port, "/livez"
    )
    assert answer[0] == (200 if answer[1]["ok"] else 503)
    return answer[0] == 200


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("whose", ["worker", "parent"])
async def test_a_loop_may_stand_still_for_ten_seconds(clock: Clock, whose: str) -> None:
    health = of_a_worker() if whose == "worker" else of_a_parent(START_S + LIMIT_S)
    async with health:
        assert await is_live(health, clock, LIMIT_S - 0.001)
        assert not await is_live(health, clock, LIMIT_S)


async def test_a_process_may_say_nothing_for_ten_seconds(clock: Clock) -> None:
    health = of_a_parent(START_S)
    async with health:
        turned_s = START_S + LIMIT_S
        assert await is_live(health, clock, LIMIT_S - 0.001, turned_s)
        assert not await is_live(health, clock, LIMIT_S, turned_s)


async def test_a_loop_that_turns_says_so_well_before_the_limit() -> None:
    health = of_a_worker()
    async with health:
        assert health._pulse is not None
        assert health._pulse.interval_s <= LIMIT_S / 2
