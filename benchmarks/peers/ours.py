"""asyncjobs, measured the way its peers are."""

from __future__ import annotations

from typing import Any

from asyncjobs import AsyncJobs, Worker
from asyncjobs.cli.worker.collector import spare_the_collector
from benchmarks.peers import kit


class Ours:
    """Results off, as with the others; the rest is as by default."""

    async def open(self, url: str) -> None:
        self._app = AsyncJobs(url, result_ttl=0)
        self._jobs = {job.__name__: self._app.job(job, name=job.__name__) for job in JOBS}
        await self._app.__aenter__()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._jobs[name].enqueue(*args)

    async def work(self, concurrency: int) -> None:
        spare_the_collector()  # as the worker command does when it has started
        await Worker(self._app, concurrency=concurrency).run()


JOBS = (kit.noop, kit.sleep, kit.pickup)

if __name__ == "__main__":
    kit.main(Ours)
