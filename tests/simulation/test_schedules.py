"""Ten workers on a virtual clock fire 200 schedules, while they are killed and calls are lost.

Their clocks differ by up to two seconds. What was enqueued stands in a ledger beside the store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any, Final, Self, cast

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.errors import StoreError
from asyncjobs.events import Events
from asyncjobs.jobs.context import current_job
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.schedules import Fire, Fired, TickVerdict
from asyncjobs.store.seam import Backend, StoreSettings
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, SimLoop
from tests.simulation.patching import in_simulation
from tests.simulation.wire import Network, Wire

WORKERS: Final = 10
SCHEDULES: Final = 200
KILLS: Final = 20
LIVE_S: Final = 60
LIMIT_S: Final = 600.0

_ran = Counter[str]()


async def _tick() -> None:
    _ran[current_job().id] += 1


def new_app() -> AsyncJobs:
    """An app as each of the workers has it."""
    app = AsyncJobs("memory:")
    job = app.job(_tick, name="tick")
    for number in range(SCHEDULES):
        app.every(5 + number % 20, id=f"s{number}", catch_up="all")(job)
    return app


class FireLedger:
    """What the store has answered to those who fired, whether they have heard it or not."""

    def __init__(self) -> None:
        self.enqueued = Counter[str]()

    def applied(self, process: Process, name: str, args: tuple[Any, ...], answer: Any) -> None:
        if name == "schedules.fire":
            fires: list[Fire] = args[0][0]
            answers: list[Fired] = answer
            for fire, fired in zip(fires, answers, strict=True):
                for tick, verdict in zip(fire.ticks, fired.verdicts, strict=False):
                    self.enqueued[tick.job.id] += verdict is TickVerdict.FIRED

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


class ScheduleNetwork(Network):
    """Carries calls to the schedules of the store, too."""

    def _call(self, name: str, args: tuple[Any, ...]) -> Any:
        if name.startswith("schedules."):
            method = getattr(self._store.schedules, name.removeprefix("schedules."))
            return method(*args[0], **args[1])
        return super()._call(name, args)


class ScheduleWire(Wire):
    """A store with schedules, for one process."""

    def __init__(self, loop: SimLoop, network: Network, process: Process) -> None:
        super().__init__(loop, network, process)
        self.capabilities = replace(self.capabilities, schedules=True)
        self.schedules = _Remote(self)


class _Remote:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self._wire.call(f"schedules.{name}", args, options)


class Host:
    """What a worker needs of an app."""

    def __init__(self, app: AsyncJobs, wire: Wire) -> None:
        self.settings = app.settings
        self.registry = app.registry
        self.events = Events()
        self.middlewares = Middlewares()
        self.backend = cast(Backend, wire)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Fleet:
    """The workers of one run, and who is killed when."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.loop = SimLoop(self.chance)
        self.store = MemoryBackend(StoreSettings(), now_ms=self.loop.store_ms)
        self.ledger = FireLedger()
        self.network = ScheduleNetwork(self.loop, self.store, cast(Ledger, self.ledger), 0.03)
        self.app = new_app()
        self.workers: dict[Process, Worker] = {}
        self.started = self.kills = 0
        self.is_over = False

    def start(self) -> None:
        self.started += 1
        process = Process(f"worker{self.started}", self.started)
        process.offset_ns = int((self.chance.random() - 0.5) * 2e9)
        _ = self.loop.spawn(process, self._work(process))

    async def _work(self, process: Process) -> None:
        wire = ScheduleWire(self.loop, self.network, process)
        while not self.is_over:
            worker = Worker(
                Host(self.app, wire),
                queues="default",
                lease=2,
                grace=1,
                name=process.name,
                block_warning=None,
                hard_limit=None,
            )
            self.workers[process] = worker
            try:
                await worker.run()
            except StoreError:
                await asyncio.sleep(0.2)
        self.workers.pop(process, None)

    def kill(self) -> None:
        alive = [process for process in self.workers if process.is_running]
        if alive:
            process = alive[int(self.chance.random() * len(alive))]
            self.kills += 1
            self.workers.pop(process)
            self.loop.kill(process)
            self.network.hang_up_all(process)
        self.loop.after(self.chance.random(), self.start)

    async def live(self) -> None:
        for _ in range(WORKERS):
            self.loop.after(self.chance.random(), self.start)
        for _ in range(KILLS):
            self.loop.after(1 + (LIVE_S - 5) * self.chance.random(), self.kill)
        await asyncio.sleep(LIVE_S)
        self.network.trouble = 0.0
        # The last ticks are fired, and the jobs of the dead come back.
        await asyncio.sleep(10)
        self.is_over = True
        for worker in list(self.workers.values()):
            worker.stop()
        while self.workers:
            await asyncio.sleep(0.2)

    async def expected(self) -> list[str]:
        """The job of each tick from the first declaration to the last tick that was used up."""
        jobs = []
        for schedule in self.app.registry.schedules():
            (record,) = await self.store.schedules.get([schedule.id])
            assert record is not None
            assert record.last_ms is not None
            assert (record.missed, record.skipped) == (0, 0)
            first = await self.store.schedules.runs(schedule.id)
            tick_ms: int | None = first[-1].tick_ms
            while tick_ms is not None and tick_ms <= record.last_ms:
                jobs.append(f"cron:{schedule.id}:{tick_ms}")
                tick_ms = schedule.rule.next_after(tick_ms)
        return jobs


@pytest.mark.parametrize("seed", [1, 2])
def test_each_tick_makes_one_job_through_twenty_kills(seed: int) -> None:
    _ran.clear()
    fleet = Fleet(seed)
    with in_simulation(fleet.loop, lambda ref: None):
        try:
            loop = fleet.loop
            loop.run_until(loop.spawn(loop.outside, fleet.live()), LIMIT_S)
            asking = loop.spawn(loop.outside, fleet.expected())
            loop.run_until(asking, LIMIT_S)
            expected: list[str] = asking.result()
            complaints = list(loop.complaints)
        finally:
            fleet.loop.bury()
    assert fleet.kills >= KILLS - 2
    assert complaints == []
    # 70 seconds of schedules with intervals of 5 to 24 seconds.
    assert len(expected) > SCHEDULES * 70 / 15
    assert fleet.ledger.enqueued == Counter(expected)
    assert set(_ran) == set(expected)
