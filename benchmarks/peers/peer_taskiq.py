"""taskiq with its Redis Stream broker, which acknowledges: no result backend, as many entries a
read and as large a prefetch as its concurrency, arguments not parsed, orjson."""

from __future__ import annotations

from typing import Any

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.peers import kit


class Taskiq:
    async def open(self, url: str) -> None:
        self._broker = RedisStreamBroker(url=url, xread_count=1_000).with_serializer(
            ORJSONSerializer()
        )
        self._tasks = {
            job.__name__: self._broker.register_task(job, task_name=job.__name__)
            for job in (kit.noop, kit.sleep, kit.pickup)
        }
        await self._broker.startup()

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._tasks[name].kiq(*args)

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
