"""`on_dead` and `on_discard`, on each store: what they get, and that they change nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asyncjobs import Abort, AsyncJobs, JobDiscarded, JobEnd, JobFailed, RegistrationError, State
from asyncjobs.model.refs import JobRef
from asyncjobs.worker.engine import callbacks
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, register, store_raw, until, working

pytestmark = pytest.mark.anyio

ends: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    ends.clear()


def noting(name: str) -> Any:
    async def callback(end: JobEnd) -> None:
        ends.append((name, end))

    return callback


async def test_a_dead_job_is_told_to_its_function_and_to_the_app(app: AsyncJobs) -> None:
    job, other = register(app, jobs.fails, retry=False), register(app, jobs.fails_in_group)
    app.on_dead(noting("app"))
    app.on_discard(noting("discard"))
    job.on_dead(noting("function"))
    other.on_dead(noting("other"))
    async with working(app):
        handle = await job.enqueue(text="no")
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        await until(lambda: len(ends) == 2)
    assert [name for name, _ in ends] == ["function", "app"]
    end: JobEnd = ends[0][1]
    assert (end.ref, end.name, end.number, end.reason) == (handle.ref, job.name, 1, "exhausted")
    assert isinstance(end.error, jobs.Broken)
    assert end.attempt is not None
    assert end.attempt.kwargs == {"text": "no"}


async def test_a_discarded_job_is_told_with_its_reason(app: AsyncJobs) -> None:
    job = register(app, jobs.discards)
    job.on_discard(noting("function"))
    job.on_dead(noting("dead"))
    async with working(app):
        with pytest.raises(JobDiscarded):
            await (await job.enqueue()).result(LIMIT_S)
        await until(lambda: len(ends) == 1)
    ((name, end),) = ends
    assert (name, end.reason) == ("function", "nothing to do")


async def test_a_job_that_has_expired_is_told_as_discarded(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    job.on_discard(noting("function"))
    async with app:
        handle = await job.options(expires=0.001).enqueue("x")
        await asyncio.sleep(0.005)
        async with working(app):
            await ended(app, handle.id, State.DISCARDED)
            await until(lambda: len(ends) == 1)
    ((_, end),) = ends
    assert (end.reason, end.error, end.attempt.args) == ("expired", None, ("x",))


async def test_a_job_that_cannot_be_read_is_told_to_the_app_alone(app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    app.on_dead(noting("app"))
    job.on_dead(noting("function"))
    async with working(app):
        await store_raw(app, b"no envelope", id="odd")
        await until(lambda: len(ends) == 1)
    ((name, end),) = ends
    assert (name, end.ref, end.name) == ("app", JobRef("default", "odd"), "")
    assert (end.reason, end.attempt) == ("unreadable", None)


async def test_what_a_callback_raises_is_logged_and_changes_nothing(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, jobs.fails, retry=False)

    @job.on_dead
    async def breaks(end: JobEnd) -> None:
        raise SystemExit(3)

    @job.on_dead
    async def aborts(end: JobEnd) -> None:
        raise Abort("too late")

    job.on_dead(noting("last"))
    async with working(app) as worker:
        for _ in range(2):
            handle = await job.enqueue()
            with pytest.raises(JobFailed, match="broken"):
                await handle.result(LIMIT_S)
        await until(lambda: len(ends) == 2)
        assert await handle.status() is State.DEAD
        assert worker.running == 0
    told = [record for record in caplog.records if "a callback of on_dead failed" in record.message]
    assert len(told) == 4
    assert {record.__dict__["job"] for record in told} == {job.name}


async def test_a_worker_that_stops_waits_for_callbacks_within_its_grace(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.fails, retry=False)

    @job.on_dead
    async def slow(end: JobEnd) -> None:
        stage.note("begun")
        await stage.gate("callback").wait()
        ends.append("done")

    async with app:
        async with working(app, grace=LIMIT_S) as worker:
            await job.enqueue()
            await stage.noted("begun")
            worker.stop()
            asyncio.get_running_loop().call_later(0.02, stage.open, "callback")
        assert ends == ["done"]


async def test_a_callback_that_never_ends_is_cancelled_at_the_end_of_the_grace(
    app: AsyncJobs,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("asyncjobs.worker.shift.LEAVE_S", 0.05)
    job = register(app, jobs.fails, retry=False)

    @job.on_dead
    async def hangs(end: JobEnd) -> None:
        stage.note("begun")
        try:
            await asyncio.sleep(60)
        finally:
            ends.append("cancelled")

    async with app:
        async with working(app, grace=0.05) as worker:
            handle = await job.enqueue()
            await stage.noted("begun")
            worker.stop()
        assert ends == ["cancelled"]
    assert f"{handle.ref}: a callback was not called to its end" in caplog.text


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
async def test_a_callback_has_a_time_limit(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks, "LIMIT_S", 0.01)
    job = register(app, jobs.fails, retry=False)

    @job.on_dead
    async def hangs(end: JobEnd) -> None:
        await asyncio.sleep(60)

    job.on_dead(noting("next"))
    async with working(app):
        await job.enqueue()
        await until(lambda: len(ends) == 1)
    assert "a callback of on_dead failed, which changes nothing: TimeoutError" in caplog.text


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
async def test_so_many_run_at_once_and_so_many_wait(
    app: AsyncJobs,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(callbacks, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(callbacks, "MOST_WAITING", 1)
    job = register(app, jobs.fails, retry=False)
    running = 0

    @job.on_dead
    async def counts(end: JobEnd) -> None:
        nonlocal running
        running += 1
        ends.append(running)
        await stage.gate("callbacks").wait()
        running -= 1

    async with working(app):
        handles = [await job.enqueue() for _ in range(4)]
        for handle in handles:
            await ended(app, handle.id, State.DEAD)
        stage.open("callbacks")
        await until(lambda: len(ends) == 3)
    assert max(ends) == 2
    missed = [record for record in caplog.records if "was not called to its end" in record.message]
    assert len(missed) == 1
    assert missed[0].levelno == logging.ERROR


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
def test_what_cannot_be_a_callback_is_refused(app: AsyncJobs) -> None:
    def plain(end: JobEnd) -> None: ...

    async def takes_two(end: JobEnd, more: int) -> None: ...

    wrong: list[Any] = [plain, takes_two]
    for callback in wrong:
        for register_it in (app.on_dead, app.on_discard):
            with pytest.raises(RegistrationError, match=r"async def f\(end\)"):
                register_it(callback)
    assert app.hooks.callbacks(is_dead=True) == app.hooks.callbacks(is_dead=False) == ()
