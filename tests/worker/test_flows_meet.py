"""Nodes of flows, and jobs with limits, that run in a process of their own or in a batch."""

from __future__ import annotations

import os
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Batch, Concurrency, FlowState, State, chain, group
from tests.worker import batch_jobs
from tests.worker import process_jobs as jobs
from tests.worker.flow_jobs import FlowJobs, ran
from tests.worker.kit import LIMIT_S, Stage, register, working

pytestmark = pytest.mark.anyio

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@FORKS
async def test_a_node_in_a_process_of_its_own(app: AsyncJobs) -> None:
    flow = FlowJobs(app)
    apart = register(app, jobs.told, isolation="process", retry=False)
    async with working(app):
        # It gets a result, and hands its own on.
        handle = await app.flows.start(chain(flow.number.bind(3), apart, flow.seen))
        told = await handle.result(LIMIT_S)
        assert told["value"] == 3
        assert told["pid"] != os.getpid()
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED


@FORKS
async def test_the_process_of_a_node_dies(app: AsyncJobs) -> None:
    flow = FlowJobs(app)
    apart = register(app, jobs.dies, isolation="process", retry=False)
    async with working(app):
        handle = await app.flows.start(chain(apart.bind("SIGKILL"), flow.seen))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        states = {node.name: node.state for node in await handle.nodes()}
    assert states == {"dies": State.DEAD, "seen": State.CANCELLED}
    assert ran == []


async def test_nodes_are_items_of_one_batch(app: AsyncJobs, stage: Stage) -> None:
    flow = FlowJobs(app)
    batch = register(app, batch_jobs.double, name="doubled", batch=Batch(size=4, window=600))
    async with working(app):
        work = group([chain(flow.number.bind(n), batch, flow.seen) for n in range(4)])
        handle = await app.flows.start(work)
        assert await handle.result(LIMIT_S) == [0, 2, 4, 6]
    (call,) = stage.notes
    assert sorted(call) == [0, 1, 2, 3]


async def test_an_item_that_fails_fails_its_node_alone(app: AsyncJobs, stage: Stage) -> None:
    flow = FlowJobs(app)
    batch = register(app, batch_jobs.some_fail, batch=Batch(size=4, window=600), retry=False)
    async with working(app):
        work = [chain(batch.bind(n), flow.seen) for n in (0, 1, 4, 3)]
        handles = [await app.flows.start(each) for each in work]
        states = [await handle.wait(LIMIT_S) for handle in handles]
    # One is broken, and three is discarded, which is no success either.
    succeeded, failed = FlowState.SUCCEEDED, FlowState.FAILED
    assert states == [succeeded, failed, succeeded, failed]
    assert sorted(ran) == [("seen", 0), ("seen", 4)]


@FORKS
async def test_limits_hold_for_jobs_in_processes(app: AsyncJobs) -> None:
    apart: Any = register(app, jobs.told, isolation="process", retry=False, limits=Concurrency(1))
    async with working(app, concurrency=4):
        handles = await app.enqueue_many([apart.bind(n) for n in range(4)])
        told = [await handle.result(LIMIT_S) for handle in handles]
        assert [each["value"] for each in told] == [0, 1, 2, 3]
        (found,) = await app.backend.inspect.queues.counts(["default"])
        assert (found.running, found.held) == (0, 0)


async def test_a_batch_takes_what_a_limit_allows(app: AsyncJobs, stage: Stage) -> None:
    batch = register(
        app, batch_jobs.double, batch=Batch(size=8, window="20ms"), limits=Concurrency(2)
    )
    async with working(app):
        handles = await app.enqueue_many([batch.bind(n) for n in range(6)])
        assert [await handle.result(LIMIT_S) for handle in handles] == [0, 2, 4, 6, 8, 10]
    assert max(len(call) for call in stage.notes) == 2
