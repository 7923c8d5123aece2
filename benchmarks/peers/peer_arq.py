"""arq: `max_jobs` is its concurrency; its poll delay is at its default of 0.5 s, which only
matters on an idle worker, and the queue is read as far as there are free slots."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.peers import kit


async def noop(ctx: dict[str, Any], number: int, text: str) -> None:
    await kit.noop(number, text)


async def sleep(ctx: dict[str, Any], number: int, text: str) -> None:
    await kit.sleep(number, text)


class Arq:
    async def open(self, url: str) -> None:
        self._settings = RedisSettings.from_dsn(url)
        self._pool = await create_pool(self._settings)

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._pool.enqueue_job(name, *args)

    async def work(self, concurrency: int) -> None:
        worker = Worker(
            [func(noop, keep_result=0), func(sleep, keep_result=0)],
            redis_settings=self._settings,
            max_jobs=concurrency,
            keep_result=0,
            handle_signals=False,
        )
        await worker.async_run()


if __name__ == "__main__":
    kit.main(Arq)
