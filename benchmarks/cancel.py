"""How soon a cancel stops a running job: `python -m benchmarks.cancel`.

A worker whose every slot is taken, 1,000 sleepers, so that it makes no exchange, and no
heartbeat falls into the time. Milliseconds from the call of `cancel` to CancelledError in
the job, by one clock on one machine: one after the other, then in batches of 50 at once.
"""

from __future__ import annotations

import asyncio
import time

from asyncjobs import AsyncJobs, JobHandle, Worker
from asyncjobs.testing.servers import available_servers, start_server

RUNNING = 1000
ONE_BY_ONE = 300
AT_ONCE = 50
BATCHES = 10
PAUSE_S = 0.02
LIMIT_S = 30.0

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


async def measure(url: str) -> dict[str, list[float]]:
    """Sorted milliseconds, of cancels one by one and of batches."""
    for queue in (_started, _stopped):
        while not queue.empty():
            queue.get_nowait()  # left by the server before
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


async def main() -> None:
    """Print one table row for each server and way to cancel."""
    print("| server | cancels | p50, ms | p99, ms | max, ms |\n|---|---|---:|---:|---:|")
    for kind in available_servers():
        with start_server(kind) as server:
            for cancels, ms in (await measure(server.url)).items():
                p50, p99 = ms[len(ms) // 2], ms[int(len(ms) * 0.99) - 1]
                name = f"{server.kind} {server.version}"
                print(f"| {name} | {cancels} | {p50:.2f} | {p99:.2f} | {ms[-1]:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
