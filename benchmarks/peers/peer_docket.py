"""docket: a read as large as its concurrency, no record of a finished job, and a pool of
connections that its URL makes large enough for all jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from docket import ConcurrencyLimit, Docket, Worker

from benchmarks.peers import kit

ONE_AT_A_TIME = ConcurrencyLimit("key", max_concurrent=1)


async def limited(key: int, text: str, limit: ConcurrencyLimit = ONE_AT_A_TIME) -> None:
    """`kit.limited`, with docket's limit."""
    await kit.limited(key, text)


class Peer:
    has_limits = True

    async def open(self, url: str) -> None:
        jobs = (kit.noop, kit.sleep, kit.pickup, limited)
        self._jobs = {job.__name__: job for job in jobs}
        self._docket = Docket(
            name="jobs", url=f"{url}?max_connections=2000", execution_ttl=timedelta(0)
        )
        for job in jobs:
            self._docket.register(job)
        await self._docket.__aenter__()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._docket.add(self._jobs[name])(*args)

    async def work(self, concurrency: int) -> None:
        async with Worker(
            self._docket, concurrency=concurrency, message_batch=concurrency
        ) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    kit.main(Peer)
