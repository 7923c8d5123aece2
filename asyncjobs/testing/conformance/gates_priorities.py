"""Priorities at gates: a lane is as urgent as its first job, and turns count among such lanes."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, Priority
from asyncjobs.testing.conformance.gates import drain, enqueue, finish, gate, gated, use
from asyncjobs.testing.conformance.gates_turns import turn
from asyncjobs.testing.conformance.store import Store, ids

pytestmark = pytest.mark.anyio

LOW, NORMAL, HIGH, CRITICAL = Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.CRITICAL


def jobs(name: str, priority: Priority, count: int = 3) -> list[NewJob]:
    """Jobs in a lane of this name."""
    names = [f"{name}-{priority.name.lower()}-{n}" for n in range(count)]
    return [gated(each, turn(name), priority=priority) for each in names]


async def test_the_lane_with_the_more_urgent_job_comes_first(store: Store) -> None:
    calm, urgent = jobs("calm", LOW), jobs("urgent", CRITICAL)
    await enqueue(store, *calm, *urgent)
    order = await drain(store, await store.worker(), slots=1)
    assert order == [job.id for job in [*urgent, *calm]]


async def test_an_urgent_job_makes_its_lane_urgent(store: Store) -> None:
    calm, beside, late = jobs("a", NORMAL), jobs("b", HIGH), jobs("a", CRITICAL, 1)
    await enqueue(store, *calm, *beside)
    await enqueue(store, *late)
    order = await drain(store, await store.worker(), slots=1)
    assert order == [job.id for job in [*late, *beside, *calm]]


async def test_jobs_without_a_gate_have_their_place_among_lanes(store: Store) -> None:
    plain = [NewJob("work", f"plain-{p}", p, b"{}", has_new_id=True) for p in (NORMAL, CRITICAL)]
    lanes = [*jobs("a", LOW, 2), *jobs("b", HIGH, 2)]
    await enqueue(store, *lanes, *plain)
    order = await drain(store, await store.worker(), slots=1)
    assert order == ["plain-0", "b-high-0", "b-high-1", "plain-2", "a-low-0", "a-low-1"]


async def test_the_guarded_slots_are_for_the_least_urgent_lanes(store: Store) -> None:
    await enqueue(store, *jobs("calm", LOW, 20), *jobs("urgent", CRITICAL, 20))
    taken = ids(await (await store.worker()).take(10, guard=1))
    assert sorted(name.partition("-")[0] for name in taken) == ["calm", *["urgent"] * 9]


async def test_the_most_urgent_lane_at_a_limit_is_let_in_first(store: Store) -> None:
    """Whatever turns there have been before among lanes of its own priority."""
    worker = await store.worker()
    await enqueue(store, *jobs("before", CRITICAL, 30))
    assert len(await drain(store, worker, slots=1)) == 30
    holder = gated("holder", gate(use(), turn="holder"))
    await enqueue(store, holder)
    (running,) = await worker.take()
    names = {"calm": LOW, "first": HIGH, "urgent": CRITICAL}
    for name, priority in names.items():
        await enqueue(store, gated(name, gate(use(), turn=name), priority=priority))
    order = []
    following = await finish(worker, running, slots=100)
    while following:
        order += ids(following)
        following = await finish(worker, *following, slots=100)
    assert order == ["urgent", "first", "calm"]
