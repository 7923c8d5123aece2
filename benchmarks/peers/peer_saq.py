"""saq: one coroutine for each slot, jobs kept for no longer than they run (ttl -1), orjson. Its
20 operations at a time are its default: 100 cost more CPU a job."""

from __future__ import annotations

from typing import Any

import orjson
from saq import Queue, Worker

from benchmarks.peers import kit


async def noop(ctx: dict[str, Any], *, number: int, text: str) -> None:
    await kit.noop(number, text)


async def sleep(ctx: dict[str, Any], *, number: int, text: str) -> None:
    await kit.sleep(number, text)


async def pickup(ctx: dict[str, Any], *, number: int, text: str) -> None:
    await kit.pickup(number, text)


class Saq:
    async def open(self, url: str) -> None:
        self._queue = Queue.from_url(url, dump=orjson.dumps, load=orjson.loads)
        await self._queue.connect()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._queue.enqueue(name, number=args[0], text=args[1], ttl=-1)

    async def work(self, concurrency: int) -> None:
        jobs = [noop, sleep, pickup]
        worker = Worker(self._queue, functions=jobs, concurrency=concurrency)
        await worker.start()


if __name__ == "__main__":
    kit.main(Saq)
