"""taskiq with its Redis Stream broker, which acknowledges: no result backend, as many entries a
read and as large a prefetch as its concurrency, arguments not parsed, orjson. Its pipelines need a
result backend, and look there each 0.5 s for what is done, as by default."""

from __future__ import annotations

from typing import Any

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers import kit


async def numbers(children: int) -> list[int]:
    """The first job of a pipeline: the next step makes a job of each of them."""
    return [*range(children)]


async def piped(number: int) -> None:
    """One of these jobs: `kit.child`, with the text that a pipeline cannot give it."""
    await kit.child(number, kit.text_of(number))


class Taskiq:
    async def open(self, url: str) -> None:
        self._broker = RedisStreamBroker(url=url, xread_count=1_000).with_serializer(
            ORJSONSerializer()
        )
        self._tasks = {
            job.__name__: self._broker.register_task(job, task_name=job.__name__)
            for job in (kit.noop, kit.sleep, kit.pickup)
        }
        if kit.parse().shape == kit.CHORD:
            self._broker = self._broker.with_result_backend(
                RedisAsyncResultBackend(url, result_ex_time=600)
            ).with_middlewares(PipelineMiddleware())
        self._first, self._child, self._last = (
            self._broker.register_task(job, task_name=job.__name__)
            for job in (numbers, piped, kit.last)
        )
        await self._broker.startup()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._tasks[name].kiq(*args)

    async def chord(self, children: int) -> None:
        pipeline = Pipeline(self._broker, self._first).map(self._child).call_next(self._last)
        await pipeline.kiq(children)

    async def work(self, concurrency: int) -> None:
        await run_receiver_task(
            self._broker,
            validate_params=False,
            max_async_tasks=concurrency,
            max_prefetch=concurrency,
            ack_time=AcknowledgeType.WHEN_EXECUTED,
        )


if __name__ == "__main__":
    kit.main(Taskiq)
