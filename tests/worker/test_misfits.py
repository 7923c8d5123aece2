"""A settlement that cannot be sent costs its own job, and ends no worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    JobCall,
    JobDiscarded,
    JobFailed,
    ResultUnavailable,
    RetryPolicy,
    Worker,
    constant,
)
from asyncjobs.events import JobDead
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Effects, Settlement, SettlementKind
from asyncjobs.store.answers import Exchange
from asyncjobs.store.memory.lease import MemoryLease
from tests.hooked import HookedStore
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, register, working

pytestmark = pytest.mark.anyio

GOOD = [f"good {n}" for n in range(6)]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)
    monkeypatch.setattr("asyncjobs.worker.engine.misfits.FIRST_S", 0.001)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settlement is replaced when it meets its first fault alone."""
    monkeypatch.setattr("asyncjobs.worker.engine.misfits.PATIENCE_S", 0)


class Poisoned(HookedStore):
    """Raises `fault` for each exchange with a settlement for which `is_poison` holds, at most
    `times`; after it has taken effect if `is_late`."""

    def __init__(self, is_poison: Callable[[Settlement], bool]) -> None:
        super().__init__()
        self.is_poison = is_poison
        self.fault: Exception = TypeError("planted")
        self.times = 1_000
        self.is_late = False
        self.sent: list[int] = []

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        self.sent.append(len(settlements))
        is_hit = self.times > 0 and any(map(self.is_poison, settlements))
        answer = None
        if self.is_late or not is_hit:
            answer = await super().exchange(lease, sequence, settlements, demand)
        if is_hit:
            self.times -= 1
            raise self.fault
        assert answer is not None
        return answer


def is_evil(settlement: Settlement) -> bool:
    return settlement.job.id == "evil"


def is_real_end_of_evil(settlement: Settlement) -> bool:
    """Not what is sent instead of it."""
    records = (settlement.outcome or b"") + (settlement.dead_letter or b"")
    return is_evil(settlement) and b"cannot be told" not in records


