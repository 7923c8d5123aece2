"""How soon a cancel stops a running job: `python -m benchmarks.cancel`.

A worker whose every slot is taken, 1,000 sleepers, so that it makes no exchange, and no
heartbeat falls into the time. Milliseconds from the call of `cancel` to CancelledError in
the job, by one clock on one machine: one after the other, then in batches of 50 at once.

Then what many cancels cost: the time until 10,000 jobs, all that a worker runs, have been
cancelled in one call and have stopped; and an exchange of a worker with none of these jobs,
while all of them are marked.
"""

from __future__ import annotations

import asyncio
import time

from asyncjobs import AsyncJobs, JobHandle, Worker
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, Priority
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import available_servers, start_server

RUNNING = 1000
ONE_BY_ONE = 300
AT_ONCE = 50
BATCHES = 10
PAUSE_S = 0.02
LIMIT_S = 30.0
ALL = 10_000
MANY_S = 300.0
TRIPS = 200

_started: asyncio.Queue[int] = asyncio.Queue()
_stopped: asyncio.Queue[tuple[int, float]] = asyncio.Queue()


async def sleeper(number: int) -> None:
    """Sleeps until it is stopped, and notes when that was."""
    _started.put_nowait(number)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        _stopped.put_nowait((number, time.perf_counter()))
        raise


def _forget_others() -> None:
    """What jobs of an earlier measurement have noted."""
    for queue in (_started, _stopped):
        while not queue.empty():
            queue.get_nowait()


async def measure(url: str) -> dict[str, list[float]]:
    """Sorted milliseconds, of cancels one by one and of batches."""
    _forget_others()
    app = AsyncJobs(url, result_ttl=0)
    job = app.job(sleeper)
    found: dict[str, list[float]] = {"one by one": [], f"{AT_ONCE} at once": []}
    # A minute between heartbeats; what is still running at the end is released at once.
    async with app, Worker(app, concurrency=RUNNING, lease=300, grace=0):
        spare = RUNNING - ONE_BY_ONE - AT_ONCE * BATCHES
        assert spare >= 0
        handles = await app.enqueue_many([job.bind(number) for number in range(RUNNING)])
        async with asyncio.timeout(LIMIT_S):
            for _ in range(RUNNING):
                await _started.get()
        # Refill each slot, or the worker would not be full any more.
        await app.enqueue_many([job.bind(RUNNING + n) for n in range(RUNNING - spare)])
        for first in range(ONE_BY_ONE):
            found["one by one"] += await _cancel(handles[first : first + 1])
        for batch in range(BATCHES):
            first = ONE_BY_ONE + batch * AT_ONCE
            found[f"{AT_ONCE} at once"] += await _cancel(handles[first : first + AT_ONCE])
    return {name: sorted(values) for name, values in found.items()}


async def _cancel(handles: list[JobHandle[None]]) -> list[float]:
    """Milliseconds until each of them was stopped."""
    begun_s = time.perf_counter()
    await asyncio.gather(*(handle.cancel() for handle in handles))
    async with asyncio.timeout(LIMIT_S):
        ended = [await _stopped.get() for _ in handles]
        for _ in handles:
            await _started.get()  # the one that takes the slot
    await asyncio.sleep(PAUSE_S)
    return [(stopped_s - begun_s) * 1000 for _, stopped_s in ended]


def _worker_of_all(app: AsyncJobs) -> Worker:
    return Worker(app, queues=["all"], concurrency=ALL, lease=300, grace=0)


async def cancel_all(url: str) -> float:
    """Milliseconds until all that a worker runs has stopped."""
    _forget_others()
    app = AsyncJobs(url, result_ttl=0)
    # The default queue still has what the worker before gave back.
    job = app.job(queue="all")(sleeper)
    async with app, _worker_of_all(app), asyncio.timeout(MANY_S):
        handles = await app.enqueue_many([job.bind(number) for number in range(ALL)])
        for _ in range(ALL):
            await _started.get()
        begun_s = time.perf_counter()
        await app.backend.cancel([handle.ref for handle in handles], None, 0)
        for _ in range(ALL):
            await _stopped.get()
        return (time.perf_counter() - begun_s) * 1000


async def beside_marks(url: str) -> list[float]:
    """Sorted milliseconds of an exchange beside marks of another lease."""
    store = RedisBackend(url)
    await store.open()
    try:
        jobs = [NewJob("marked", str(number), Priority.NORMAL, b"{}") for number in range(ALL)]
        await store.enqueue(EnqueueBatch("token", jobs))
        holder = await store.lease(LeaseSpec(new_id(), "worker", ("marked",), 300_000))
        other = await store.lease(LeaseSpec(new_id(), "worker", ("marked",), 300_000))
        await holder.exchange(1, (), {"marked": Demand(ALL)})
        await store.cancel([job.ref for job in jobs], None, 0)
        found = []
        for trip in range(TRIPS):
            begun_s = time.perf_counter()
            await other.exchange(trip + 1, (), {"marked": Demand(1)})
            found.append((time.perf_counter() - begun_s) * 1000)
        return sorted(found)
    finally:
        await store.close()


async def main() -> None:
    """Print one table row for each server and way to cancel."""
    print("| server | cancels | p50, ms | p99, ms | max, ms |\n|---|---|---:|---:|---:|")
    for kind in available_servers():
        with start_server(kind) as server:
            found = await measure(server.url)
            found[f"all {ALL:,}"] = [await cancel_all(server.url)]
            found[f"an exchange beside {ALL:,} marks"] = await beside_marks(server.url)
            for cancels, ms in found.items():
                p50, p99 = ms[len(ms) // 2], ms[max(int(len(ms) * 0.99) - 1, 0)]
                name = f"{server.kind} {server.version}"
                print(f"| {name} | {cancels} | {p50:.2f} | {p99:.2f} | {ms[-1]:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
