"""What an act of a caller causes in other queues comes there at once: no worker has to relay it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.terms import Arrival, Barrier, FlowNode, Terms, Unique
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.changes import Changed, Target
from asyncjobs.store.control import Purge
from asyncjobs.store.flows import FlowRef, Flows, FlowState, NewFlow, NodeRecord
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import Store, ref

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
FLOW = FlowRef("work", "flow")


def front(id: str, *queues: str, unique: Unique | None = None) -> NewJob:
    """A job of queue `work`. Its end counts at the barrier `end` of each of these queues."""
    arrivals = tuple(Arrival(queue, "end", "run") for queue in queues)
    return NewJob("work", id, 2, id.encode(), terms=Terms(arrivals=arrivals, unique=unique))


def behind(queue: str, id: str = "z") -> NewJob:
    return NewJob(queue, id, 2, id.encode(), terms=Terms(behind="end"))


async def put(store: Store, *jobs: NewJob, **arrivals: int) -> None:
    """Store these jobs, with the barrier `end` in queues, which waits for so many arrivals."""
    if not store.backend.capabilities.across_queues:
        pytest.skip("no capability across_queues")
    barriers = [Barrier(queue, "end", number) for queue, number in arrivals.items()]
    assert (await store.backend.enqueue(EnqueueBatch(store.token(), jobs, barriers))).refused == {}


async def cancel(store: Store) -> None:
    assert await store.backend.cancel([ref("a")], None, 0) == [CancelVerdict.CANCELLED]


async def delete(store: Store) -> None:
    assert await store.backend.inspect.jobs.delete([Target(ref("a"))]) == [Changed.DONE]


async def purge(store: Store) -> None:
    jobs = 0
    after: bytes | None = b""
    while after is not None:
        part = await store.backend.control.queues.purge(Purge("work"), 100, after or None)
        jobs += part.jobs
        after = part.after
    assert jobs == 1


Act: TypeAlias = Callable[[Store], Awaitable[None]]
each_act = pytest.mark.parametrize("act", [cancel, delete, purge])


@each_act
async def test_an_act_lets_a_job_of_another_queue_go(store: Store, act: Act) -> None:
    await put(store, front("a", "other"), behind("other"), other=1)
    assert await store.state("z", "other") is State.HELD
    await act(store)
    assert await store.state("z", "other") is State.READY


async def test_what_an_act_lets_go_elsewhere_signals(store: Store) -> None:
    await put(store, front("a", "other"), behind("other"), other=1)
    other = await store.worker("other")
    await other.settle_signals()
    await cancel(store)
    assert await other.signalled() == ["other"]


async def test_an_act_reaches_through_a_third_queue(store: Store) -> None:
    """What must not run for it ends in its queue, and counts on in the next one."""
    stopped = NewJob(
        "other",
        "stopped",
        2,
        b"stopped",
        terms=Terms(behind="end", arrivals=(Arrival("third", "end", "run"),)),
    )
    must = NewJob("work", "a", 2, b"a", terms=Terms(arrivals=(Arrival("other", "end", "cancel"),)))
    await put(store, must, stopped, behind("third"), other=1, third=1)
    await cancel(store)
    assert await store.state("stopped", "other") is State.CANCELLED
    assert await store.state("z", "third") is State.READY


async def test_the_start_of_a_flow_brings_what_waits_for_its_queues(
    store: Store, flows: Flows
) -> None:
    """A node that was not stored, for another job has its key, has ended before the start."""
    key = Unique(b"key", "finished", MINUTE_MS)
    await put(store, front("holder", unique=key))
    await flows.open(NewFlow(FLOW, "flow", 1, MINUTE_MS, b""))
    last = NewJob("other", "z", 2, b"z", terms=Terms(behind="end", node=FlowNode(*FLOW, "z")))
    await flows.add_nodes(FLOW, [NodeRecord("z", last.ref, b"")])
    # The barrier stands before anything counts at it.
    await put(store, last, other=2)
    await put(store, front("refused", "other", unique=key))
    await flows.start(FLOW, [("other", "end")])
    assert await store.state("z", "other") is State.READY
    (record,) = await flows.get([FLOW])
    assert record is not None
    assert record.state is FlowState.RUNNING
    # Nothing stays in the outbox of its home for somebody who may never come.
    (flow,) = await store.backend.inspect.queues.flow(["work"])
    assert flow.oldest_outbox_ms is None


@each_act
async def test_an_act_counts_though_another_queue_is_away(
    store: Store, spoil: Spoil, act: Act
) -> None:
    await put(store, front("a", BAD), behind(BAD), **{BAD: 1})
    await spoil(Part.NORMAL)
    await act(store)
    assert await store.find("a") is None or await store.state("a") is State.CANCELLED
    await spoil.mend(Part.NORMAL)
    await store.backend.relay(["work"])
    assert await store.state("z", BAD) is State.READY
    await spoil.mend()
