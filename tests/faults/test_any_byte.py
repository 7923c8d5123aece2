"""The connection breaks at any byte: nothing is lost, runs twice, or waits for a lease.

Steps are a few bytes wide and start anywhere, so that all bytes are covered over time.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFunction, Worker
from asyncjobs.events import JobsReclaimed, JobStarted, JobSucceeded, LeaseLost
from asyncjobs.testing.servers import Server
from tests.faults.proxy import Proxy, Way, proxy_to
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, events_of, eventually, is_settled, register

pytestmark = pytest.mark.anyio

WAYS = pytest.mark.parametrize(("way", "step"), [("requests", 41), ("replies", 5)])
MARGIN = 20
"""Bytes past the measured length, for numbers that grow by a digit."""
TRIALS = 7
"""Measurements of one length."""


def offsets(length: int, step: int) -> Iterator[int]:
    """From a random first one to the end of what is cut; tells the seed."""
    seed = random.getrandbits(32)
    print(f"seed: {seed}")
    return iter(range(random.Random(seed).randrange(step), length + MARGIN, step))


class Site:
    """A worker behind a proxy, and an app beside it that enqueues directly."""

    def __init__(self, proxy: Proxy, direct: AsyncJobs, job: JobFunction[..., Any]) -> None:
        self.proxy = proxy
        self.direct = direct
        self.job = job
        self.sent: list[int] = []

    async def run_one(self) -> None:
        """One job from its enqueue to its result."""
        number = len(self.sent)
        self.sent.append(number)
        handle = await self.job.enqueue(number)
        await handle.result(LIMIT_S)

    async def settled(self) -> bool:
        return await is_settled(self.direct)

    async def measure(self, label: str, way: Way, do: Callable[[], Awaitable[None]]) -> int:
        """How many bytes this takes in most cases: the median of a few.

        One of them may send a whole script, which is a hundred times as long, or look in vain
        first. Cuts at such a length would mostly lie behind what they are to break.
        """
        lengths = []
        for _ in range(TRIALS):
            before = self.proxy.passed[label, way]
            await do()
            await eventually(self.settled)
            lengths.append(self.proxy.passed[label, way] - before)
        return statistics.median_low(lengths)


@asynccontextmanager
async def site(
    server: Server, stage: Stage, queues: tuple[str, ...] = ("default", "beside")
) -> AsyncIterator[Site]:
    """Checks at its end that each job ran once, ended once, and waited for no lease.

    A worker of two queues takes by exchanges of its own; one of a single queue also by those
    that wait behind a call.
    """
    async with proxy_to(server.port) as proxy:
        direct, app = AsyncJobs(server.url), AsyncJobs(proxy.url)
        started, succeeded = events_of(app, JobStarted), events_of(app, JobSucceeded)
        late = [events_of(app, kind) for kind in (LeaseLost, JobsReclaimed)]
        register(app, jobs.note)
        async with direct, app, Worker(app, queues=queues, concurrency=2, grace=2):
            here = Site(proxy, direct, register(direct, jobs.note))
            await here.run_one()
            yield here
            proxy.forget_cuts()
            await here.run_one()
            await eventually(here.settled)
        assert Counter(stage.notes) == Counter(here.sent)
        assert (len(started), len(succeeded)) == (len(here.sent), len(here.sent))
        assert late == [[], []]


@WAYS
async def test_an_exchange(server: Server, stage: Stage, way: Way, step: int) -> None:
    async with site(server, stage) as here:
        # Two of them: one takes the job, one settles it.
        length = await here.measure("exchange", way, here.run_one)
        assert length > 100
        rounds = 0
        for passed in offsets(length, step):
            here.proxy.forget_cuts()
            here.proxy.cut_after("exchange", way, passed, reset=passed % 2 == 0)
            await here.run_one()
            rounds += 1
        # What was measured may have had a third exchange, a look that brought nothing.
        assert here.proxy.losses > 0.6 * rounds


@WAYS
async def test_an_exchange_that_waits_behind_a_call(
    server: Server, stage: Stage, way: Way, step: int
) -> None:
    async with site(server, stage, ("default",)) as here:
        await here.run_one()  # the script for it is sent only once
        # A job that comes while no wait stands, just after a look, is taken by an exchange.
        length = max([await here.measure("wait", way, here.run_one) for _ in range(3)])
        assert length > 100
        rounds = 0
        for passed in offsets(length, step):
            here.proxy.forget_cuts()
            here.proxy.cut_after("wait", way, passed, reset=passed % 2 == 0)
            await here.run_one()
            rounds += 1
        # After a loss the next wait is put off for a moment, and jobs come by other exchanges.
        assert here.proxy.losses > 0.1 * rounds


@WAYS
async def test_a_resync(server: Server, stage: Stage, way: Way, step: int) -> None:
    async with site(server, stage) as here:

        async def run_with_a_loss() -> None:
            # The job was taken, and only the store knows it.
            here.proxy.cut_after("exchange", "replies", 0)
            await here.run_one()

        await run_with_a_loss()  # the scripts for it are sent only once
        length = await here.measure("exchange", way, run_with_a_loss)
        before, rounds = here.proxy.losses, 0
        for passed in offsets(length, step * 2):
            here.proxy.forget_cuts()
            here.proxy.cut_after("exchange", "replies", 0)
            here.proxy.cut_after("exchange", way, passed, reset=passed % 2 == 0)
            await here.run_one()
            rounds += 1
        # The last ones lie behind the resync, and the job has ended before they happen.
        assert here.proxy.losses - before > 1.2 * rounds


@pytest.mark.parametrize(("way", "step"), [("requests", 41), ("replies", 1)])
async def test_an_enqueue(server: Server, stage: Stage, way: Way, step: int) -> None:
    async with proxy_to(server.port) as proxy:
        app, direct = AsyncJobs(proxy.url), AsyncJobs(server.url)
        job = register(app, jobs.note)
        register(direct, jobs.note)
        sent = 2
        async with app, direct, Worker(direct, grace=2):
            await job.enqueue(0)
            before = proxy.passed["client", way]
            handle = await job.enqueue(1)
            length = proxy.passed["client", way] - before
            for passed in offsets(length, step):
                proxy.forget_cuts()
                proxy.cut_after("client", way, passed, reset=passed % 2 == 0)
                handle = await job.enqueue(sent)
                assert handle.is_new
                sent += 1
            await handle.result(LIMIT_S)

            async def settled() -> bool:
                return await is_settled(direct)

            await eventually(settled)
        assert proxy.losses >= length // step
    assert Counter(stage.notes) == Counter(range(sent))
