"""What is true of the memory store alone: its data stays bounded, its calls are kept."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.errors import UsageError
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import ReadyList, Timed
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio


@pytest.fixture
def backend(clock: PinnedClock, new_settings: StoreSettings) -> MemoryBackend:
    return MemoryBackend(new_settings, now_ms=clock)


@pytest.fixture
def own(backend: MemoryBackend, clock: PinnedClock, new_settings: StoreSettings) -> Store:
    return Store(backend, clock, new_settings, lambda settings, now_ms: backend)


async def test_a_store_is_private_to_its_backend(own: Store) -> None:
    await own.enqueue("a")
    other = MemoryBackend(own.settings, now_ms=own.clock)
    assert await other.get([ref("a")]) == [None]


async def test_jobs_outlive_a_close(own: Store) -> None:
    await own.enqueue("a")
    await own.backend.close()
    await own.backend.open()
    assert ids(await (await own.worker()).take()) == ["a"]


async def test_closing_sends_the_parked_home(own: Store) -> None:
    await own.enqueue("a")
    worker = await own.worker()
    await worker.take_one()
    await worker.settle_signals()
    with anyio.fail_after(10):
        call = asyncio.ensure_future(worker.signalled())
        result = asyncio.ensure_future(own.backend.wait_results([ref("a")], None))
        await anyio.sleep(0)
        await own.backend.close()
        assert await call == []
        (record,) = await result
    assert record is not None


async def test_a_call_to_one_who_leaves_goes_to_the_next(own: Store) -> None:
    first, second = await own.worker(), await own.worker()
    leaving = asyncio.ensure_future(first.signalled())
    await anyio.sleep(0)
    await own.enqueue("a")
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await second.signalled() == ["work"]


async def test_there_is_no_twin_for_another_thread(own: Store) -> None:
    with pytest.raises(UsageError, match="threaded_heartbeat"):
        own.backend.for_thread()


async def test_a_wrong_priority_stores_nothing(own: Store) -> None:
    with pytest.raises(ValueError, match="work/a has the priority 4"):
        await own.enqueue("a", priority=4)
    assert await own.backend.inspect.queues.names() == []


async def test_nothing_is_left_of_finished_jobs_after_their_time(
    own: Store, backend: MemoryBackend
) -> None:
    worker = await own.worker()
    for number in range(100):
        await own.enqueue(f"job-{number}")
        taken = await worker.take_one()
        await backend.cancel([taken.ref], None, 0)
        await worker.exchange(Settlement.succeeded(taken, outcome(), 1000))
    await own.pass_time(own.settings.id_ttl_ms, worker)
    await backend.prune(["work"], 10)
    queue = backend._queues.by_name["work"]
    ended = queue.ended
    left = (queue._jobs, ended._known, ended._results, queue._answers)
    assert [len(part) for part in left] == [0, 0, 0, 0]
    assert [len(held.marked) for _, held in queue.leases.items()] == [0]
    assert len(backend._queues.results) == 0


async def test_cancelled_schedules_do_not_pile_up(own: Store, backend: MemoryBackend) -> None:
    for number in range(1000):
        await own.enqueue(f"job-{number}", delay_ms=86_400_000)
        await backend.cancel([ref(f"job-{number}")], None, 0)
    assert len(backend._queues.by_name["work"].waiting._scheduled._heap) < 100


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 9)))))
def test_timed_values_come_out_by_time(steps: list[tuple[str, int | None]]) -> None:
    timed: Timed[int] = Timed()
    model: dict[str, tuple[int, int]] = {}
    for serial, (key, ms) in enumerate(steps):
        expected = model.pop(key, None)
        if ms is None:
            assert timed.pop(key) == (expected and expected[1])
        else:
            timed.put(key, ms, serial)
            model[key] = (ms, serial)
        assert len(timed) == len(model)
        assert timed.first_ms() == min((ms for ms, _ in model.values()), default=None)
    assert [timed.pop_first() for _ in range(len(model))] == [s for _, s in sorted(model.values())]
    with pytest.raises(KeyError):
        timed.pop_first()


@given(st.lists(st.sampled_from(["add", "take", "give back", "remove"])), st.randoms())
def test_ready_jobs_keep_their_place(steps: list[str], random: object) -> None:
    ready: ReadyList[StoredJob] = ReadyList()
    fresh: list[StoredJob] = []
    returned: list[StoredJob] = []
    out: list[StoredJob] = []
    for serial, step in enumerate(steps):
        waiting = sorted(returned, key=lambda job: job.serial) + fresh
        if step == "add":
            job = StoredJob(str(serial), 0, b"")
            job.serial = serial
            fresh.append(job)
            ready.append(job)
        elif step == "take":
            taken = ready.take_returned(0) or ready.take_new()
            assert taken is (waiting[0] if waiting else None)
            if taken is not None:
                (returned if taken in returned else fresh).remove(taken)
                out.append(taken)
        elif step == "give back" and out:
            job = out.pop(random.randrange(len(out)))  # type: ignore[attr-defined]
            returned.append(job)
            ready.give_back(job)
        elif step == "remove" and waiting:
            job = random.choice(waiting)  # type: ignore[attr-defined]
            (returned if job in returned else fresh).remove(job)
            ready.remove(job)
        assert len(ready) == len(fresh) + len(returned)
