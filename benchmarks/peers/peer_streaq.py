"""streaq: one worker object enqueues and another one works, for the context of each may be
entered once. Its prefetch is its concurrency by default; no result is kept (ttl 0), but those of
the jobs of a flow, for it looks for them."""

from __future__ import annotations

from typing import Any

import orjson
from streaq import Worker

from benchmarks.peers import kit

JOBS = (kit.noop, kit.sleep, kit.pickup)
FLOW = (kit.child, kit.last)


class Streaq:
    async def open(self, url: str) -> None:
        self._url = url
        worker = self._made(kit.CONCURRENCY)
        self._tasks = {job.__name__: worker.task(ttl=0, silent=True)(job) for job in JOBS}
        self._worker = worker
        self._child, self._last = (worker.task(silent=True)(job) for job in FLOW)
        await worker.__aenter__()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._tasks[name].enqueue(*args)

    async def chord(self, children: int) -> None:
        made = [
            self._child.enqueue(number, kit.text_of(number)).start() for number in range(children)
        ]
        await self._worker.enqueue_many(made)
        await self._last.enqueue().start(after=[task.id for task in made])

    async def work(self, concurrency: int) -> None:
        worker = self._made(concurrency)
        for job in JOBS:
            worker.task(ttl=0, silent=True)(job)
        for job in FLOW:
            worker.task(silent=True)(job)
        await worker.run_async()

    def _made(self, concurrency: int) -> Worker[Any]:
        return Worker(
            redis_url=self._url,
            concurrency=concurrency,
            serializer=orjson.dumps,
            deserializer=orjson.loads,
            handle_signals=False,
        )


if __name__ == "__main__":
    kit.main(Streaq)
