"""The app is on stage for one test, and is its own again after it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from asyncjobs import AsyncJobs, NotOpen, UsageError
from asyncjobs.errors import MissingCapability
from asyncjobs.events import JobEvent, JobSucceeded
from asyncjobs.testing import Recorder, assert_enqueued, drain, drain_sync, perform, staged
from tests.testing import shop

pytestmark = pytest.mark.anyio
other = AsyncJobs("memory:", result_ttl=77)


@other.job
async def elsewhere(number: int) -> int:
    return number


async def test_the_app_is_its_own_again() -> None:
    app = other
    openings = app._openings
    handlers = list(logging.getLogger().handlers)
    with staged(app) as stage:
        assert stage.app is app
        assert app.store_url == "memory:"
        await elsewhere.enqueue(1)
    assert app._openings is openings
    assert logging.getLogger().handlers == handlers
    with pytest.raises(NotOpen):
        await elsewhere.enqueue(2)
    assert len(stage.recorder.enqueued) == 1
    # Its own store has seen nothing of the test, and the stage nothing of the time after it.
    async with app:
        handle = await elsewhere.enqueue(3)
        assert (await handle.info()).args == [3]
    assert len(stage.recorder.enqueued) == 1
    assert not app.events.active


async def test_it_is_its_own_again_after_an_error() -> None:
    openings = other._openings
    with pytest.raises(ZeroDivisionError), staged(other):
        raise ZeroDivisionError
    assert other._openings is openings


async def test_settings_stay(asyncjobs_app: AsyncJobs) -> None:
    with staged(other):
        assert other.settings.result_ttl_ms == 77_000
        await elsewhere.enqueue(1)


async def test_dependencies_are_those_of_the_app_and_may_be_replaced(
    asyncjobs_app: AsyncJobs, recorder: Recorder
) -> None:
    shop.printers.clear()
    await shop.prints.enqueue(1)
    await shop.prints.options(delay=60).enqueue(2)
    await drain(scheduled=True)
    assert recorder.results(shop.prints) == ["1 on laser", "2 on laser"]
    # Once a drain, however far the clock moves in it.
    assert shop.printers == ["opened", "closed"]
    with asyncjobs_app.override(shop.printer, lambda: "paper"):
        assert (await perform(shop.prints, 3)).value == "3 on paper"
    assert (await perform(shop.prints, 4)).value == "4 on laser"


async def test_async_listeners_hear_what_is_run_and_nothing_after_the_test() -> None:
    heard: list[object] = []

    async def listen(event: JobEvent) -> None:
        heard.append(event.ref)

    remove = other.on(JobEvent, listen)
    try:
        with staged(other) as stage:
            handle = await elsewhere.enqueue(1)
            await stage.worker.drain()
            # Enqueued, started, succeeded: all of it is heard when the drain returns.
            assert heard == [handle.ref] * 3
            await elsewhere.enqueue(2)
        async with other:
            pass
        assert heard == [handle.ref] * 3
    finally:
        remove()


def test_async_listeners_hear_of_sync_tests() -> None:
    heard: list[object] = []

    async def listen(event: JobSucceeded) -> None:
        heard.append(event.ref)

    remove = other.on(JobSucceeded, listen)
    try:
        with staged(other) as stage:
            handle = elsewhere.enqueue_sync(1)
            stage.worker.drain_sync()
        assert heard == [handle.ref]
    finally:
        remove()


async def test_the_code_under_test_may_open_the_app_itself(asyncjobs_app: AsyncJobs) -> None:
    async with asyncjobs_app:
        await shop.check_out(1)
    # What it has stored is looked at after that.
    assert_enqueued(shop.receipt, args=[1])
    assert (await drain()).succeeded == 1


async def test_sync_code_in_a_thread_of_an_async_test(asyncjobs_app: AsyncJobs) -> None:
    handle = await asyncio.to_thread(shop.receipt.enqueue_sync, 1)
    await shop.check_out(2)
    await asyncio.to_thread(shop.receipt.enqueue_sync, 3)
    assert (await drain()).succeeded == 3
    assert await asyncio.to_thread(handle.result_sync, timeout=10) == "1 of 1"


def test_several_loops_of_one_test(asyncjobs_app: AsyncJobs) -> None:
    """A web application's test client runs a loop of its own, in its own thread."""
    asyncio.run(shop.check_out(1))
    asyncio.run(shop.check_out(2))
    shop.receipt.enqueue_sync(3)
    assert drain_sync().succeeded == 3


async def test_two_apps_in_one_test(asyncjobs_app: AsyncJobs) -> None:
    with staged(other) as second:
        await elsewhere.enqueue(1)
        await shop.check_out(1)
        assert_enqueued(elsewhere, count=1)
        assert_enqueued(shop.receipt, count=1)
        with pytest.raises(UsageError, match="2 apps are on stage"):
            await drain()
        assert (await second.worker.drain()).succeeded == 1
        assert (await perform(shop.adds, 1, 1)).value == 2
    with pytest.raises(UsageError, match="is not on stage in this test"):
        assert_enqueued(elsewhere)
    assert (await drain()).succeeded == 1


def test_what_is_no_app_is_refused() -> None:
    with pytest.raises(UsageError, match="an AsyncJobs is needed"), staged("shop:app"):  # type: ignore[arg-type]
        pass


async def test_what_the_store_cannot_keep_is_refused(
    asyncjobs_app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = asyncjobs_app.backend
    lacks = replace(backend.capabilities, unique=False)
    monkeypatch.setattr(backend, "capabilities", lacks)
    with pytest.raises(MissingCapability, match="once_an_hour"):
        await shop.check_out(1)
