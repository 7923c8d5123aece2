"""Nodes of flows that are entered late, by a worker that has lost its job."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, State
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import FlowNode, Terms
from asyncjobs.store.flows import FlowRef, NewFlow, NodeRecord
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, ref

pytestmark = pytest.mark.anyio

FLOW = FlowRef("work", "late")


async def test_an_end_outlives_a_late_entry(store: Store) -> None:
    if not store.backend.capabilities.flows:
        pytest.skip("no capability flows")
    flows = store.backend.flows
    await flows.open(NewFlow(FLOW, "", 2, 60_000, b""))
    await flows.add_nodes(FLOW, [NodeRecord("a", ref("a"), b"first")])
    terms = Terms(node=FlowNode("work", "late", "a"))
    job = NewJob("work", "a", 2, b"a", has_new_id=True, terms=terms)
    await store.backend.enqueue(EnqueueBatch(store.token(), [job]))
    await flows.start(FLOW, [])
    worker = await store.worker()
    await worker.exchange(Settlement.succeeded(await worker.take_one()))
    # The same job again: its end stays. Another one in its place has not ended.
    await flows.add_nodes(FLOW, [NodeRecord("a", ref("a"), b"late")])
    (node,) = await flows.look_up(FLOW, ["a"])
    assert node is not None
    assert node.state is State.SUCCEEDED
    again = NodeRecord("a", ref("again"), b"again")
    await flows.add_nodes(FLOW, [again._replace(definition=b"before"), again])
    assert await flows.look_up(FLOW, ["a"]) == [again]
    (record,) = await flows.get([FLOW])
    assert record is not None
    # It was in one call twice, and its end is taken back once.
    assert not any(record.counts.ended.values())
