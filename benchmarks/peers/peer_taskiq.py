"""taskiq with its Redis Stream broker, which acknowledges: no result backend, 100 entries a
read (its default), prefetch as large as the concurrency."""

from __future__ import annotations

from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from benchmarks.peers import kit


class Taskiq:
    async def open(self, url: str) -> None:
        self._broker = RedisStreamBroker(url=url)
        self._tasks = {
            job.__name__: self._broker.register_task(job, task_name=job.__name__)
            for job in (kit.noop, kit.sleep)
        }
        await self._broker.startup()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._tasks[name].kiq(*args)

    async def work(self, concurrency: int) -> None:
        await run_receiver_task(self._broker, max_async_tasks=concurrency, max_prefetch=concurrency)


if __name__ == "__main__":
    kit.main(Taskiq)
