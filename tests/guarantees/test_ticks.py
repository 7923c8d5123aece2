"""Ten worker processes fire 200 schedules through twenty kills: each tick makes one job.

The same runs on a virtual clock in tests/simulation, in a second. This takes half a minute.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.model.clock import new_id
from asyncjobs.testing.servers import Server
from tests.cli.process import Process
from tests.guarantees import ticking
from tests.guarantees.kit import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.long]

WORKERS = 10
KILLS = 20


class Fleet:
    """The workers of the test, and their ledger."""

    def __init__(self, server: Server, folder: Path, stack: ExitStack, prefix: str) -> None:
        self._server = server
        self._folder = folder
        self._stack = stack
        self._prefix = prefix
        self.ledger = folder / "ledger"
        self.chance = Random(prefix)
        self.alive: list[Process] = []
        self.started = 0

    def start(self) -> Process:
        """A worker whose clock is wrong by up to a second, ahead or behind."""
        self.started += 1
        ahead_s = 2 * self.chance.random() - 1
        process = self._stack.enter_context(
            Process(
                self._folder,
                *("worker", "--factory", "tests.guarantees.ticking:make", "--lease", "1s"),
                *("--name", f"w{self.started}", "--queues", "default"),
                env={
                    "ASYNCJOBS_URL": self._server.url,
                    "PREFIX": self._prefix,
                    "LEDGER": str(self.ledger),
                    "CLOCK_AHEAD_S": f"{ahead_s:.3f}",
                },
            )
        )
        self.alive.append(process)
        return process

    def kill_one(self) -> None:
        victim = self.alive.pop(int(self.chance.random() * len(self.alive)))
        victim.process.kill()

    def ids(self, word: str) -> list[str]:
        if not self.ledger.exists():
            return []
        lines = self.ledger.read_text().splitlines()
        return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


async def expected(app: AsyncJobs) -> list[str]:
    """The job of each tick, from the first one of each schedule to the last that was used up."""
    jobs = []
    for schedule in app.registry.schedules():
        (record,) = await app.backend.schedules.get([schedule.id])
        runs = await app.backend.schedules.runs(schedule.id)
        assert record is not None
        assert record.last_ms is not None
        assert (record.missed, record.skipped, record.fired) == (0, 0, len(runs))
        tick_ms: int | None = runs[-1].tick_ms
        while tick_ms is not None and tick_ms <= record.last_ms:
            jobs.append(f"cron:{schedule.id}:{tick_ms}")
            tick_ms = schedule.rule.next_after(tick_ms)
        assert sorted(run.job_id for run in runs) == sorted(
            job for job in jobs if job.startswith(f"cron:{schedule.id}:")
        )
    return jobs


@pytest.mark.parametrize("kind", ["valkey"])
async def test_each_tick_makes_one_job(kind: str, servers: object, tmp_path: Path) -> None:
    server: Server = servers.get(kind)  # type: ignore[attr-defined]
    prefix = f"test-{new_id()}"
    with ExitStack() as stack:
        fleet = Fleet(server, tmp_path, stack, prefix)
        for process in [fleet.start() for _ in range(WORKERS)]:
            await asyncio.to_thread(process.wait_started)
        app = ticking.make(server.url, prefix)
        async with app:
            for number in range(KILLS):
                # The ledger moves on between two kills, so each one meets a fleet at work.
                before = len(fleet.ids("ran"))
                await eventually(lambda before=before: _grown(fleet, before))  # type: ignore[misc]
                fleet.kill_one()
                process = fleet.start()
                if number % 5 == 4:
                    await asyncio.to_thread(process.wait_started)
            for schedule in await app.schedules.list():
                await app.schedules.pause(schedule.id)
            jobs = await expected(app)
            await eventually(lambda: _all_ran(fleet, jobs))
        ran, enqueued = Counter(fleet.ids("ran")), Counter(fleet.ids("enqueued"))
    assert len(jobs) >= ticking.SCHEDULES
    assert set(ran) == set(jobs)
    # A worker that dies right after a tick does not say so; none says it twice.
    assert set(enqueued) <= set(jobs)
    assert set(enqueued.values()) == {1}
    if ours := [key for key in server.command("KEYS", "*") if prefix.encode() in key]:
        server.command("DEL", *ours)


async def _grown(fleet: Fleet, before: int) -> bool:
    return len(fleet.ids("ran")) > before + 20


async def _all_ran(fleet: Fleet, jobs: list[str]) -> bool:
    return set(jobs) <= set(fleet.ids("ran"))
