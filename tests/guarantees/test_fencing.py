"""A worker that was stopped for longer than its lease changes nothing when it wakes up."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import JobHandle, State
from tests.guarantees.kit import Scene, eventually, freeze, thaw, until, wait_for
from tests.worker.kit import counts

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("kind", ["valkey", "redis"])


async def _enqueue(scene: Scene) -> dict[str, list[JobHandle[str]]]:
    """Jobs that will want to end on `a` in each way, when it wakes up."""
    return {
        "returns": await scene.hold(3, "open"),
        "retries": await scene.hold(3, "open", 0, "a"),
        "dies": await scene.hold(3, "open", 0, "a", retry=False),
        "hangs": await scene.hold(3, "shut"),
        "other queue": await scene.hold(1, "shut", queue="other"),
    }


@BOTH
async def test_a_worker_that_wakes_after_its_lease_changes_nothing(scene: Scene) -> None:
    queues = ("--queues", "default,other")
    async with scene.app:
        a = await scene.start("a", *queues)
        jobs = await _enqueue(scene)
        handles = [handle for group in jobs.values() for handle in group]
        ids = sorted(handle.id for handle in handles)
        await scene.noted("began", len(ids), worker="a")
        old_entry = scene.entry_of("a")
        freeze(a.process.pid)
        b = await scene.start("b", *queues)
        again = await scene.noted("began", len(ids), worker="b")
        # Its crash is known, and spends no attempt.
        assert {(line.attempt, line.crashes) for line in again} == {(1, 1)}

        # It wakes up while the others run: its jobs end at once, or would hang for ever.
        scene.open("open", "a")
        thaw(a.process.pid)
        told = await wait_for(a, "the lease ended in ")
        assert "running jobs stopped here because they run elsewhere" in told
        await until(
            lambda: (
                scene.ids("ended", worker="a") + scene.ids("stopped", worker="a") != []
                and sorted(scene.ids("ended", worker="a") + scene.ids("stopped", worker="a")) == ids
            )
        )
        hanging = sorted(handle.id for handle in jobs["hangs"] + jobs["other queue"])
        assert set(hanging) <= set(scene.ids("stopped", worker="a"))
        await until(lambda: scene.entries_of("a") not in ([], [old_entry]))

        infos = await asyncio.gather(*(handle.info() for handle in handles))
        entry_b = scene.entry_of("b")
        assert {(info.state, info.attempt, info.worker, info.progress) for info in infos} == {
            (State.RUNNING, 1, entry_b, None)
        }
        scene.open("open", "b")
        scene.open("shut", "b")
        assert await scene.results(handles) == ["b"] * len(ids)
        assert scene.ids("ended", worker="b") == ids
        assert scene.ids("began") == sorted(ids * 2)
        for queue in ("default", "other"):
            found = await counts(scene.app, queue)
            left = (sum(found.ready), found.running, found.scheduled, found.dead)
            assert left == (0, 0, 0, 0)

        # It works on, as a worker like any other.
        assert await scene.stop(b) == 0
        assert await scene.results(await scene.hold(5, "open")) == ["a"] * 5
        assert await scene.stop(a) == 0
        assert a.text.count("the lease ended in") in (1, 2)


async def test_a_job_cancelled_while_its_worker_was_stopped(scene: Scene) -> None:
    async with scene.app:
        a = await scene.start("a")
        (handle,) = await scene.hold(1, "open")
        await scene.noted("began", 1)
        freeze(a.process.pid)
        assert await handle.cancel()
        await scene.start("b")

        async def is_cancelled() -> bool:
            return await handle.status() is State.CANCELLED

        await eventually(is_cancelled)
        scene.open("open")
        thaw(a.process.pid)
        await wait_for(a, "the lease ended in default")
        await until(lambda: len(scene.ids("stopped") + scene.ids("ended")) == 1)
        # Whatever it did with it afterwards: what was asked for stands.
        assert await scene.results(await scene.hold(20, "open")) != []
        assert await is_cancelled()
        assert len(scene.ids("began", id=handle.id)) == 1


async def test_a_stop_shorter_than_the_lease_costs_nothing(scene: Scene) -> None:
    async with scene.app:
        a = await scene.start("a", lease="10s")
        handles = await scene.hold(20, "open")
        await scene.noted("began", 20, worker="a")
        b = await scene.start("b", lease="1s")
        freeze(a.process.pid)
        ends = scene.lease_ends_ms()
        entry_a, entry_b = scene.entry_of("a"), scene.entry_of("b")
        # Longer than the whole lease of b: many beats, and more than one look of reclaim.
        await until(lambda: scene.lease_ends_ms()[entry_b] > ends[entry_b] + 1_500)
        assert scene.lease_ends_ms()[entry_a] == ends[entry_a] > scene.store_ms()
        thaw(a.process.pid)
        scene.open("open")
        assert await scene.results(handles) == ["a"] * 20
        assert {line.crashes for line in scene.lines("began")} == {0}
        assert len(scene.lines("began")) == 20
        for worker in (a, b):
            assert await scene.stop(worker) == 0
            assert "lease ended" not in worker.text
            assert "leases ended" not in worker.text
