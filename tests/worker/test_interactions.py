"""What happens when a capability meets a retry, a crash, a pause and the like. The page
docs/reference/interactions.md names these tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    Batch,
    JobFailed,
    JobFunction,
    JobHandle,
    Snooze,
    State,
    Unique,
    Worker,
    constant,
)
from asyncjobs import RetryPolicy as Policy
from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.outcome import revived
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.memory.lease import MemoryLease
from tests.hooked import HookedStore
from tests.worker import interaction_jobs as jobs
from tests.worker.kit import LIMIT_S, Stage, counts, ended, eventually, register

pytestmark = [pytest.mark.anyio]

PAST = datetime(2020, 1, 1, tzinfo=UTC)
SUBJECTS: dict[str, Callable[..., Any]] = {
    "max_running": jobs.bounded,
    "steps": jobs.stepping,
    "batch": jobs.batched,
    "gather": jobs.gathering,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "max_running": {"max_running": 1},
    # A failed attempt that has finished a step is a resumption, and spends no attempt.
    "steps": {"max_resumptions": 0},
    "batch": {"batch": Batch(size=10, window=0.01)},
}
ALL = pytest.mark.parametrize("name", SUBJECTS)


@pytest.fixture
def app() -> AsyncJobs:
    return AsyncJobs("memory:")


def subject(app: AsyncJobs, stage: Stage, name: str, **options: Any) -> JobFunction[..., Any]:
    """The job function of this capability. Its jobs return their argument."""
    stage.again = register(app, jobs.leaf)
    options.setdefault("retry", Policy(3, constant(0)))
    return register(app, SUBJECTS[name], **OPTIONS.get(name, {}), **options)


def plan(stage: Stage, **hurdles: list[BaseException]) -> None:
    """What the jobs with these arguments raise, in their order."""
    stage.hurdles = hurdles  # type: ignore[attr-defined]


async def burst(app: AsyncJobs) -> None:
    """Run all that is there."""
    await Worker(app, concurrency=10).run(burst=True)


async def results(handles: Sequence[JobHandle[Any]]) -> list[Any]:
    return [await handle.result(LIMIT_S) for handle in handles]


async def two(job: JobFunction[..., Any]) -> list[JobHandle[Any]]:
    return [await job.enqueue("a"), await job.enqueue("b")]


def all_ran_once(stage: Stage, name: str, *arguments: str) -> None:
    """Steps and children of these jobs have run once, however often the job has."""
    word = {"steps": "step", "gather": "leaf"}.get(name)
    if word is not None:
        assert [stage.count((word, what)) for what in arguments] == [1] * len(arguments)


@ALL
async def test_a_retry_is_for_the_job_that_has_failed(
    app: AsyncJobs, stage: Stage, name: str
) -> None:
    job = subject(app, stage, name)
    plan(stage, a=[ValueError("once")])
    async with app:
        handles = await two(job)
        await burst(app)
        assert await results(handles) == ["a", "b"]
    assert (stage.count("a"), stage.count("b")) == (2, 1)
    all_ran_once(stage, name, "a", "b")


@ALL
async def test_a_snooze_spends_no_attempt(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name, retry=False)
    plan(stage, a=[Snooze(0), Snooze(0)])
    async with app:
        handles = await two(job)
        await burst(app)
        assert await results(handles) == ["a", "b"]
    assert (stage.count("a"), stage.count("b")) == (3, 1)
    all_ran_once(stage, name, "a", "b")


async def crash(app: AsyncJobs, number: int) -> None:
    """Let a worker die that holds so many jobs."""
    lease = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 1))
    demand = {"default": Demand(number, suspects=(number,))}
    assert len((await lease.exchange(1, [], demand)).jobs) == number

    async def reclaimed() -> bool:
        return (await app.backend.reclaim(["default"], 0, 100)).returned == number

    await eventually(reclaimed)


@ALL
async def test_another_worker_takes_over(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        handles = await two(job)
        await crash(app, 2)
        await burst(app)
        assert await results(handles) == ["a", "b"]
        assert [(await handle.info()).attempt for handle in handles] == [1, 1]


@ALL
async def test_after_too_many_crashes_it_is_dead(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        handle = await job.enqueue("a")
        for _ in range(6):
            await crash(app, 1)
        other = await job.enqueue("b")
        await burst(app)
        with pytest.raises(JobFailed, match="crashed"):
            await handle.result(LIMIT_S)
        assert await other.result(LIMIT_S) == "b"
    assert stage.count("a") == 0


@ALL
async def test_a_waiting_job_is_cancelled(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        handles = await two(job)
        assert await handles[0].cancel()
        await burst(app)
        assert await handles[1].result(LIMIT_S) == "b"
        assert await handles[0].status() is State.CANCELLED
    assert stage.count("a") == 0


@ALL
async def test_what_has_expired_does_not_start(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        late = await job.options(expires=PAST).enqueue("a")
        good = await job.enqueue("b")
        await burst(app)
        assert await good.result(LIMIT_S) == "b"
        assert (await late.info()).reason == "expired"
    assert stage.count("a") == 0


async def revive(app: AsyncJobs, state: Revived = Revived.READY) -> None:
    """Run the one dead job again."""
    (letter,) = (await app.backend.dead.page(LetterQuery("default"))).letters
    revival = Revival(letter.key, revived(letter.letter, now_ms()))
    assert await app.backend.dead.revive([revival]) == [state]


@ALL
async def test_a_dead_job_runs_again(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name, retry=False)
    plan(stage, a=[ValueError("once")])
    async with app:
        handles = await two(job)
        await burst(app)
        with pytest.raises(JobFailed):
            await handles[0].result(LIMIT_S)
        await revive(app)
        await burst(app)
        assert await results(handles) == ["a", "b"]
    all_ran_once(stage, name, "a", "b")


class LostReplies(HookedStore):
    """Every second exchange that settles something takes effect, and its reply is lost."""

    settled = 0

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        answer = await super().exchange(lease, sequence, settlements, demand)
        self.settled += bool(settlements)
        if settlements and self.settled % 2:
            raise StoreUnavailable("planted: the reply is lost")
        return answer


@ALL
async def test_a_lost_reply_runs_nothing_again(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)
    app = AsyncJobs(backend=LostReplies())
    job = subject(app, stage, name)
    async with app:
        handles = [await job.enqueue(letter) for letter in "abcdef"]
        await burst(app)
        assert await results(handles) == list("abcdef")
    assert [stage.count(letter) for letter in "abcdef"] == [1] * 6


@ALL
async def test_a_paused_queue_keeps_it(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        await app.queues.pause("default")
        handles = await two(job)
        await burst(app)
        assert sum((await counts(app)).ready) == 2
        await app.queues.resume("default")
        await burst(app)
        assert await results(handles) == ["a", "b"]
    assert (stage.count("a"), stage.count("b")) == (1, 1)


@ALL
async def test_a_unique_key_is_held_until_its_end(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name, unique=Unique())
    plan(stage, a=[ValueError("once")])
    async with app:
        first = await job.enqueue("a")
        assert (await job.enqueue("a")).disposition == "existing"
        other = await job.enqueue("b")
        await burst(app)
        assert await results([first, other]) == ["a", "b"]
        assert (await job.enqueue("a")).disposition == "new"
    assert stage.count("b") == 1


@ALL
async def test_a_schedule_makes_its_jobs(app: AsyncJobs, stage: Stage, name: str) -> None:
    job = subject(app, stage, name)
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        handle = await app.schedules.trigger("yearly")
        await burst(app)
        assert await handle.result(LIMIT_S) == "a"


# -- keys, events, ticks ------------------------------------------------------------------------


async def test_a_paused_queue_frees_no_key(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.bounded, unique=Unique())
    async with app:
        await app.queues.pause("default")
        first = await job.enqueue("a")
        await burst(app)
        assert (await job.enqueue("a")).id == first.id
        await app.queues.resume("default")
        await burst(app)
        assert (await job.enqueue("a")).disposition == "new"


async def wait_of(app: AsyncJobs, handle: JobHandle[Any]) -> None:
    """Run the job until it waits."""
    await burst(app)
    await ended(app, handle.id, State.SCHEDULED)


async def test_a_wait_ends_no_expiry(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.waiting)
    async with app:
        expires_ms = now_ms() + 1_000
        handle = await job.options(expires=1).enqueue("a")
        await wait_of(app, handle)

        async def is_over() -> bool:
            return now_ms() > expires_ms + 100

        await eventually(is_over)
        await app.send_event("go", "a", "value")
        await burst(app)
        assert (await handle.info()).reason == "expired"
    assert stage.notes == []


async def test_a_job_that_waits_holds_its_key(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.waiting, unique=Unique())
    async with app:
        handle = await job.enqueue("a")
        await wait_of(app, handle)
        assert (await job.enqueue("a")).id == handle.id
        await app.send_event("go", "a", "value")
        await burst(app)
        assert await handle.result(LIMIT_S) == "value"


async def test_a_job_of_a_schedule_waits_for_an_event(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.waiting)
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        handle = await app.schedules.trigger("yearly")
        await wait_of(app, handle)
        await app.send_event("go", "a", "value")
        await burst(app)
        assert await handle.result(LIMIT_S) == "value"


async def test_a_dead_job_of_a_schedule_knows_its_schedule_again(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, jobs.bounded, retry=False)
    plan(stage, a=[ValueError("once")])
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        handle = await app.schedules.trigger("yearly")
        await burst(app)
        assert await handle.status() is State.DEAD
        await revive(app)
        await burst(app)
        assert await handle.result(LIMIT_S) == "a"


async def test_jobs_of_a_schedule_wait_in_a_paused_queue(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.bounded)
    async with app:
        await app.queues.pause("default")
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        handle = await app.schedules.trigger("yearly")
        await burst(app)
        assert await handle.status() is State.READY
        await app.queues.resume("default")
        await burst(app)
        assert await handle.result(LIMIT_S) == "a"


async def test_a_job_of_a_schedule_expires(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.bounded, expires=0.01)
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly")
        made_ms = now_ms()
        handle = await app.schedules.trigger("yearly")

        async def is_late() -> bool:
            return now_ms() > made_ms + 200

        await eventually(is_late)
        await burst(app)
        assert (await handle.info()).reason == "expired"
    assert stage.notes == []


async def test_a_job_of_a_schedule_crashes_too_often(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.bounded)
    async with app:
        await app.schedules.put("yearly", job.bind("a"), cron="@yearly", overlap="skip")
        handle = await app.schedules.trigger("yearly")
        for _ in range(6):
            await crash(app, 1)
        await burst(app)
        assert (await handle.info()).reason == "crashed"
        # It is in the way of no later tick.
        again = await app.schedules.trigger("yearly")
        await burst(app)
        assert await again.result(LIMIT_S) == "a"


# -- processes ----------------------------------------------------------------------------------


async def test_a_process_comes_after_pauses_keys_deaths_and_ticks(
    app: AsyncJobs, stage: Stage, tmp_path: Path
) -> None:
    job = register(app, jobs.apart, isolation="process", retry=False, unique=Unique())
    folder = str(tmp_path)
    async with app:
        late = await job.options(expires=PAST, unique=None).enqueue(folder)
        await app.queues.pause("default")
        first = await job.enqueue(folder)
        assert (await job.enqueue(folder)).id == first.id
        await burst(app)
        assert await first.status() is State.READY
        await app.queues.resume("default")
        await burst(app)
        assert (await late.info()).reason == "expired"
        assert await first.status() is State.DEAD
        (tmp_path / "go").touch()
        await revive(app)
        await burst(app)
        assert await first.result(LIMIT_S) == folder
        await app.schedules.put("yearly", job.bind(folder), cron="@yearly")
        made = await app.schedules.trigger("yearly")
        await burst(app)
        assert await made.result(LIMIT_S) == folder