async def run_beside_good_ones(app: AsyncJobs, evil: JobCall[Any], workers: int = 3) -> None:
    """Run the job called evil between six others, whose settlements are in the same exchanges.

    Each worker ends by itself: none of them dies, however many there are.
    """
    note = register(app, jobs.note)
    good = [note.bind(name) for name in GOOD]
    await app.enqueue_many([*good[:3], evil, *good[3:]])
    async with asyncio.timeout(LIMIT_S):
        for _ in range(workers):
            await Worker(app, concurrency=20).run(burst=True, burst_wait=0)
    assert sorted(each for each in jobs.stage.notes if each in GOOD) == GOOD


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (jobs.gated, ResultUnavailable, "cannot be told its end: TypeError: planted"),
        (jobs.discards, JobDiscarded, "cannot be told its end"),
        (jobs.fails, JobFailed, r"\(unrecorded\).*cannot be told its end"),
        (jobs.flaky, JobFailed, r"\(unrecorded\).*cannot be told its end"),
    ],
    ids=["succeeded", "discarded", "dead", "retried"],
)
async def test_an_end_that_cannot_be_sent_is_a_plainer_one(
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
    function: Any,
    error: type[Exception],
    said: str,
) -> None:
    store = Poisoned(is_real_end_of_evil)
    app = AsyncJobs(backend=store)
    dead = events_of(app, JobDead)
    retry = RetryPolicy(1 if function is jobs.fails else 3, constant(0))
    evil = register(app, function, retry=retry).options(id="evil")
    stage.open("evil")
    async with app:
        arguments = {jobs.gated: ("evil",), jobs.flaky: (1,)}.get(function, ())
        await run_beside_good_ones(app, evil.bind(*arguments))
        with pytest.raises(error, match=said):
            await evil.handle("evil").result(0)
        found = await counts(app)
    assert (sum(found.ready), found.scheduled, found.running) == (0, 0, 0)
    assert found.dead == (error is JobFailed)
    assert [event.reason for event in dead if event.reason == "unrecorded"] == ["unrecorded"] * (
        error is JobFailed
    )
    (record,) = [each for each in caplog.records if "default/evil: the store" in each.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    # All together, each alone, then the plainer one.
    assert store.sent.count(7) == 1


@pytest.mark.usefixtures("no_patience")
async def test_a_success_that_would_lose_what_it_causes_is_dead(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Settlement.succeeded

    def planted(job: TakenJob, *about: Any) -> Settlement:
        settlement = plain(job, *about)
        if job.id != "evil":
            return settlement
        return settlement.causing(Effects((NewJob("default", "child", 2, b"{}"),)))

    monkeypatch.setattr(Settlement, "succeeded", planted)
    app = AsyncJobs(backend=Poisoned(is_real_end_of_evil))
    evil = register(app, jobs.echo).options(id="evil")
    async with app:
        await run_beside_good_ones(app, evil.bind("value"))
        with pytest.raises(JobFailed, match="unrecorded"):
            await evil.handle("evil").result(0)
        assert await app.backend.get([JobRef("default", "child")]) == [None]


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_fault_that_passes_costs_nothing(stage: Stage, times: int) -> None:
    store = Poisoned(is_evil)
    store.times = times
    app = AsyncJobs(backend=store)
    evil = register(app, jobs.echo).options(id="evil")
    async with app:
        await run_beside_good_ones(app, evil.bind("value"))
        assert await evil.handle("evil").result(0) == "value"


async def test_a_fault_after_the_effect_costs_nothing(stage: Stage) -> None:
    store = Poisoned(is_evil)
    store.is_late = True
    app = AsyncJobs(backend=store)
    evil = register(app, jobs.echo).options(id="evil")
    async with app:
        await run_beside_good_ones(app, evil.bind("value"))
        assert await evil.handle("evil").result(0) == "value"
    # The store has said what took effect, so nothing was sent again.
    assert store.sent.count(1) == 0


@pytest.mark.usefixtures("no_patience")
async def test_a_job_that_cannot_be_settled_at_all_keeps_nobody_waiting(stage: Stage) -> None:
    app = AsyncJobs(backend=Poisoned(is_evil))
    evil = register(app, jobs.flaky).options(id="evil")
    async with app:
        await run_beside_good_ones(app, evil.bind(0), workers=2)
        found = await counts(app)
        # Each worker has run it once and given it back at its end.
        assert stage.count(1) == 2
        assert (sum(found.ready), found.running, found.dead) == (1, 0, 0)


async def test_a_job_that_cannot_be_given_back_is_given_back_by_the_lease(stage: Stage) -> None:
    store = Poisoned(lambda settlement: settlement.kind is SettlementKind.RELEASE)
    app = AsyncJobs(backend=store)
    job = register(app, jobs.gated)
    async with app:
        async with working(app, grace=0.01):
            await job.enqueue("evil")
            await stage.noted(("started", "evil"))
        found = await counts(app)
        assert (sum(found.ready), found.running, found.dead) == (1, 0, 0)


async def test_an_error_of_the_system_is_no_fault_of_a_settlement(stage: Stage) -> None:
    """It says nothing of what was to be sent, so nothing is replaced."""
    store = Poisoned(is_evil)
    store.fault = OSError("no buffer space")
    store.times = 1
    app = AsyncJobs(backend=store)
    evil = register(app, jobs.echo).options(id="evil")
    async with app:
        await evil.enqueue("value")
        with pytest.raises((OSError, BaseExceptionGroup)):
            await Worker(app).run(burst=True, burst_wait=0)
        await Worker(app).run(burst=True, burst_wait=0)
        assert await evil.handle("evil").result(0) == "value"


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("kind", ["valkey", "redis"], indirect=True)
async def test_what_the_driver_cannot_write_ends_no_worker(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Settlement.succeeded

    def planted(job: TakenJob, outcome: bytes | None = None, *about: Any) -> Settlement:
        what: Any = ["no bytes"] if job.id == "evil" else outcome
        return plain(job, what, *about)

    monkeypatch.setattr(Settlement, "succeeded", planted)
    evil = register(app, jobs.echo).options(id="evil")
    async with app:
        await run_beside_good_ones(app, evil.bind("value"))
        with pytest.raises(ResultUnavailable, match="cannot be told its end: TypeError"):
            await evil.handle("evil").result(0)
