"""Flows: their records, the ends of their nodes, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Arrival, Barrier, FlowNode, OnFailure, Terms
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.flows import (
    MOST_NODES,
    UNSTARTED_MS,
    FlowCounts,
    FlowRecord,
    FlowRef,
    Flows,
    FlowState,
    NewFlow,
    NodeRecord,
)
from asyncjobs.store.letters import Revival
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, Worker, ids, ref

pytestmark = pytest.mark.anyio

FLOW = FlowRef("work", "flow")
KEEP_MS = 60_000
S = FlowState


def new_flow(
    id: str = "flow", nodes: int = 1, name: str = "import", *, is_unique: bool = False
) -> NewFlow:
    return NewFlow(FlowRef("work", id), name, nodes, KEEP_MS, b"a definition", is_unique)


def node(name: str, flow: str = "flow", definition: bytes = b"node") -> NodeRecord:
    return NodeRecord(name, ref(f"{flow}-{name}"), definition)


def member(
    name: str,
    *arrives: str,
    behind: str | None = "start",
    flow: str = "flow",
    on_failure: OnFailure = "cancel",
) -> NewJob:
    """The job of a node."""
    arrivals = tuple(Arrival("work", barrier, on_failure) for barrier in arrives)
    terms = Terms(behind=behind, arrivals=arrivals, node=FlowNode("work", flow, name))
    return NewJob("work", f"{flow}-{name}", 2, name.encode(), has_new_id=True, terms=terms)


async def begin(
    store: Store, *jobs: NewJob, flow: str = "flow", start: bool = True, **barriers: int
) -> Worker:
    """Make a flow of these jobs, and let it run."""
    flows = store.backend.flows
    flow_ref = FlowRef("work", flow)
    assert await flows.open(new_flow(flow, len(jobs))) is None
    names = [job.terms.node.node for job in jobs if job.terms and job.terms.node]
    await flows.add_nodes(flow_ref, [node(name, flow) for name in names])
    new = tuple(Barrier("work", id, number) for id, number in barriers.items())
    batch = EnqueueBatch(store.token(), jobs, (*new, Barrier("work", "start", 1)))
    assert (await store.backend.enqueue(batch)).refused == {}
    if start:
        await flows.start(flow_ref, [("work", "start")])
    return await store.worker()


async def look(flows: Flows, flow: str = "flow") -> FlowRecord:
    (record,) = await flows.get([FlowRef("work", flow)])
    assert record is not None
    return record


async def states(flows: Flows, names: Sequence[str]) -> list[State | None]:
    return [each and each.state for each in await flows.look_up(FLOW, names)]


async def test_a_flow_as_it_was_opened(store: Store, flows: Flows) -> None:
    assert await flows.open(new_flow(nodes=2)) is None
    assert await look(flows) == FlowRecord(
        FLOW,
        "import",
        S.OPENED,
        FlowCounts(2, {}),
        store.clock.ms,
        None,
        KEEP_MS,
        b"a definition",
    )
    # The same flow again changes nothing.
    assert await flows.open(new_flow(nodes=5, name="other")) is None
    assert (await look(flows)).counts == FlowCounts(2, {})
    assert await flows.get([FlowRef("work", "never"), FlowRef("never", "flow")]) == [None, None]


async def test_a_flow_runs_from_its_start(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), member("b"), start=False)
    assert await worker.take() == []
    await worker.settle_signals()
    await flows.start(FLOW, [("work", "start")])
    assert await worker.signalled() == ["work"]
    assert (await look(flows)).state is S.RUNNING
    assert ids(await worker.take()) == ["flow-a", "flow-b"]


async def test_a_start_counts_once(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), start=False)
    batch = EnqueueBatch(store.token(), [], (Barrier("work", "start", 1),))
    await store.backend.enqueue(batch)
    for _ in range(3):
        await flows.start(FLOW, [("work", "start")])
    assert await worker.take() == []
    other = FlowRef("work", "other")
    await flows.start(other, [("work", "start")])
    assert ids(await worker.take()) == ["flow-a"]
    await flows.start(FLOW, [("work", "start")])


async def test_a_flow_ends_with_its_last_node(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), member("b"))
    a, b = await worker.take()
    await worker.exchange(Settlement.succeeded(a))
    record = await look(flows)
    assert (record.state, record.ended_ms) == (S.RUNNING, None)
    assert record.counts == FlowCounts(2, {State.SUCCEEDED: 1})
    store.clock.ms += 5
    await worker.exchange(Settlement.succeeded(b))
    record = await look(flows)
    assert (record.state, record.ended_ms) == (S.SUCCEEDED, store.clock.ms)
    assert record.counts == FlowCounts(2, {State.SUCCEEDED: 2})


async def test_an_attempt_that_is_no_end_is_not_recorded(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    await worker.exchange(Settlement.reschedule(await worker.take_one(), b"again", 0))
    assert (await look(flows)).counts == FlowCounts(1, {})
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert (await look(flows)).state is S.SUCCEEDED


@pytest.mark.parametrize(
    ("on_failure", "state"),
    [("cancel", S.FAILED), ("run", S.SUCCEEDED), ("skip", S.SUCCEEDED)],
)
async def test_a_failure_that_every_edge_allows(
    store: Store, flows: Flows, on_failure: OnFailure, state: FlowState
) -> None:
    jobs = (member("a", "end", on_failure=on_failure), member("z", behind="end"))
    worker = await begin(store, *jobs, end=1)
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    for job in await worker.take():
        await worker.exchange(Settlement.succeeded(job))
    record = await look(flows)
    assert record.state is state
    assert sum(record.counts.ended.values()) == 2
    last = {"cancel": State.CANCELLED, "run": State.SUCCEEDED, "skip": State.DISCARDED}
    assert await states(flows, ["a", "z"]) == [State.DEAD, last[on_failure]]


async def test_what_a_failure_has_cancelled_may_be_allowed_and_not_itself(
    store: Store, flows: Flows
) -> None:
    cancelled = member("z", "more", behind="end", on_failure="run")
    jobs = (member("a", "end"), cancelled, member("y", behind="more"))
    worker = await begin(store, *jobs, end=1, more=1)
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await states(flows, ["a", "z", "y"]) == [State.DEAD, State.CANCELLED, State.SUCCEEDED]
    assert (await look(flows)).state is S.FAILED


async def test_a_failure_with_nothing_behind_is_not_allowed(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), member("b"))
    a, b = await worker.take()
    await worker.exchange(Settlement.discarded(a), Settlement.succeeded(b))
    assert (await look(flows)).state is S.FAILED


async def test_nodes_and_their_ends(store: Store, flows: Flows) -> None:
    names = [f"n{number:02d}" for number in range(25)]
    worker = await begin(store, *map(member, names))
    first = await worker.take_one()
    await worker.exchange(Settlement.succeeded(first))
    found: list[NodeRecord] = []
    after: str | None = None
    while True:
        page = await flows.nodes(FLOW, after, limit=10)
        found += page.nodes
        after = page.after
        if after is None:
            break
    assert sorted(each.node for each in found) == names
    (done,) = [each for each in found if each.state is not None]
    assert done == node("n00")._replace(state=State.SUCCEEDED)
    assert await flows.look_up(FLOW, ["n01", "never", "n00"]) == [node("n01"), None, done]
    never = FlowRef("work", "never")
    assert (await flows.nodes(never)).nodes == []
    assert await flows.look_up(never, ["n00"]) == [None]


async def test_nodes_of_a_flow_that_is_not_there(store: Store, flows: Flows) -> None:
    with pytest.raises(UsageError, match=r"no flow work/never: open it"):
        await flows.add_nodes(FlowRef("work", "never"), [node("a")])
    await flows.open(new_flow())
    with pytest.raises(UsageError, match=r"1,001 nodes.*1,000 may be"):
        await flows.add_nodes(FLOW, [node(str(n)) for n in range(MOST_NODES + 1)])


async def test_one_flow_of_a_name_at_a_time(store: Store, flows: Flows) -> None:
    assert await flows.open(new_flow("one", is_unique=True)) is None
    assert await flows.open(new_flow("two", is_unique=True)) == FlowRef("work", "one")
    assert await flows.get([FlowRef("work", "two")]) == [None]
    # The same flow again is no other one. A flow that asks for nothing is not refused.
    assert await flows.open(new_flow("one", is_unique=True)) is None
    assert await flows.open(new_flow("three")) is None
    assert await flows.open(new_flow("four", name="other", is_unique=True)) is None
    assert await flows.mark_cancelled(FlowRef("work", "one"))
    assert await flows.open(new_flow("two", is_unique=True)) is None


async def test_pages_of_flows(store: Store, flows: Flows) -> None:
    for number in range(5):
        await flows.open(new_flow(f"f{number}"))
        store.clock.ms += number % 2
    await flows.start(FlowRef("work", "f3"), [])
    await flows.mark_cancelled(FlowRef("work", "f1"))

    async def listed(*wanted: FlowState) -> list[str]:
        found: list[str] = []
        after: str | None = None
        for _ in range(20):
            page = await flows.page("work", frozenset(wanted), after, limit=2)
            found += [flow.ref.id for flow in page.flows]
            assert page.now_ms == store.clock.ms
            after = page.after
            if after is None:
                break
        return found

    assert await listed() == ["f4", "f3", "f2", "f1", "f0"]
    assert await listed(S.OPENED) == ["f4", "f2", "f0"]
    assert await listed(S.RUNNING, S.CANCELLED) == ["f3", "f1"]
    assert await listed(S.FAILED) == []
    counts = {S.OPENED: 3, S.RUNNING: 1, S.CANCELLED: 1}
    assert await flows.counts(["work", "never"]) == [counts, {}]
    assert (await flows.page("never")).flows == []


async def test_a_flow_that_is_cancelled(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), member("b", "end"), member("z", behind="end"), end=1)
    a = await worker.take_one()
    assert await flows.mark_cancelled(FLOW)
    assert (await look(flows)).state is S.RUNNING
    refs = [node(name).job for name in "abz"]
    verdicts = await store.backend.cancel(refs, None, 0)
    assert verdicts[0] is CancelVerdict.REQUESTED
    await worker.exchange(Settlement.succeeded(a))
    assert (await look(flows)).state is S.CANCELLED
    assert await flows.mark_cancelled(FLOW) is False
    assert await flows.mark_cancelled(FlowRef("work", "never")) is False


async def test_what_has_ended_goes_after_its_time(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    await flows.open(new_flow("other"))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    store.clock.ms += KEEP_MS - 1
    await store.backend.prune(["work"], 100)
    assert (await look(flows)).state is S.SUCCEEDED
    store.clock.ms += 1
    await store.backend.prune(["work"], 100)
    assert await flows.get([FLOW]) == [None]
    assert (await flows.nodes(FLOW)).nodes == []
    assert (await look(flows, "other")).state is S.OPENED


async def test_a_large_flow_goes_in_parts(store: Store, flows: Flows) -> None:
    await flows.open(new_flow(nodes=2_500))
    for begin_at in range(0, 2_500, 500):
        await flows.add_nodes(FLOW, [node(f"{begin_at + n:04d}") for n in range(500)])
    await flows.mark_cancelled(FLOW)
    store.clock.ms += KEEP_MS
    for _ in range(30):
        await store.backend.prune(["work"], 100)
    assert await flows.get([FLOW]) == [None]
    assert (await flows.nodes(FLOW)).nodes == []
    assert await flows.counts(["work"]) == [{}]


async def test_only_a_flow_that_has_ended_is_dropped(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    assert await flows.drop(FLOW) is False
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    assert await flows.drop(FLOW)
    assert await flows.get([FLOW]) == [None]
    assert (await flows.nodes(FLOW)).nodes == []
    assert await flows.drop(FLOW) is False


async def test_a_flow_that_is_never_started_is_cancelled(store: Store, flows: Flows) -> None:
    jobs = (member("a", "end"), member("z", behind="end"))
    worker = await begin(store, *jobs, start=False, end=1)
    await flows.open(new_flow("half", nodes=7))
    store.clock.ms += UNSTARTED_MS - 1
    await store.backend.prune(["work"], 100)
    assert (await look(flows)).state is S.OPENED
    store.clock.ms += 1
    await store.backend.prune(["work"], 100)
    assert (await look(flows)).state is S.CANCELLED
    assert (await look(flows, "half")).state is S.CANCELLED
    assert await worker.take() == []
    assert await states(flows, ["a", "z"]) == [State.CANCELLED] * 2
    # Nothing stands that would wait for ever.
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.barriers, left.indexed, left.flows) == (0, 0, 2)
    store.clock.ms += KEEP_MS
    await store.backend.prune(["work"], 100)
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.flows == 0


async def test_a_failed_flow_is_tried_again(store: Store, flows: Flows) -> None:
    jobs = (member("ok"), member("a", "end"), member("z", behind="end"))
    worker = await begin(store, *jobs, end=1)
    ok, bad = await worker.take()
    await worker.exchange(Settlement.succeeded(ok), Settlement.dead(bad, b"letter"))
    assert (await look(flows)).state is S.FAILED
    assert await flows.reopen(FlowRef("work", "never"), 2) is False
    assert await flows.reopen(FLOW, 2)
    assert await flows.reopen(FLOW, 2) is False
    again = [NodeRecord(name, ref(f"again-{name}"), b"again") for name in ("a", "z")]
    await flows.add_nodes(FLOW, again)
    record = await look(flows)
    assert (record.state, record.ended_ms) == (S.OPENED, None)
    assert record.counts == FlowCounts(3, {State.SUCCEEDED: 1})
    retried = [
        member("a", "again-end", behind="again")._replace(id="again-a"),
        member("z", behind="again-end")._replace(id="again-z"),
    ]
    barriers = (Barrier("work", "again", 1), Barrier("work", "again-end", 1))
    await store.backend.enqueue(EnqueueBatch(store.token(), retried, barriers))
    await flows.start(FLOW, [("work", "again")])
    for id in ("again-a", "again-z"):
        job = await worker.take_one()
        assert job.id == id
        await worker.exchange(Settlement.succeeded(job))
    record = await look(flows)
    assert (record.state, record.counts) == (S.SUCCEEDED, FlowCounts(3, {State.SUCCEEDED: 3}))
    assert await flows.look_up(FLOW, ["a"]) == [again[0]._replace(state=State.SUCCEEDED)]


async def test_a_flow_that_has_run_again_is_not_opened_by_who_has_not_seen_it(
    store: Store, flows: Flows
) -> None:
    worker = await begin(store, member("a"), member("b"))
    await worker.exchange(*map(Settlement.succeeded, await worker.take()))
    seen = await look(flows)
    assert seen.ended_ms is not None
    store.clock.ms += 1
    assert await flows.reopen(FLOW, 1, seen.ended_ms, 1)
    assert (await look(flows)).counts.nodes == 1
    assert await flows.mark_cancelled(FLOW)
    assert await flows.reopen(FLOW, 1, seen.ended_ms) is False
    now = await look(flows)
    assert now.state is S.CANCELLED
    assert now.ended_ms == store.clock.ms
    assert await flows.reopen(FLOW, 1, now.ended_ms)


async def test_a_success_adds_to_its_flow(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    children = tuple(member(f"c{n}", behind=None) for n in range(2))
    effects = Effects(children, (Barrier("work", "flow", 2),))
    end = Settlement.succeeded(await worker.take_one()).causing(effects)
    jobs = (await worker.exchange(end, demand=5)).jobs
    record = await look(flows)
    assert (record.state, record.counts) == (S.RUNNING, FlowCounts(3, {State.SUCCEEDED: 1}))
    await worker.exchange(*map(Settlement.succeeded, jobs))
    assert (await look(flows)).state is S.SUCCEEDED


async def test_a_second_end_of_a_node_replaces_the_first(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"), member("b"))
    a, b = await worker.take()
    await worker.exchange(Settlement.dead(a, b"letter"))
    again = member("a", behind=None)._replace(id="again")
    await store.backend.enqueue(EnqueueBatch(store.token(), [again]))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await look(flows)
    assert (record.state, record.counts) == (S.RUNNING, FlowCounts(2, {State.SUCCEEDED: 1}))
    assert await flows.look_up(FLOW, ["a"]) == [
        NodeRecord("a", ref("again"), b"node", State.SUCCEEDED)
    ]
    await worker.exchange(Settlement.succeeded(b))
    assert (await look(flows)).state is S.SUCCEEDED


async def test_what_ends_later_decides_on_a_flow_that_has_ended(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    ended = await look(flows)
    assert ended.state is S.FAILED
    store.clock.ms += 10
    again = member("a", behind=None)._replace(id="again")
    await store.backend.enqueue(EnqueueBatch(store.token(), [again]))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await look(flows)
    assert (record.state, record.ended_ms) == (S.SUCCEEDED, ended.ended_ms)
    counts = {S.SUCCEEDED: 1}
    assert await flows.counts(["work"]) == [counts]


async def test_a_batch_adds_to_a_flow(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    batch = EnqueueBatch(store.token(), [member("b", behind=None)], (Barrier("work", "flow", 1),))
    await store.backend.enqueue(batch)
    a, b = await worker.take()
    await worker.exchange(Settlement.succeeded(a))
    assert (await look(flows)).state is S.RUNNING
    await worker.exchange(Settlement.succeeded(b))
    record = await look(flows)
    assert (record.state, record.counts) == (S.SUCCEEDED, FlowCounts(2, {State.SUCCEEDED: 2}))
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.barriers == 0


async def test_ends_come_whatever_has_become_of_the_flow(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a", flow="gone"), flow="gone")
    job = await worker.take_one()
    assert job.ref == JobRef("work", "gone-a")
    await flows.open(new_flow())
    await store.backend.enqueue(EnqueueBatch(store.token(), [member("x", behind=None)]))
    lone = await worker.take_one()
    await flows.mark_cancelled(FLOW)
    await flows.drop(FLOW)
    ends = (Settlement.succeeded(job), Settlement.succeeded(lone))
    assert (await worker.exchange(*ends)).not_yours == []
    assert await flows.get([FLOW]) == [None]
    assert (await flows.nodes(FLOW)).nodes == []
    assert (await look(flows, "gone")).state is S.SUCCEEDED


async def test_flows_keep_their_queue(store: Store, flows: Flows) -> None:
    worker = await begin(store, member("a"))
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    await worker.lease.leave()
    store.clock.ms += 90_000_000
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert (left.flows, left.barriers, left.is_forgotten) == (1, 0, False)
    await flows.drop(FLOW)
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert left.is_forgotten


async def test_a_dead_node_that_is_revived_leaves_the_flow_alone(
    store: Store, flows: Flows
) -> None:
    worker = await begin(store, member("a"))
    await worker.exchange(Settlement.dead(await worker.take_one(), b"letter"))
    assert (await look(flows)).state is S.FAILED
    (letter,) = await store.backend.dead.find([node("a").job])
    assert letter is not None
    await store.backend.dead.revive([Revival(letter.key, b"again")])
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    record = await look(flows)
    assert (record.state, record.counts) == (S.FAILED, FlowCounts(1, {State.DEAD: 1}))
