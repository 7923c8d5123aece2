"""What several shapes share: their figures, and a worker in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.collector import spare_the_collector

__all__ = ["LIMIT_S", "Figures", "fill", "run_all"]

Figures = Mapping[str, tuple[float, str]]

LIMIT_S: Final = 240.0


async def fill(app: AsyncJobs, calls: list[Any], step: int = 10_000) -> None:
    """Enqueue these calls, so many at a time."""
    for first in range(0, len(calls), step):
        await app.enqueue_many(calls[first : first + step])


async def run_all(app: AsyncJobs, queue: str, *, concurrency: int, jobs: int) -> float:
    """Jobs a second of a worker in this process, from its start to the last settlement."""
    spare_the_collector()  # as the worker command does when it has started
    started_s = time.perf_counter()
    await Worker(app, queues=[queue], concurrency=concurrency).run(burst=True, max_jobs=jobs)
    return jobs / (time.perf_counter() - started_s)
