"""Named values of a running job: written through under the fence, dropped at its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import Store, Worker, ref

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def needs_notes(store: Store) -> None:
    if not store.backend.capabilities.notes:
        pytest.skip("no capability notes")


async def note(worker: Worker, *notes: tuple[TakenJob, str, bytes]) -> list[bool]:
    return await worker.lease.note([Note(*note) for note in notes])


async def notes(worker: Worker, *jobs: TakenJob) -> list[dict[str, bytes] | None]:
    return await worker.lease.notes(jobs)


async def running(store: Store, worker: Worker, id: str = "a") -> TakenJob:
    await store.enqueue(id)
    return await worker.take_one()


async def dead(store: Store, worker: Worker, job: TakenJob) -> Revival:
    """Let the job die; what revives it."""
    await worker.exchange(Settlement.dead(job, b"{}\n{}"))
    (letter,) = (await store.backend.dead.page(LetterQuery(job.queue))).letters
    return Revival(letter.key, b"again")


async def test_they_are_kept_by_name(store: Store) -> None:
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    worker = await store.worker("one", "two")
    one, two = sorted(await worker.take(), key=lambda job: job.queue)
    assert await notes(worker, one, two) == [{}, {}]
    wrote = await note(worker, (one, "cursor", b"1"), (two, "", b"\xff\0"), (one, "straße", b""))
    assert wrote == [True, True, True]
    assert await note(worker, (one, "cursor", b"2")) == [True]
    assert await notes(worker, two, one) == [
        {"": b"\xff\0"},
        {"cursor": b"2", "straße": b""},
    ]


async def test_the_last_one_of_a_name_counts(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    assert await note(worker, (job, "x", b"1"), (job, "x", b"2")) == [True, True]
    assert await notes(worker, job, job) == [{"x": b"2"}, {"x": b"2"}]


async def test_nothing(store: Store) -> None:
    worker = await store.worker()
    assert await note(worker) == []
    assert await notes(worker) == []


async def test_thousands_in_one_call(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue(*(f"n{n}" for n in range(1_200)))
    jobs = [*await worker.take(600), *await worker.take(600)]
    assert await note(worker, *((job, "n", job.id.encode()) for job in jobs)) == [True] * 1_200
    assert await notes(worker, *jobs) == [{"n": job.id.encode()} for job in jobs]
    await worker.exchange(*map(Settlement.succeeded, jobs))
    assert await notes(worker, *jobs) == [None] * 1_200


async def test_progress_is_the_note_that_a_record_shows(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "other", b"x"))
    assert (await store.look("a")).progress is None
    await note(worker, (job, PROGRESS, b"half"))
    assert (await store.look("a")).progress == b"half"


@pytest.mark.parametrize("end", [Settlement.succeeded, Settlement.discarded, Settlement.cancelled])
async def test_they_go_with_their_job(store: Store, end: Callable[[TakenJob], Settlement]) -> None:
    worker = await store.worker()
    job, other = await running(store, worker), await running(store, worker, "b")
    await note(worker, (job, PROGRESS, b"half"), (other, PROGRESS, b"x"))
    await worker.exchange(end(job))
    assert await note(worker, (job, "late", b"x"), (other, "y", b"y")) == [False, True]
    assert await notes(worker, job, other) == [None, {PROGRESS: b"x", "y": b"y"}]
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await notes(worker, await running(store, worker)) == [{}]


async def test_they_go_with_a_job_that_is_cancelled_while_it_waits(store: Store) -> None:
    worker = await store.worker()
    for delay_ms in (None, 60_000):
        job = await running(store, worker)
        await note(worker, (job, "x", b"1"))
        back = (
            Settlement.release(job)
            if delay_ms is None
            else Settlement.reschedule(job, b"again", delay_ms)
        )
        await worker.exchange(back)
        await store.backend.cancel([ref("a")], None, 0)
        assert await store.state("a") is State.CANCELLED
        await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await notes(worker, await running(store, worker)) == [{}]


async def test_a_retry_that_is_cancelled_instead_drops_them(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "x", b"1"))
    await store.backend.cancel([ref("a")], None, 0)
    await worker.exchange(Settlement.reschedule(job, b"again", 0))
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await notes(worker, await running(store, worker)) == [{}]


async def test_whoever_runs_the_job_next_has_them(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "cursor", b"1"))
    await worker.exchange(Settlement.release(job))
    job = await worker.take_one()
    await worker.exchange(Settlement.reschedule(job, b"again", 10))
    assert await notes(worker, job) == [None]
    store.clock.ms += 10
    job = await worker.take_one()
    assert await notes(worker, job) == [{"cursor": b"1"}]
    await store.end_leases(other)
    assert await notes(other, await other.take_one()) == [{"cursor": b"1"}]


async def test_a_lost_lease_neither_writes_nor_reads(store: Store) -> None:
    worker, other = await store.worker(), await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "x", b"1"))
    await store.end_leases(other)
    assert await note(worker, (job, "x", b"late")) == [False]
    assert await notes(worker, job) == [None]
    again = await other.take_one()
    assert await note(worker, (job, "x", b"late"), (again, "x", b"not mine")) == [False, False]
    # Its receipt may be that of the present taking: whoever took it counts.
    assert await note(other, (job, "x", b"late"), (again, "y", b"2")) == [False, True]
    assert await notes(other, job, again) == [None, {"x": b"1", "y": b"2"}]


async def test_a_job_that_was_given_back(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await worker.exchange(Settlement.release(job))
    assert await note(worker, (job, "x", b"late")) == [False]
    assert await notes(worker, job) == [None]


async def test_a_dead_letter_keeps_them_for_a_revival(store: Store) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "cursor", b"1"), (job, PROGRESS, b"half"))
    revival = await dead(store, worker, job)
    assert await note(worker, (job, "late", b"x")) == [False]
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert (await store.look("a")).progress == b"half"
    again = await worker.take_one()
    assert await notes(worker, again) == [{"cursor": b"1", PROGRESS: b"half"}]
    await worker.exchange(Settlement.succeeded(again))


async def test_a_letter_without_notes_is_revived_without(store: Store) -> None:
    worker = await store.worker()
    other = await running(store, worker, "other")
    await note(worker, (other, "x", b"1"))
    revival = await dead(store, worker, await running(store, worker))
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    assert await notes(worker, await worker.take_one()) == [{}]


async def test_who_inspects_sees_them_of_any_job(store: Store) -> None:
    worker = await store.worker()
    seen = store.backend.inspect.notes
    assert await seen(ref("a"), is_dead=False) == {}
    job = await running(store, worker)
    await note(worker, (job, "step:x", b"1"))
    assert await seen(ref("a"), is_dead=False) == {"step:x": b"1"}
    assert await seen(ref("a"), is_dead=True) == {}
    await worker.exchange(Settlement.reschedule(job, b"again", 0))
    assert await seen(ref("a"), is_dead=False) == {"step:x": b"1"}
    await dead(store, worker, await worker.take_one())
    assert await seen(ref("a"), is_dead=False) == {}
    assert await seen(ref("a"), is_dead=True) == {"step:x": b"1"}
    assert await seen(ref("unknown"), is_dead=True) == {}


@pytest.mark.parametrize("way", ["purge", "prune"])
async def test_they_go_with_the_letter(store: Store, way: str) -> None:
    worker = await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "x", b"1"))
    revival = await dead(store, worker, job)
    if way == "purge":
        assert await store.backend.dead.purge([revival.key]) == [True]
    else:
        await store.pass_time(store.settings.dead_max_age_ms + 1)
        assert await store.backend.prune(["work"], 10) == 1
    worker = await store.worker()
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    assert await notes(worker, await running(store, worker)) == [{}]


async def test_a_new_job_under_the_id_of_a_dead_one(store: Store) -> None:
    """It has none of its notes, and when it dies too, its own are kept."""
    worker = await store.worker()
    job = await running(store, worker)
    await note(worker, (job, "first", b"1"))
    await dead(store, worker, job)
    await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
    second = await running(store, worker)
    assert await notes(worker, second) == [{}]
    revival = await dead(store, worker, second)
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    third = await worker.take_one()
    assert await notes(worker, third) == [{}]
    await note(worker, (third, "third", b"3"))
    revival = await dead(store, worker, third)
    await store.backend.dead.revive([revival])
    assert await notes(worker, await worker.take_one()) == [{"third": b"3"}]


class TestBytesOfLetters:
    """The notes of a dead job are kept with its letter, and count with it."""

    @pytest.fixture
    def new_settings(self) -> StoreSettings:
        return StoreSettings(prefix=f"test-{new_id()}", dead_max_bytes=2_500)

    async def test_notes_count(self, store: Store) -> None:
        worker = await store.worker()
        for number in range(4):
            job = await running(store, worker, f"job-{number}")
            await note(worker, (job, PROGRESS, bytes(900)), (job, "x" * 40, b""))
            await worker.exchange(Settlement.dead(job, b"{}\n{}"))
            store.clock.ms += 1
        assert await store.backend.prune(["work"], 10) == 2
        letters = (await store.backend.dead.page(LetterQuery("work"))).letters
        assert sorted(letter.key.ref.id for letter in letters) == ["job-2", "job-3"]
        assert await store.backend.prune(["work"], 10) == 0

    async def test_a_revival_takes_them_out_of_the_count(self, store: Store) -> None:
        worker = await store.worker()
        for number in range(5):
            job = await running(store, worker, f"job-{number}")
            await note(worker, (job, PROGRESS, bytes(900)))
            revival = await dead(store, worker, job)
            assert await store.backend.dead.revive([revival]) == [Revived.READY]
            await worker.exchange(Settlement.succeeded(await worker.take_one()))
        last = await running(store, worker, "last")
        await worker.exchange(Settlement.dead(last, b"{}\n{}"))
        assert await store.backend.prune(["work"], 10) == 0

    async def test_a_letter_in_the_place_of_another_one(self, store: Store) -> None:
        worker = await store.worker()
        for _ in range(4):
            job = await running(store, worker)
            await note(worker, (job, PROGRESS, bytes(900)))
            await worker.exchange(Settlement.dead(job, b"{}\n{}"))
            await store.pass_time(store.settings.id_ttl_ms * 2 + 1, worker)
        assert await store.backend.prune(["work"], 10) == 0
        assert (await store.counts()).dead == 1
