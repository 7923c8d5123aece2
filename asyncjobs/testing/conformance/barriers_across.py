"""Jobs whose ends count in other queues, and flows in several queues."""

from __future__ import annotations

from random import Random

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Arrival, Barrier, FlowNode, OnFailure, Terms
from asyncjobs.store.flows import FlowCounts, FlowRef, Flows, FlowState, NewFlow, NodeRecord
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, ids, ref

pytestmark = pytest.mark.anyio

QUEUES = ("one", "two", "three")
FLOW = FlowRef("one", "flow")


def front(
    queue: str, id: str, *arrives: tuple[str, str], on_failure: OnFailure = "cancel"
) -> NewJob:
    """A job whose end counts at barriers of these queues, and in the flow."""
    arrivals = tuple(Arrival(other, barrier, on_failure) for other, barrier in arrives)
    terms = Terms(behind="start", arrivals=arrivals, node=FlowNode("one", "flow", id))
    return NewJob(queue, id, 2, id.encode(), has_new_id=True, terms=terms)


def behind(queue: str, id: str, barrier: str) -> NewJob:
    terms = Terms(behind=barrier, node=FlowNode("one", "flow", id))
    return NewJob(queue, id, 2, id.encode(), has_new_id=True, terms=terms)


async def begin(store: Store, flows: Flows, *jobs: NewJob, barriers: tuple[Barrier, ...]) -> None:
    """Make a flow of these jobs in several queues, and start it."""
    if not store.backend.capabilities.across_queues:
        pytest.skip("no capability across_queues")
    assert await flows.open(NewFlow(FLOW, "flow", len(jobs), 60_000, b"")) is None
    await flows.add_nodes(FLOW, [NodeRecord(job.id, job.ref, b"") for job in jobs])
    starts = tuple(Barrier(queue, "start", 1) for queue in QUEUES)
    batch = EnqueueBatch(store.token(), jobs, (*starts, *barriers))
    assert (await store.backend.enqueue(batch)).refused == {}
    await flows.start(FLOW, [(queue, "start") for queue in QUEUES])


async def look(flows: Flows) -> tuple[FlowState, FlowCounts]:
    (record,) = await flows.get([FLOW])
    assert record is not None
    return record.state, record.counts


async def relay(store: Store) -> None:
    """Bring all that outboxes hold to its queues."""
    is_left = True
    while is_left:
        answer = await store.backend.relay(QUEUES)
        assert answer.away == {}
        is_left = bool(answer.left)


@pytest.mark.parametrize(
    ("on_failure", "state"),
    [("cancel", State.CANCELLED), ("run", State.READY), ("skip", State.DISCARDED)],
)
async def test_a_failure_counts_in_another_queue(
    store: Store, flows: Flows, on_failure: OnFailure, state: State
) -> None:
    jobs = (
        front("one", "a", ("two", "end"), on_failure=on_failure),
        front("three", "b", ("two", "end")),
        behind("two", "z", "end"),
    )
    await begin(store, flows, *jobs, barriers=(Barrier("two", "end", 2),))
    worker = await store.worker(*QUEUES)
    a, b = await worker.take()
    answer = await worker.exchange(Settlement.dead(a, b"letter"), Settlement.succeeded(b))
    assert answer.away == {}
    await relay(store)
    assert await store.state("z", "two") is state


async def test_the_ends_of_other_queues_end_a_flow(store: Store, flows: Flows) -> None:
    jobs = (front("two", "a"), front("three", "b"))
    await begin(store, flows, *jobs, barriers=())
    worker = await store.worker(*QUEUES)
    a, b = await worker.take()
    await worker.exchange(Settlement.succeeded(a))
    await relay(store)
    assert await look(flows) == (FlowState.RUNNING, FlowCounts(2, {State.SUCCEEDED: 1}))
    await worker.exchange(Settlement.succeeded(b))
    await relay(store)
    assert await look(flows) == (FlowState.SUCCEEDED, FlowCounts(2, {State.SUCCEEDED: 2}))
    assert (await flows.look_up(FLOW, ["b"]))[0] == NodeRecord(
        "b", ref("b", "three"), b"", State.SUCCEEDED
    )


async def test_a_success_adds_jobs_in_front_of_a_barrier_of_another_queue(
    store: Store, flows: Flows
) -> None:
    jobs = (front("one", "a", ("two", "end")), behind("two", "z", "end"))
    await begin(store, flows, *jobs, barriers=(Barrier("two", "end", 1),))
    worker = await store.worker(*QUEUES)
    a = await worker.take_one()
    child = front("three", "child", ("two", "end"))
    terms = child.terms
    assert terms is not None
    child = child._replace(terms=terms._replace(behind=None))
    raised = (Barrier("two", "end", 1), Barrier("one", "flow", 1))
    await worker.exchange(Settlement.succeeded(a).causing(Effects((child,), raised)))
    await relay(store)
    assert await store.state("z", "two") is State.HELD
    (taken,) = await worker.take()
    await worker.exchange(Settlement.succeeded(taken))
    await relay(store)
    (last,) = await worker.take()
    assert last.ref == ref("z", "two")
    await worker.exchange(Settlement.succeeded(last))
    await relay(store)
    assert await look(flows) == (FlowState.SUCCEEDED, FlowCounts(3, {State.SUCCEEDED: 3}))


@pytest.mark.parametrize("seed", range(3))
async def test_a_wide_flow_in_three_queues_ends_once(store: Store, flows: Flows, seed: int) -> None:
    """Whatever relays, and whenever: each end counts once."""
    rng = Random(seed)
    names = [f"n{number:02d}" for number in range(60)]
    jobs = [front(rng.choice(QUEUES), name, ("two", "end")) for name in names]
    jobs.append(behind("two", "z", "end"))
    await begin(store, flows, *jobs, barriers=(Barrier("two", "end", len(names)),))
    worker = await store.worker(*QUEUES)
    done: list[str] = []
    for _ in range(1_000):
        taken = await worker.take(rng.randint(1, 9))
        await worker.exchange(*map(Settlement.succeeded, taken))
        done += ids(taken)
        if rng.random() < 0.5 or not taken:
            await store.backend.relay(QUEUES, limit=rng.randint(1, 20))
        if (await look(flows))[0].is_final:
            break
    assert sorted(done) == [*names, "z"]
    assert done[-1] == "z"
    assert (await look(flows))[1] == FlowCounts(61, {State.SUCCEEDED: 61})
