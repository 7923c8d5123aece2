"""asyncjobs, measured the way its peers are."""

from __future__ import annotations

from typing import Any

from asyncjobs import AsyncJobs, Concurrency, Worker, chord
from asyncjobs.cli.worker.collector import spare_the_collector
from benchmarks.peers import kit


class Ours:
    """Results off, as with the others; the rest is as by default."""

    has_limits = True

    async def open(self, url: str) -> None:
        self._app = AsyncJobs(url, result_ttl=0)
        self._jobs = {job.__name__: self._app.job(job, name=job.__name__) for job in JOBS}
        one_at_a_time = Concurrency(1, by="key")
        limited = self._app.job(kit.limited, name=kit.limited.__name__, limits=one_at_a_time)
        self._jobs[kit.limited.__name__] = limited
        self._child, self._last = self._app.job(kit.child), self._app.job(kit.last)
        await self._app.__aenter__()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._jobs[name].enqueue(*args)

    async def chord(self, children: int) -> None:
        calls = [self._child.bind(number, kit.text_of(number)) for number in range(children)]
        await self._app.flows.start(chord(calls, self._last.bind()))

    async def work(self, concurrency: int) -> None:
        spare_the_collector()  # as the worker command does when it has started
        await Worker(self._app, concurrency=concurrency).run()


JOBS = (kit.noop, kit.sleep, kit.pickup)

if __name__ == "__main__":
    kit.main(Ours)
