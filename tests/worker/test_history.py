"""What a worker tells the history of the jobs that end with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from asyncjobs import AsyncJobs, RetryPolicy, State, Worker, constant
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.events import JobSucceeded
from asyncjobs.jobs.middleware import CallNext
from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.clock import now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.figures import HOUR_MS, Figures
from asyncjobs.model.history import MAX_ERROR, FinishedJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.store.history import FiguresQuery, FinishedQuery
from asyncjobs.store.memory.lease import MemoryLease
from tests.hooked import HookedStore
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, eventually, register, store_raw, working

pytestmark = pytest.mark.anyio


async def finished(app: AsyncJobs, queue: str = "default") -> dict[str, FinishedJob]:
    """The jobs of the history by function."""
    page = await app.backend.inspect.history.finished(FinishedQuery(queue))
    assert [job.number for job in page.jobs] == [*range(len(page.jobs), 0, -1)]
    return {job.function: job for job in page.jobs}


async def test_each_kind_of_end(app: AsyncJobs, stage: Stage) -> None:
    async with app:
        await register(app, jobs.echo).enqueue(1)
        await register(app, jobs.note, result_ttl=0).enqueue("x")
        await register(app, jobs.fails, retry=RetryPolicy(max_attempts=1)).enqueue("no\n money")
        await register(app, jobs.discards).enqueue()
        retry = RetryPolicy(max_attempts=3, backoff=constant(0))
        await register(app, jobs.flaky, retry=retry).enqueue(1)
        await store_raw(app, b"no envelope")
        await Worker(app, name="w1").run(burst=True)
        found = await finished(app)
    assert {name: job.state for name, job in found.items()} == {
        "echo": State.SUCCEEDED,
        "note": State.SUCCEEDED,
        "fails": State.DEAD,
        "discards": State.DISCARDED,
        "flaky": State.SUCCEEDED,
        "": State.DEAD,
    }
    assert {job.worker for job in found.values()} == {"w1"}
    assert {name: job.attempt for name, job in found.items() if name} == {
        **dict.fromkeys(("echo", "note", "fails", "discards"), 1),
        "flaky": 2,
    }
    assert found["fails"].error == "tests.worker.jobs.Broken: no money"
    assert found["discards"].error == "nothing to do"
    assert found["flaky"].error == ""
    assert found[""].error == "unreadable"
    for name, job in found.items():
        if name:
            assert job.enqueued_ms is not None
            assert job.ready_ms is not None
            assert job.began_ms is not None
            assert job.enqueued_ms <= job.ready_ms <= job.began_ms <= job.ended_ms
            assert job.queued_ms is not None
            assert 0 <= job.lasted_s < 10


async def test_sync_jobs_listeners_and_middleware(app: AsyncJobs, stage: Stage) -> None:
    seen: list[str] = []

    async def looks(attempt: AttemptInfo, call_next: CallNext) -> Any:
        seen.append(attempt.name)
        return await call_next()

    app.middlewares.add_around(looks)
    app.middlewares.add_within(looks)
    app.on(JobSucceeded, lambda event: seen.append(event.name))
    async with app:
        await register(app, jobs.in_thread).enqueue("t")
        await Worker(app).run(burst=True)
        (job,) = (await finished(app)).values()
    assert (job.function, job.state) == ("in_thread", State.SUCCEEDED)
    assert job.began_ms is not None
    assert seen == ["in_thread"] * 3


async def test_a_job_that_is_cancelled_while_it_runs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app):
        handle = await job.enqueue("a")
        await stage.noted(("started", "a"))
        await handle.cancel()
        await ended(app, handle.id, State.CANCELLED)
        (found,) = (await finished(app)).values()
    assert (found.state, found.ref, found.attempt) == (State.CANCELLED, handle.ref, 1)


async def test_jobs_that_are_given_back_have_not_ended(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app, grace=0):
        await job.enqueue("a")
        await stage.noted(("started", "a"))
    async with app:
        assert await finished(app) == {}


async def test_it_is_switched_off(new_app: NewApp, stage: Stage) -> None:
    app = new_app(history=0)
    async with app:
        await register(app, jobs.echo).enqueue(1)
        await register(app, jobs.fails, retry=RetryPolicy(max_attempts=1)).enqueue()
        await Worker(app).run(burst=True)
        assert await finished(app) == {}


async def test_a_long_error_is_cut(app: AsyncJobs, stage: Stage) -> None:
    async with app:
        once = RetryPolicy(max_attempts=1)
        await register(app, jobs.fails, retry=once).enqueue("x" * 5_000)
        await Worker(app).run(burst=True)
        (job,) = (await finished(app)).values()
    assert len(job.error) == MAX_ERROR
    assert job.error.endswith("…")


class LostReplies(HookedStore):
    """Every second exchange that settles something takes effect, and its reply is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.settled = 0

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        self.settled += bool(settlements)
        if settlements and self.settled % 4 == 1:
            raise StoreUnavailable("planted: never arrived")
        answer = await super().exchange(lease, sequence, settlements, demand)
        if settlements and self.settled % 2:
            raise StoreUnavailable("planted: the reply is lost")
        return answer


