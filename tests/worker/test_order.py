"""What is taken first: priorities, the guard, queue weights, limits."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, ConfigError, Worker
from asyncjobs.events import WorkerStarted
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, events_of, eventually, register, until, working

pytestmark = pytest.mark.anyio


async def test_priorities_go_in_their_order(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    names = ("low", "normal", "high", "critical")
    async with app:
        for name in names:
            await app.enqueue_many([job.options(priority=name).bind(name) for _ in range(2)])
        await Worker(app, concurrency=1).run(burst=True, burst_wait=0)
    assert stage.notes == [name for name in reversed(names) for _ in range(2)]


async def test_jobs_of_one_priority_go_first_in_first_out(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        await app.enqueue_many([job.bind(number) for number in range(50)])
        await Worker(app, concurrency=1).run(burst=True, burst_wait=0)
    assert stage.notes == list(range(50))


async def test_the_lowest_priority_moves_under_load(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        low = job.options(priority="low")
        await app.enqueue_many([low.bind("low") for _ in range(3)])
        await app.enqueue_many(
            [job.options(priority="critical").bind("critical") for _ in range(100)]
        )
        await Worker(app, concurrency=1).run(burst=True, burst_wait=0)
    places = [place for place, note in enumerate(stage.notes) if note == "low"]
    # One slot in twenty is the guard's.
    assert len(places) == 3
    assert places[0] <= 20
    assert places[2] <= 60


async def test_weights_share_the_slots(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        for queue in ("mail", "other"):
            of_queue = job.options(queue=queue)
            await app.enqueue_many([of_queue.bind(queue) for _ in range(200)])
        await Worker(app, queues={"mail": 3, "other": 1}, concurrency=8).run(
            burst=True, burst_wait=0
        )
    assert len(stage.notes) == 400
    first = stage.notes[:160]
    assert 110 <= first.count("mail") <= 130


async def test_more_queues_than_slots_are_all_served(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    queues = [f"queue-{number}" for number in range(10)]
    async with app:
        for queue in queues:
            of_queue = job.options(queue=queue)
            await app.enqueue_many([of_queue.bind(queue) for _ in range(10)])
        await Worker(app, queues=queues, concurrency=2).run(burst=True, burst_wait=0)
    assert len(stage.notes) == 100
    assert set(stage.notes[:40]) == set(queues)


async def test_a_quiet_queue_is_seen_beside_a_busy_one(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        await app.enqueue_many([job.options(queue="busy").bind("busy") for _ in range(500)])
        await job.options(queue="quiet").enqueue("quiet")
        await Worker(app, queues=["busy", "quiet"], concurrency=1).run(burst=True, burst_wait=0)
    assert stage.notes.index("quiet") < 100


async def test_never_more_at_a_time_than_the_concurrency(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with working(app, concurrency=3):
        handles = [await job.enqueue("g") for _ in range(7)]
        await stage.noted(("started", "g"), 3)
        found = await counts(app)
        assert (found.running, found.ready[2]) == (3, 4)
        assert stage.count(("started", "g")) == 3
        stage.open("g")
        for handle in handles:
            await handle.result(LIMIT_S)


async def test_a_free_slot_is_refilled_at_once(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without its own looks and calls, a worker lives on what exchanges tell it.
    monkeypatch.setattr("asyncjobs.worker.engine.parking.WAIT_S", 600.0)
    job = register(app, jobs.gated)
    async with working(app, concurrency=2):
        names = [f"g{number}" for number in range(6)]
        handles = [await job.enqueue(name) for name in names]
        for name, handle in zip(names, handles, strict=True):
            await stage.noted(("started", name))
            stage.open(name)
            await handle.result(LIMIT_S)


@pytest.mark.parametrize(("limit", "there"), [(1, 1), (1, 5), (3, 10), (5, 5)])
async def test_max_jobs(app: AsyncJobs, stage: Stage, limit: int, there: int) -> None:
    job = register(app, jobs.note)
    async with app:
        await app.enqueue_many([job.bind(number) for number in range(there)])
        report = await Worker(app).run(max_jobs=limit)
        assert report.taken == limit
        assert stage.notes == list(range(limit))
        assert (await counts(app)).ready[2] == there - limit


async def test_max_jobs_waits_for_jobs_to_come(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.note)
    async with app:
        worker = Worker(app)
        started = events_of(app, WorkerStarted)
        run = asyncio.create_task(worker.run(max_jobs=2))
        await until(lambda: bool(started))
        for number in range(3):
            await job.enqueue(number)
        assert (await run).taken == 2


async def test_two_workers_share_a_queue(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, jobs.gated)
    async with app, Worker(app, concurrency=3), Worker(app, concurrency=3):
        handles = [await job.enqueue("g") for _ in range(9)]
        await stage.noted(("started", "g"), 6)

        async def full() -> bool:
            found = await counts(app)
            return found.workers == 2 and found.running == 6 and found.ready[2] == 3

        await eventually(full)
        stage.open("g")
        for handle in handles:
            await handle.result(LIMIT_S)
    assert stage.count(("started", "g")) == 9


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"queues": []}, "queues"),
        ({"queues": ["no good"]}, "no good"),
        ({"queues": {"mail": 0}}, "mail"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"threads": 0}, "threads"),
        ({"grace": -1}, "grace"),
        ({"lease": 0.5}, "lease"),
    ],
)
def test_settings_that_cannot_work_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Worker(AsyncJobs("memory:"), **options)  # type: ignore[arg-type]


def test_without_queues_all_known_ones_are_taken() -> None:
    app = AsyncJobs("memory:")
    register(app, jobs.echo, queue="mail")
    assert Worker(app).queues == {"default": 1, "mail": 1}
