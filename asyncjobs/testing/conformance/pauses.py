"""Queues and job functions that are paused: nothing is handed out, lost, or out of its order."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.control import Pause
from asyncjobs.store.inspect import Leftover
from asyncjobs.store.lease import Offer
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import (
    GRACE_MS,
    LEASE_MS,
    QUEUE,
    SHORT_S,
    Store,
    Worker,
    ids,
    outcome,
    ref,
)

pytestmark = pytest.mark.anyio

INFO = b'{"by":"test","reason":"a reason"}'


@pytest.fixture(autouse=True)
def needs_control(request: pytest.FixtureRequest) -> None:
    if not request.getfixturevalue("store").backend.capabilities.control:
        pytest.skip("no capability control")


async def put(
    store: Store,
    function: str,
    *names: str,
    queue: str = QUEUE,
    priority: int = 2,
    delay_ms: int = 0,
) -> None:
    """Store a job of this function for each name."""
    envelope = encode_call(function, [function, '"f":"slow"'], {}, 1, None, None, None)
    await put_raw(store, envelope, *names, queue=queue, priority=priority, delay_ms=delay_ms)


async def put_raw(
    store: Store,
    envelope: bytes,
    *names: str,
    queue: str = QUEUE,
    priority: int = 2,
    delay_ms: int = 0,
) -> None:
    jobs = [NewJob(queue, name, priority, envelope, delay_ms) for name in names]
    answer = await store.backend.enqueue(EnqueueBatch(store.token(), jobs))
    assert not answer.refused


async def pause(store: Store, function: str | None = None, *queues: str) -> list[bool]:
    return await store.backend.control.queues.pause(queues or (QUEUE,), function, INFO)


async def resume(store: Store, function: str | None = None, *queues: str) -> list[bool]:
    return await store.backend.control.queues.resume(queues or (QUEUE,), function)


async def paused(store: Store, queue: str = QUEUE) -> Sequence[Pause]:
    (found,) = await store.backend.control.queues.paused([queue])
    return found


async def take_all(worker: Worker, slots: int = 3) -> list[str]:
    """Take in small steps until nothing comes: the order in which jobs are handed out."""
    found: list[str] = []
    while jobs := await worker.take(slots):
        found += ids(jobs)
        await worker.exchange(*map(Settlement.succeeded, jobs))
    return found


# Whole queues


async def test_a_paused_queue_hands_out_nothing(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b")
    assert await pause(store) == [True]
    exchange = await worker.exchange(demand=10)
    assert exchange.jobs == []
    assert exchange.paused == {QUEUE}
    assert exchange.left_ready == frozenset()
    assert sum((await store.counts()).ready) == 2


async def test_a_resumed_queue_goes_on_in_order(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a", "b")
    await pause(store)
    await store.enqueue("c")
    await store.enqueue("urgent", priority=0)
    assert await worker.take() == []
    assert await resume(store) == [True]
    exchange = await worker.exchange(demand=10)
    assert ids(exchange.jobs) == ["urgent", "a", "b", "c"]
    assert exchange.paused == frozenset()


async def test_other_queues_go_on(store: Store) -> None:
    worker = await store.worker("one", "two")
    await store.enqueue("a", queue="one")
    await store.enqueue("b", queue="two")
    await pause(store, None, "one")
    exchange = await worker.exchange(demand=10)
    assert ids(exchange.jobs) == ["b"]
    assert exchange.paused == {"one"}


async def test_what_runs_is_settled(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("done", "again", "back")
    jobs = {job.id: job for job in await worker.take()}
    await pause(store)
    exchange = await worker.exchange(
        Settlement.succeeded(jobs["done"], outcome(), 1000),
        Settlement.reschedule(jobs["again"], b"again", 100),
        Settlement.release(jobs["back"]),
        demand=10,
    )
    assert (exchange.jobs, exchange.not_yours) == ([], [])
    assert await store.state("done") is State.SUCCEEDED
    assert await store.state("again") is State.SCHEDULED
    assert await store.state("back") is State.READY
    await resume(store)
    assert ids(await worker.take()) == ["back"]


async def test_due_jobs_become_ready(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("due", delay_ms=100)
    await pause(store)
    store.clock.ms += 100
    exchange = await worker.exchange(demand=10)
    assert (exchange.jobs, exchange.promoted) == ([], ((QUEUE, 1),))
    # Nobody has to come back for it.
    assert exchange.next_due_ms == {QUEUE: None}
    assert exchange.left_ready == frozenset()
    assert await store.state("due") is State.READY


async def test_a_paused_queue_calls_nobody(store: Store) -> None:
    worker = await store.worker()
    taken_before = await _suspect(store, worker)
    await store.enqueue("a", "b")
    await pause(store)
    await worker.settle_signals()
    exchange = await worker.exchange(demand=1)
    assert (exchange.left_ready, exchange.suspects) == (frozenset(), {})
    assert await worker.signalled(SHORT_S) == []
    assert (await worker.lease.beat()).ready == ()
    assert taken_before


async def _suspect(store: Store, alive: Worker) -> bool:
    """A job that was running when its worker died waits for the next one."""
    dying = await store.worker()
    await store.enqueue("suspect")
    assert ids(await dying.take()) == ["suspect"]
    await store.end_leases(alive)
    return True


async def test_resuming_signals(store: Store) -> None:
    worker = await store.worker()
    await store.enqueue("a")
    await pause(store)
    await worker.settle_signals()
    await resume(store)
    assert await worker.signalled() == [QUEUE]
    assert ids(await worker.take()) == ["a"]


@pytest.mark.parametrize("function", [None, "slow"])
async def test_an_offer_takes_nothing(store: Store, function: str | None) -> None:
    worker = await store.worker()
    await pause(store, function)
    await worker.settle_signals()
    await put(store, "slow", "a")
    worker.sequence += 1
    parked = await worker.lease.park(5, Offer(worker.sequence, {QUEUE: Demand(5)}))
    assert list(parked.signalled) == [QUEUE]
    assert parked.exchange is not None
    assert parked.exchange.jobs == []
    # Whether a function's job waits is for an exchange to find out.
    if function is None:
        assert parked.exchange.paused == {QUEUE}
        assert parked.exchange.left_ready == frozenset()
    assert await worker.take() == []
    assert (await worker.lease.beat()).ready == ()
    assert await worker.signalled(SHORT_S) == []


@pytest.mark.parametrize("function", [None, "slow"])
async def test_who_pauses_twice(store: Store, function: str | None) -> None:
    begin = store.clock.ms
    assert await pause(store, function, "one", "two") == [True, True]
    store.clock.ms += 1000
    control = store.backend.control.queues
    assert await control.pause(["one"], function, b'{"by":"other"}') == [False]
    assert await paused(store, "one") == [Pause("one", function, begin, b'{"by":"other"}')]
    assert await paused(store, "two") == [Pause("two", function, begin, INFO)]
    assert await paused(store, "three") == []
    assert await resume(store, function, "one", "three") == [True, False]
    assert await resume(store, function, "one") == [False]
    assert await paused(store, "one") == []


async def test_a_queue_and_its_functions_are_paused_apart(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a")
    await put(store, "fast", "b")
    await pause(store)
    await pause(store, "slow")
    assert [pause.function for pause in await paused(store)] == [None, "slow"]
    assert await worker.take() == []
    await resume(store)
    assert ids(await worker.take()) == ["b"]
    await resume(store, "slow")
    assert ids(await worker.take()) == ["a"]


async def test_what_is_paused_is_not_forgotten(store: Store) -> None:
    await pause(store)
    await pause(store, "slow")
    queues = store.backend.inspect.queues
    assert QUEUE in await queues.names()
    assert await queues.forget([QUEUE], 0) == [Leftover(QUEUE, paused=2)]
    assert len(await paused(store)) == 2
    await resume(store)
    await resume(store, "slow")
    assert (await queues.forget([QUEUE], 0))[0].is_forgotten


# Job functions


async def test_a_paused_function_waits_while_others_pass(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a")
    await put(store, "fast", "b")
    await put(store, "slow", "c", priority=1)
    await put(store, "fast", "d")
    await pause(store, "slow")
    exchange = await worker.exchange(demand=10)
    assert ids(exchange.jobs) == ["b", "d"]
    assert (exchange.paused, exchange.left_ready) == (frozenset(), frozenset())
    counts = await store.counts()
    assert (counts.ready, counts.running) == ((0, 1, 1, 0), 2)
    assert [await store.state(name) for name in "ac"] == [State.READY] * 2


async def test_a_resumed_function_keeps_its_order(store: Store) -> None:
    worker = await store.worker()
    for number in range(6):
        await put(store, "slow", f"slow-{number}")
        await put(store, "fast", f"fast-{number}")
    await pause(store, "slow")
    assert await take_all(worker) == [f"fast-{number}" for number in range(6)]
    await put(store, "slow", "slow-6")
    await put(store, "fast", "fast-6")
    await resume(store, "slow")
    found = await take_all(worker)
    assert [name for name in found if name.startswith("slow")] == [f"slow-{n}" for n in range(7)]
    # What became ready first is taken first.
    assert found == [*(f"slow-{n}" for n in range(7)), "fast-6"]


async def test_many_jobs_of_a_paused_function(store: Store) -> None:
    worker = await store.worker()
    names = [f"{number:04}" for number in range(2500)]
    for first in range(0, len(names), 500):
        await put(store, "slow", *names[first : first + 500])
    await put(store, "fast", "fast")
    await pause(store, "slow")
    # An exchange does a bounded part, and says that there is more.
    exchange = await worker.exchange(demand=5)
    for _ in range(9):
        if exchange.left_ready:
            exchange = await worker.exchange(demand=5)
    assert exchange.left_ready == frozenset()
    assert ids(exchange.jobs) == ["fast"]
    counts = await store.counts()
    assert (sum(counts.ready), counts.running) == (2500, 1)
    assert await resume(store, "slow") == [True]
    assert await paused(store) == []
    assert await take_all(worker, 400) == names


async def test_nobody_is_called_for_a_paused_function(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a", "b")
    await pause(store, "slow")
    assert await worker.take() == []
    await worker.settle_signals()
    assert (await worker.lease.beat()).ready == ()
    exchange = await worker.exchange(demand=10)
    assert (exchange.jobs, exchange.left_ready) == ([], frozenset())
    assert await worker.signalled(SHORT_S) == []


async def test_a_resumed_function_signals(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a")
    await pause(store, "slow")
    assert await worker.take() == []
    await worker.settle_signals()
    await resume(store, "slow")
    assert await worker.signalled() == [QUEUE]
    assert ids(await worker.take()) == ["a"]


@pytest.mark.parametrize(
    "envelope",
    [
        b'{"v":1,"f":"slow"}',
        b'{ "f": "slow", "v": 1 }',
        b'{"v":1,"n":1,"f":"slow"}',
        b'{"v":1,"f":"sl\\u006fw","n":1}',
        b'{"v":99,"f":"slow"}',
    ],
)
async def test_a_foreign_envelope_of_a_paused_function(store: Store, envelope: bytes) -> None:
    worker = await store.worker()
    await put_raw(store, envelope, "a")
    await pause(store, "slow")
    assert await worker.take() == []
    await resume(store, "slow")
    assert ids(await worker.take()) == ["a"]


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"slow",
        b"\xff\xfe",
        b"[1]",
        b'"slow"',
        b'{"v":1,"f":3}',
        b'{"v":1,"f":["slow"]}',
        b'{"v":1,"f":""}',
        b'{"v":1,"f":"slower"}',
        b'{"v":1,"f":"a","a":["{\\"v\\":1,\\"f\\":\\"slow\\""]}',
        b'{"v":1,"a":{"f":"slow"},"f":"fast"}',
        b'{"v":1,"f":"slow',
        b"[" * 2000,
    ],
)
async def test_an_envelope_of_another_function(store: Store, envelope: bytes) -> None:
    worker = await store.worker()
    await put_raw(store, envelope, "a")
    await pause(store, "slow")
    assert ids(await worker.take()) == ["a"]


async def test_a_function_with_an_odd_name(store: Store) -> None:
    worker = await store.worker()
    for name in ('a"b', "a\\b", "ä/ö", "%d[x]*.-"):
        await put(store, name, name)
        await pause(store, name)
        assert await worker.take() == []
        assert [pause.function for pause in await paused(store)] == [name]
        await resume(store, name)
        assert ids(await worker.take()) == [name]


async def test_jobs_given_back_while_their_function_is_paused(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a", "b")
    jobs = await worker.take()
    await pause(store, "slow")
    await worker.exchange(*map(Settlement.release, jobs))
    await put(store, "slow", "c")
    await put(store, "fast", "d")
    assert ids(await worker.take()) == ["d"]
    await resume(store, "slow")
    assert ids(await worker.take()) == ["a", "b", "c"]


async def test_suspects_of_a_paused_function_stay_suspects(store: Store) -> None:
    worker = await store.worker()
    dying = await store.worker()
    await put(store, "slow", "a")
    await dying.take()
    await pause(store, "slow")
    await store.end_leases(worker)
    assert await worker.take() == []
    exchange = await worker.exchange(demand=1)
    assert exchange.suspects == {}
    await resume(store, "slow")
    (job,) = await worker.take()
    assert (job.id, job.crashes) == ("a", 1)


async def test_a_job_set_aside_is_cancelled(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a", "b")
    await pause(store, "slow")
    assert await worker.take() == []
    verdicts = await store.backend.cancel([ref("a")], outcome(State.CANCELLED), 1000)
    assert verdicts == [CancelVerdict.CANCELLED]
    assert await store.state("a") is State.CANCELLED
    assert sum((await store.counts()).ready) == 1
    await resume(store, "slow")
    assert ids(await worker.take()) == ["b"]


async def test_a_dead_worker_holds_nothing_that_was_set_aside(store: Store) -> None:
    worker = await store.worker()
    dying = await store.worker()
    await put(store, "slow", "a")
    await put(store, "fast", "b")
    await pause(store, "slow")
    assert ids(await dying.take()) == ["b"]
    dying.sequence += 1
    found = await dying.lease.resync(dying.sequence, ())
    assert ids(found.missing) == ["b"]
    reclaimed = await store.end_leases(worker)
    assert reclaimed.returned == 1
    assert await store.state("a") is State.READY
    await resume(store, "slow")
    crashes = {job.id: job.crashes for job in await worker.take()}
    assert crashes == {"a": 0, "b": 1}


async def test_who_leaves_keeps_nothing_that_was_set_aside(store: Store) -> None:
    leaving = await store.worker()
    await put(store, "slow", "a")
    await pause(store, "slow")
    assert await leaving.take() == []
    await leaving.lease.leave()
    await resume(store, "slow")
    assert ids(await (await store.worker()).take()) == ["a"]


async def test_a_job_that_becomes_due_while_its_function_is_paused(store: Store) -> None:
    worker = await store.worker()
    await pause(store, "slow")
    await put(store, "slow", "a", delay_ms=100)
    await put(store, "fast", "b", delay_ms=200)
    store.clock.ms += 200
    assert ids(await worker.take()) == ["b"]
    assert await store.state("a") is State.READY
    await resume(store, "slow")
    assert ids(await worker.take()) == ["a"]


async def test_the_oldest_job_may_be_one_that_was_set_aside(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a")
    await pause(store, "slow")
    assert await worker.take() == []
    (flow,) = await store.backend.inspect.queues.flow([QUEUE])
    assert flow.oldest_ready_ms is not None


async def test_too_many_functions(store: Store) -> None:
    control = store.backend.control.queues
    for number in range(1000):
        await control.pause([QUEUE], f"f{number}", INFO)
    with pytest.raises(UsageError, match="1,000 job functions"):
        await control.pause([QUEUE], "one more", INFO)
    assert await control.pause([QUEUE], "f0", INFO) == [False]
    assert len(await paused(store)) == 1000
    assert json.loads((await paused(store))[0].info)["by"] == "test"


async def test_pauses_outlive_workers(store: Store) -> None:
    worker = await store.worker()
    await put(store, "slow", "a")
    await pause(store, "slow")
    assert await worker.take() == []
    await worker.lease.leave()
    await store.pass_time(LEASE_MS + GRACE_MS)
    later = await store.worker()
    assert await later.take() == []
    await resume(store, "slow")
    assert ids(await later.take()) == ["a"]
