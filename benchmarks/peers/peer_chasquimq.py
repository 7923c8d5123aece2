"""chasquimq: jobs of one queue reach one handler, which calls them by name. No results, and no
events, which it would otherwise write for each job. It needs Redis 8.6 or newer. Its entries a
read made no difference: 64, its default, were as fast as 1,000."""

from __future__ import annotations

from typing import Any

from chasquimq import Job, Queue, Worker

from benchmarks.peers import kit

JOBS = {job.__name__: job for job in (kit.noop, kit.sleep, kit.pickup)}


async def run(job: Job) -> None:
    await JOBS[job.name](*job.data)


class Peer:
    async def open(self, url: str) -> None:
        self._url = url
        self._queue = Queue("jobs", redis_url=url)

    async def enqueue(self, name: str, *args: Any) -> object:
        return await self._queue.add(name, list(args))

    async def work(self, concurrency: int) -> None:
        worker = Worker(
            "jobs",
            run,
            redis_url=self._url,
            concurrency=concurrency,
            read_count=concurrency,
            store_results=False,
            events_enabled=False,
        )
        await worker.run()


if __name__ == "__main__":
    kit.main(Peer)
