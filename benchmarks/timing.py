"""One clock for all no-ops: from the first job's start until the store has settled the last.

Start-up and shutdown of the worker are left out, as they are of the floor's.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.collector import spare_the_collector
from asyncjobs.store.inspect import QueueCounts
from benchmarks import floor

__all__ = ["counts_of", "fill", "noop", "seconds_of"]

STEP: Final = 10_000

_stopwatch = floor.Stopwatch(0)


async def noop(number: int, text: str) -> None:
    """The job: counts itself, as the floor's does."""
    _stopwatch.count()


async def fill(app: AsyncJobs, job: Any, jobs: int) -> None:
    """Enqueue so many no-ops, each with an envelope of about 200 bytes."""
    for first in range(0, jobs, STEP):
        numbers = range(first, min(first + STEP, jobs))
        await app.enqueue_many([job.bind(number, floor.filler(number)) for number in numbers])


async def seconds_of(app: AsyncJobs, queue: str, *, concurrency: int, jobs: int) -> float:
    """Run so many `noop`s that are there already, by a worker in this process."""
    global _stopwatch
    _stopwatch = floor.Stopwatch(jobs)
    spare_the_collector()  # as the worker command does when it has started
    async with asyncio.TaskGroup() as group:
        seconds = group.create_task(_until_settled(app, queue))
        worker = Worker(app, queues=[queue], concurrency=concurrency)
        await worker.run(burst=True, max_jobs=jobs)
        if not _stopwatch.all_run.is_set():
            raise SystemExit("the worker ended, but not all jobs have run")
    return seconds.result()


async def _until_settled(app: AsyncJobs, queue: str) -> float:
    # Asks only once every job has run: while they do, the worker has the store to itself.
    await _stopwatch.all_run.wait()
    while (counts := await counts_of(app, queue)).running:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.001)
    seconds = _stopwatch.seconds()
    if counts.scheduled or counts.dead:
        raise SystemExit(f"jobs of the no-op have failed: {counts}")
    return seconds


async def counts_of(app: AsyncJobs, queue: str) -> QueueCounts:
    """What the store holds of one queue."""
    (counts,) = await app.backend.inspect.queues.counts([queue])
    return counts