async def test_no_job_is_listed_twice_after_lost_replies(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)
    app = AsyncJobs(backend=LostReplies())
    job = register(app, jobs.echo)
    async with app:
        sent = [await job.enqueue(number) for number in range(40)]
        await Worker(app, concurrency=4).run(burst=True)
        page = await app.backend.inspect.history.finished(FinishedQuery("default"))
    assert sorted(each.ref for each in page.jobs) == sorted(each.ref for each in sent)


async def figures(app: AsyncJobs, queue: str = "default") -> dict[str, tuple[int, int]]:
    """The attempts and the failures of each function."""
    now = now_ms()
    query = FiguresQuery(queue, now - HOUR_MS, now + HOUR_MS, 24 * HOUR_MS)
    found = await app.backend.inspect.history.figures(query)
    for each in found:
        assert sum(each.queued.values()) == sum(each.ran.values()) == each.attempts
    return {each.function: (each.attempts, each.failed) for each in found}


async def test_attempts_are_counted(app: AsyncJobs, stage: Stage) -> None:
    retry = RetryPolicy(max_attempts=3, backoff=constant(0))
    async with app:
        echo, other = register(app, jobs.echo), register(app, jobs.echo, name="other")
        for job in (echo, other, echo, other, echo):
            await job.enqueue(1)
        await register(app, jobs.flaky, retry=retry).enqueue(1)
        await register(app, jobs.fails, retry=retry).enqueue()
        await register(app, jobs.discards).enqueue()
        await store_raw(app, b"no envelope")
        await Worker(app).run(burst=True)
        # Told when the worker leaves, without a wait for the next time.
        assert await figures(app) == {
            "echo": (3, 0),
            "other": (2, 0),
            "flaky": (2, 1),
            "fails": (3, 3),
            "discards": (1, 0),
        }


async def test_figures_are_told_while_a_worker_runs(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.duties.figures.SHORTEST_S", 0.01)
    monkeypatch.setattr("asyncjobs.worker.duties.figures.LONGEST_S", 0.02)
    job = register(app, jobs.echo)
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)

        async def counted() -> bool:
            return await figures(app) == {"echo": (1, 0)}

        await eventually(counted)


async def test_lost_replies_leave_the_figures_right(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)
    app = AsyncJobs(backend=LostReplies())
    job = register(app, jobs.echo)
    async with app:
        for number in range(40):
            await job.enqueue(number)
        await Worker(app, concurrency=4).run(burst=True)
        assert await figures(app) == {"echo": (40, 0)}


async def test_figures_that_cannot_be_told_hold_up_no_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refuses(HookedStore):
        async def add_figures(self, figures: Sequence[Figures]) -> None:
            raise StoreError("planted: WRONGTYPE")

    app = AsyncJobs(backend=Refuses())
    job = register(app, jobs.echo)
    async with app:
        await job.enqueue(1)
        report = await Worker(app).run(burst=True)
        assert report.taken == 1
        assert await figures(app) == {}
