"""saq: one coroutine for each slot, jobs kept for no longer than they run (ttl -1)."""

from __future__ import annotations

from typing import Any

from saq import Queue, Worker

from benchmarks.peers import kit


async def noop(ctx: dict[str, Any], *, number: int, text: str) -> None:
    await kit.noop(number, text)


async def sleep(ctx: dict[str, Any], *, number: int, text: str) -> None:
    await kit.sleep(number, text)


class Saq:
    async def open(self, url: str) -> None:
        self._queue = Queue.from_url(url)
        await self._queue.connect()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._queue.enqueue(name, number=args[0], text=args[1], ttl=-1)

    async def work(self, concurrency: int) -> None:
        worker = Worker(self._queue, functions=[noop, sleep], concurrency=concurrency)
        await worker.start()


if __name__ == "__main__":
    kit.main(Saq)
