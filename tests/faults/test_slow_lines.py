"""Lines that are slow, and lines that are dead without telling anybody."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from asyncjobs import AsyncJobs, Worker
from asyncjobs.events import JobsReclaimed, LeaseLost
from asyncjobs.testing.servers import Server
from tests.faults.proxy import proxy_to
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, eventually, is_settled, register, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("label", ["client", "lease", "exchange", "wait", "results"])
@pytest.mark.usefixtures("impatient")
async def test_a_black_hole_is_left_by_a_new_connection(
    server: Server, stage: Stage, label: str
) -> None:
    async with proxy_to(server.port) as proxy:
        app, healthy = AsyncJobs(proxy.url, connect_timeout=LIMIT_S), AsyncJobs(server.url)
        lost, reclaimed = events_of(app, LeaseLost), events_of(healthy, JobsReclaimed)
        gated, note = register(app, jobs.gated), register(app, jobs.note)
        register(healthy, jobs.gated)
        register(healthy, jobs.note)
        async with app, healthy, Worker(app, concurrency=20, grace=2, lease=2):
            running = [await gated.enqueue("g") for _ in range(10)]
            await stage.noted(("started", "g"), 10)
            waiters = [asyncio.create_task(handle.result(LIMIT_S)) for handle in running]
            await until(lambda: label in {wire.label for wire in proxy.wires})
            async with Worker(healthy, concurrency=1, lease=2, grace=2):
                assert proxy.strand(label) >= 1
                stage.open("g")
                assert await asyncio.gather(*waiters) == ["g"] * 10
                ours = [await note.enqueue(number) for number in range(20)]
                for handle in ours:
                    await handle.result(LIMIT_S)
                # Long enough that a lease which is not renewed is found to be over.
                ends_s = asyncio.get_running_loop().time() + 2.5
                await until(lambda: asyncio.get_running_loop().time() > ends_s)
        assert (lost, reclaimed) == ([], [])
    assert stage.count(("started", "g")) == 10
    assert Counter(n for n in stage.notes if isinstance(n, int)) == Counter(range(20))


async def test_200_ms_of_latency(server: Server, stage: Stage) -> None:
    async with proxy_to(server.port) as proxy:
        proxy.latency_s = 0.1  # each way
        far, near = AsyncJobs(proxy.url), AsyncJobs(server.url)
        lost, reclaimed = events_of(far, LeaseLost), events_of(near, JobsReclaimed)
        note = register(far, jobs.note)
        echo = register(far, jobs.echo)
        register(near, jobs.note)
        register(near, jobs.echo)
        async with (
            near,
            far,
            Worker(far, concurrency=100, lease=2, grace=5),
            # It would take the jobs back if the far one's lease ended.
            Worker(near, concurrency=1, lease=2),
        ):
            await far.enqueue_many([note.bind(number) for number in range(1000)])
            await eventually(lambda: is_settled(near))
            assert await (await echo.enqueue("last")).result(LIMIT_S) == "last"
        assert (lost, reclaimed) == ([], [])
    assert Counter(stage.notes) == Counter(range(1000))
