"""The sender: a plan is made without a store, and three ways send the same."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from asyncjobs import AsyncJobs, JobHandle
from asyncjobs.errors import ArgumentsError, EncodeError, UsageError
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import Placed

pytestmark = pytest.mark.anyio


async def send(number: Any) -> int:
    return int(number)


def encoded(app: AsyncJobs, *calls: Any) -> Any:
    """The plan for these calls, its jobs made; the app is not open."""
    plan = app._sender.plan(calls)
    for _ in plan.encode(plan.templates):
        pass
    return plan


def test_a_plan_needs_no_store() -> None:
    app = AsyncJobs("memory:")
    mail = app.job(queue="mail", priority="high")(send)
    plan = encoded(app, mail.bind(1), mail.options(id="two", queue="slow").bind(2))
    assert [(job.queue, job.priority) for job in plan.jobs] == [("mail", 1), ("slow", 1)]
    assert plan.jobs[1].id == "two"
    assert plan.names == [mail.name, mail.name]
    handles = plan.handles(app, [None, Placed(JobRef("slow", "two"), "there")])
    assert [handle.ref for handle in handles] == [job.ref for job in plan.jobs]
    assert [handle.is_new for handle in handles] == [True, False]


def test_a_plan_takes_the_calls_off_while_it_makes_their_jobs() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)
    plan = app._sender.plan(job.bind(number) for number in range(2_500))
    made = [len(plan.jobs) for _ in plan.encode(plan.templates)]
    # The loop has its turn after each thousand.
    assert made == [1_000, 2_000]
    assert len(plan.jobs) == 2_500
    assert [orjson.loads(each.envelope)["a"] for each in plan.jobs[::1_000]] == [
        [0],
        [1000],
        [2000],
    ]
    assert not plan._calls


def test_a_plan_refuses_what_cannot_be_sent() -> None:
    app, other = AsyncJobs("memory:"), AsyncJobs("memory:")
    job = app.job(send)
    with pytest.raises(UsageError, match=r"takes calls, not 3; write f\.bind"):
        app._sender.plan([3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="belongs to another AsyncJobs"):
        other._sender.plan([job.bind(1)])
    with pytest.raises(EncodeError):
        encoded(app, job.bind(1), job.bind({2}))
    with pytest.raises(ArgumentsError):
        job.bind()  # type: ignore[call-arg]


async def test_three_ways_store_the_same() -> None:
    app = AsyncJobs("memory:")
    job = app.job(queue="mail", expires=60)(send)
    async with app:
        sent: list[JobHandle[int]] = [
            await job.options(id="here").enqueue(7),
            *await app.enqueue_many([job.options(id="many").bind(7)]),
            await asyncio.to_thread(job.options(id="thread").enqueue_sync, 7),
        ]
        assert [handle.id for handle in sent] == ["here", "many", "thread"]
        assert all(handle.is_new for handle in sent)
        infos = [await handle.info() for handle in sent]
        same = {(info.name, tuple(info.args or ()), info.priority, info.state) for info in infos}
        assert len(same) == 1
        for info in infos:
            assert info.enqueued_at is not None
            assert info.expires_at is not None
            assert (info.expires_at - info.enqueued_at).total_seconds() == 60
        # The other way finds each job where it is.
        again = await app.enqueue_many([job.options(id=handle.id).bind(7) for handle in sent])
        assert [handle.is_new for handle in again] == [False] * 3
