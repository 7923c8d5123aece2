"""Pauses, unique keys and ticks of a run: an operator who pauses, and whether all was kept."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.store.seam import Backend
from tests.chaos.jobs import FUNCTIONS, QUEUES, Planned, app
from tests.chaos.ledger import Execution

__all__ = ["Operator", "Paused", "expected_ticks", "keys", "pauses"]

START_S: Final = 1.0
"""What was taken before a pause has begun so long after it, or a fault has met its worker."""
Excused = Callable[[Execution, float], bool]
"""Whether a fault has met the worker of an execution until this time."""


@dataclass
class Paused:
    """From when a pause was known to count until somebody began to resume."""

    queue: str
    function: str | None
    from_s: float
    to_s: float = float("inf")


class Operator:
    """Pauses a queue or a job function for a moment, again and again, through the faults."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed} operator")
        self.done: list[Paused] = []

    async def run(self) -> None:
        """Until cancelled; `end` takes back what is left."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.2, 2))
            queue = self._chance.choice(QUEUES)
            function = self._chance.choice([None, *FUNCTIONS])
            await self._call(app.backend.control.queues.pause, queue, function, b"{}")
            paused = Paused(queue, function, time.monotonic())
            self.done.append(paused)
            await asyncio.sleep(self._chance.uniform(0.1, 3))
            paused.to_s = time.monotonic()
            await self._call(app.backend.control.queues.resume, queue, function)

    async def end(self) -> None:
        """Resume everything."""
        # Before the first call: from then on jobs may start.
        now_s = time.monotonic()
        for paused in self.done:
            paused.to_s = min(paused.to_s, now_s)
        for queue in QUEUES:
            for function in (None, *FUNCTIONS):
                await self._call(app.backend.control.queues.resume, queue, function)

    async def _call(self, call: Callable[..., object], queue: str, *details: object) -> None:
        while True:
            try:
                await call([queue], *details)  # type: ignore[misc]
                return
            except StoreError:
                await asyncio.sleep(0.1)


def pauses(
    done: Sequence[Paused],
    planned: Mapping[str, Planned],
    executions: Sequence[Execution],
    excused: Excused,
) -> Iterator[str]:
    """What was started although it was paused."""
    for paused in done:
        for run in executions:
            job = planned.get(run.job)
            is_of_it = (
                job is not None
                and job.queue == paused.queue
                and paused.function in (None, job.call.function.name)
            )
            is_within = paused.from_s + START_S < run.start_s < paused.to_s
            if is_of_it and is_within and not excused(run, run.start_s):
                yield f"{run}: {paused} was in force"


def keys(
    planned: Mapping[str, Planned], executions: Sequence[Execution], excused: Excused
) -> Iterator[str]:
    """Jobs that began between the first start and the last end of another one with their key."""
    by_key: dict[str, dict[str, list[Execution]]] = defaultdict(lambda: defaultdict(list))
    for run in executions:
        job = planned.get(run.job)
        if job is not None and job.key:
            by_key[job.key][run.job].append(run)
    for key, jobs in by_key.items():
        for id, runs in jobs.items():
            first, last = runs[0], runs[-1]
            for other in (run for name, some in jobs.items() if name != id for run in some):
                is_within = first.start_s < other.start_s < last.end_s
                if is_within and not excused(last, other.start_s):
                    yield f"{other}: {id} holds the key {key!r}: {first}, {last}"


async def expected_ticks(backend: Backend, schedule: str) -> list[str]:
    """The job of each tick that the schedule has fired. It is deleted then."""
    (record,) = await backend.schedules.get([schedule])
    assert record is not None
    assert record.last_ms is not None
    assert (record.missed, record.skipped) == (0, 0), record
    await backend.schedules.delete([schedule])
    first_ms = record.last_ms - 1000 * (record.fired - 1)
    return [f"cron:{schedule}:{first_ms + 1000 * n}" for n in range(record.fired)]
