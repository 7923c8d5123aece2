"""arq: `max_jobs` is its concurrency. It polls: between two looks at its queue lies the poll
delay, by default 0.5 s, so a short one is what makes an idle worker quick. msgpack instead of
pickle, as its documentation shows for custom serializers."""

from __future__ import annotations

import functools
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.peers import kit


async def noop(ctx: dict[str, Any], number: int, text: str) -> None:
    await kit.noop(number, text)


async def sleep(ctx: dict[str, Any], number: int, text: str) -> None:
    await kit.sleep(number, text)


async def pickup(ctx: dict[str, Any], number: int, text: str) -> None:
    await kit.pickup(number, text)


unpack = functools.partial(msgpack.unpackb, raw=False)


class Arq:
    async def open(self, url: str) -> None:
        self._settings = RedisSettings.from_dsn(url)
        self._pool = await create_pool(
            self._settings, job_serializer=msgpack.packb, job_deserializer=unpack
        )

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._pool.enqueue_job(name, *args)

    async def work(self, concurrency: int) -> None:
        worker = Worker(
            [func(job, keep_result=0) for job in (noop, sleep, pickup)],
            redis_settings=self._settings,
            max_jobs=concurrency,
            keep_result=0,
            poll_delay=0.005,
            job_serializer=msgpack.packb,
            job_deserializer=unpack,
            handle_signals=False,
        )
        await worker.async_run()


if __name__ == "__main__":
    kit.main(Arq)
