"""One call by `perform`, all jobs by `drain`, and a worker in the background."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from asyncjobs import ArgumentsError, AsyncJobs, JobsDied, JobsLeft, State, UsageError
from asyncjobs.testing import (
    Recorder,
    StageWorker,
    VirtualClock,
    assert_enqueued,
    drain,
    drain_sync,
    perform,
    perform_sync,
    refute_enqueued,
)
from tests.testing import shop

pytestmark = pytest.mark.anyio


async def test_perform_runs_one_call_and_enqueues_none(
    asyncjobs_app: AsyncJobs, ran: list[object], recorder: Recorder
) -> None:
    done = await perform(shop.receipt, 4, copies=2)
    assert (done.state, done.value, done.error, done.attempt) == ("succeeded", "2 of 4", None, 1)
    assert [record.getMessage() for record in done.logs] == ["receipt for 4"]
    assert ran == [4]
    refute_enqueued(shop.receipt)
    assert recorder.results() == ["2 of 4"]


async def test_perform_passes_the_codec(asyncjobs_app: AsyncJobs, ran: list[object]) -> None:
    address = {"city": "Bonn"}
    await perform(shop.tangle, address)
    assert ran == [address]
    assert ran[0] is not address
    with pytest.raises(ArgumentsError):
        await perform(shop.receipt)  # type: ignore[call-arg]


async def test_perform_converts_arguments_and_results(
    asyncjobs_app: AsyncJobs, ran: list[object]
) -> None:
    home = shop.Address("Bonn", date(2020, 2, 29))
    assert (await perform(shop.moves, home, Decimal("1.50"))).value == home
    assert ran == [(home, Decimal("1.50"))]


async def test_perform_passes_middleware(asyncjobs_app: AsyncJobs) -> None:
    seen: list[str] = []

    async def twice(attempt: object, call_next: object) -> object:
        seen.append("before")
        return 2 * await call_next()  # type: ignore[operator]

    before = asyncjobs_app.middlewares.within
    asyncjobs_app.middlewares.add_within(twice)  # type: ignore[arg-type]
    try:
        assert (await perform(shop.adds, 1, 2)).value == 6
    finally:
        asyncjobs_app.middlewares.within = before
    assert seen == ["before"]


async def test_perform_says_how_the_policies_have_judged(asyncjobs_app: AsyncJobs) -> None:
    retry = await perform(shop.failing)
    assert (retry.state, retry.delay) == ("retry", timedelta(seconds=60))
    with pytest.raises(ValueError, match="on fire") as raised:
        _ = retry.value
    assert raised.value is retry.error
    dead = await perform(shop.failing.options(retry=False))
    assert (dead.state, dead.reason, type(dead.error)) == ("dead", "exhausted", ValueError)
    snoozed = await perform(shop.late)
    assert (snoozed.state, snoozed.delay) == ("snoozed", timedelta(seconds=30))
    with pytest.raises(AssertionError, match="has no value, for it is snoozed"):
        _ = snoozed.value
    dropped = await perform(shop.dropped)
    assert (dropped.state, dropped.reason) == ("discarded", "nobody wants it")


async def test_perform_runs_the_attempt_that_is_asked_for(asyncjobs_app: AsyncJobs) -> None:
    third = await perform(shop.failing.bind(), attempt=3)
    assert (third.attempt, third.state) == (3, "dead")
    assert (await perform(shop.failing.bind(times=2), attempt=3)).value == 3
    with pytest.raises(UsageError, match="takes a job function"):
        await perform(shop.check_out, 1)  # type: ignore[call-overload]


async def test_perform_ignores_delays_and_unique_keys(asyncjobs_app: AsyncJobs) -> None:
    await shop.once_an_hour.enqueue()
    assert (await perform(shop.once_an_hour)).state == "succeeded"
    assert (await perform(shop.receipt.options(delay=3_600), 1)).state == "succeeded"


async def test_perform_tells_what_was_enqueued(asyncjobs_app: AsyncJobs) -> None:
    await shop.check_out(1)
    done = await perform(shop.mail, "a@example.org")
    assert [(call.name, call.args) for call in done.enqueued] == [(shop.receipt.name, [99])]
    assert_enqueued(shop.receipt, args=[99])


async def test_drain_runs_all_in_order_and_what_they_enqueue(
    asyncjobs_app: AsyncJobs, ran: list[object]
) -> None:
    await shop.mail.enqueue("a@example.org")
    for order in (1, 2, 3):
        await shop.check_out(order)
    done = await drain()
    assert (done.succeeded, done.attempts) == (5, 5)
    assert [order for order in ran if order != "a@example.org"] == [1, 2, 3, 99]
    assert await drain() == type(done)()


async def test_drain_makes_batches_without_their_window(
    asyncjobs_app: AsyncJobs, worker: StageWorker, ran: list[object]
) -> None:
    handles = [await shop.restock.enqueue(product) for product in (1, 2, 3)]
    done = await worker.drain(concurrency=10)
    assert (done.succeeded, ran) == (3, [[1, 2, 3]])
    assert [await handle.result() for handle in handles] == [1, 2, 3]
    # With one slot, as by default, each batch has one item.
    await shop.total.enqueue([4, 5])
    assert (await drain()).succeeded == 3
    assert ran == [[1, 2, 3], [4], [5]]


async def test_perform_runs_a_batch_of_one(asyncjobs_app: AsyncJobs) -> None:
    assert (await perform(shop.restock, 7)).value == 7
    failed = await perform(shop.restock, 0)
    assert failed.state == "retry"
    assert isinstance(failed.error, ValueError)


async def test_drain_follows_jobs_into_queues_that_nobody_knows(
    asyncjobs_app: AsyncJobs, ran: list[object]
) -> None:
    await shop.elsewhere.enqueue()
    assert (await drain()).succeeded == 2
    assert ran == [5]


async def test_drain_leaves_what_is_due_later(
    asyncjobs_app: AsyncJobs, clock: VirtualClock, ran: list[object]
) -> None:
    handle = await shop.failing.enqueue(times=2)
    assert (await drain()).retried == 1
    assert await handle.status() is State.SCHEDULED
    began = clock.now()
    done = await drain(scheduled=True)
    assert (done.retried, done.succeeded) == (1, 1)
    assert ran == [1, 2, 3]
    assert clock.now() == began + timedelta(seconds=120)


async def test_drain_raises_for_the_dead_unless_told(asyncjobs_app: AsyncJobs) -> None:
    handle = await shop.failing.options(retry=False).enqueue()
    with pytest.raises(JobsDied, match="1 job is dead") as died:
        await drain()
    assert died.value.dead == (handle.ref,)
    assert "exhausted at attempt 1, ValueError" in str(died.value)
    assert isinstance(died.value.__cause__, ValueError)
    handle = await shop.failing.options(retry=False).enqueue()
    done = await drain(raise_dead=False)
    assert (done.dead, done.dead_jobs) == (1, (handle.ref,))


async def test_drain_is_bounded(asyncjobs_app: AsyncJobs, worker: StageWorker) -> None:
    await shop.forever.enqueue()
    with pytest.raises(JobsLeft, match=r"20 attempts have run.*shop\.forever 20 times"):
        await worker.drain(limit=20, timeout=5)


async def test_a_drain_that_needs_its_limit_is_done(asyncjobs_app: AsyncJobs) -> None:
    for order in range(5):
        await shop.check_out(order)
    assert (await drain(limit=5)).succeeded == 5


async def test_a_job_that_hangs_is_named(asyncjobs_app: AsyncJobs, worker: StageWorker) -> None:
    await shop.hangs.enqueue()
    with pytest.raises(JobsLeft, match=r"running: tests\.testing\.shop\.hangs"):
        await worker.drain(timeout=0.05)


async def test_a_job_may_wait_for_another_one(
    asyncjobs_app: AsyncJobs, worker: StageWorker, recorder: Recorder
) -> None:
    await shop.waits.enqueue()
    await worker.drain(concurrency=2)
    assert recorder.results(shop.waits) == ["1 of 1"]


async def test_a_worker_in_the_background(asyncjobs_app: AsyncJobs, worker: StageWorker) -> None:
    async with worker:
        handle = await shop.check_out(8)
        assert await handle.result(timeout=10) == "1 of 8"
        with pytest.raises(UsageError, match="runs in the background already"):
            await worker.drain()
    await shop.check_out(9)
    assert (await worker.drain()).succeeded == 1


async def test_sync_names_are_refused_on_a_loop(asyncjobs_app: AsyncJobs) -> None:
    with pytest.raises(UsageError, match=r"write await worker.drain\(\) in an async test"):
        drain_sync()
    with pytest.raises(UsageError, match=r"write await worker\.perform"):
        perform_sync(shop.receipt, 1)


def test_a_test_that_is_not_async_goes_the_whole_way(
    asyncjobs_app: AsyncJobs, clock: VirtualClock, ran: list[object]
) -> None:
    handle = shop.failing.enqueue_sync(times=1)
    assert_enqueued(shop.failing, kwargs={"times": 1})
    assert drain_sync().retried == 1
    assert handle.status_sync() is State.SCHEDULED
    assert clock.advance_sync(minutes=1).succeeded == 1
    assert handle.result_sync(timeout=0) == 2
    assert perform_sync(shop.receipt, 1).value == "1 of 1"
    assert ran == [1, 2, 1]
