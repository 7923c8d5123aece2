"""Flows in several queues, one of which has no worker: nobody there brings ends to the others."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, Flow, FlowState, State
from asyncjobs.client.flow_handle import FlowHandle
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Target
from tests.worker.flow_jobs import FlowJobs, ran
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(app: AsyncJobs) -> FlowJobs:
    return FlowJobs(app)


async def begin(app: AsyncJobs, jobs: FlowJobs) -> FlowHandle[int]:
    """A node in a queue without workers, and one in `far` that runs whatever becomes of it."""
    flow = Flow()
    first = flow.add(jobs.number.options(queue="near").bind(1))
    flow.add(jobs.number.options(queue="far").bind(2), after=[first], on_failure="run")
    return await app.flows.start(flow, queue="far")


async def job_of(handle: FlowHandle[int], state: State) -> JobRef:
    """The job of the only node in this state."""
    (node,) = [node for node in await handle.nodes() if node.state is state]
    return node.job


@pytest.mark.parametrize("act", ["cancel", "delete", "purge"])
async def test_an_act_lets_a_node_of_another_queue_run(
    app: AsyncJobs, jobs: FlowJobs, act: str
) -> None:
    async with working(app, queues=["far"]):
        handle = await begin(app, jobs)
        first = await job_of(handle, State.READY)
        if act == "cancel":
            await app.handle(str(first)).cancel()
        elif act == "delete":
            await app.backend.inspect.jobs.delete([Target(first)])
        else:
            assert await app.queues.purge("near") == 1
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert ran == [("number", 2)]
        (outbox,) = await app.backend.inspect.queues.flow(["near"])
        assert outbox.oldest_outbox_ms is None
