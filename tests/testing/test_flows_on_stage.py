"""Workflows, limits and `ctx.enqueue` on stage."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, State, chain
from asyncjobs.testing import (
    Recorder,
    VirtualClock,
    assert_enqueued,
    drain,
    perform,
    refute_enqueued,
)
from tests.testing import shop

pytestmark = pytest.mark.anyio


async def test_a_drain_runs_a_flow(asyncjobs_app: AsyncJobs, recorder: Recorder) -> None:
    work = chain(shop.square.bind(3), shop.square)
    handle = await shop.app.flows.start(work)
    assert (await drain()).succeeded == 2
    assert await handle.result(timeout=0) == 81
    assert recorder.results(shop.square) == [9, 81]


async def test_what_a_success_enqueues(asyncjobs_app: AsyncJobs) -> None:
    await shop.orders.enqueue(17)
    refute_enqueued(shop.letter)
    # The order and its letter.
    assert (await drain()).succeeded == 2
    assert_enqueued(shop.letter, args=[17], count=1)


async def test_a_performed_call_enqueues_with_its_success(asyncjobs_app: AsyncJobs) -> None:
    done = await perform(shop.orders, 17)
    assert done.state == "succeeded"
    assert [job.name for job in done.enqueued] == [shop.letter.name]
    assert_enqueued(shop.letter, args=[17], count=1)
    # It is in the store of the app, and the performed call is not.
    assert (await drain()).succeeded == 1


async def test_a_performed_call_that_fails_enqueues_nothing(asyncjobs_app: AsyncJobs) -> None:
    done = await perform(shop.orders, -1)
    assert (done.state, list(done.enqueued)) == ("retry", [])
    refute_enqueued(shop.letter)


async def test_the_clock_moves_to_the_opening_of_a_limit(clock: VirtualClock) -> None:
    handles = [await shop.letter.enqueue(7) for _ in range(4)]
    assert (await drain()).succeeded == 1
    info = await handles[-1].info()
    assert (info.state, info.held_by) == (State.HELD, f"limit {shop.letter.name}:rate:customer 7")
    began = clock.now()
    assert (await clock.advance(minutes=1)).succeeded == 2
    assert (clock.now() - began).total_seconds() == 60
    assert (await drain(scheduled=True)).succeeded == 1
    assert (clock.now() - began).total_seconds() == 90
