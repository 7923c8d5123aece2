"""kill -9 of a worker: another one takes its jobs back, whatever it is doing, in their order."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from asyncjobs import JobHandle, State
from asyncjobs.store.redis.scripts import script
from tests.cli.process import Process
from tests.guarantees.kit import Scene, eventually, until
from tests.guarantees.monitor import Monitor

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("kind", ["valkey", "redis"])


async def _working(scene: Scene, number: int, **start: str) -> tuple[Process, list[JobHandle[str]]]:
    """Worker `a`, all of whose slots hold a job."""
    a = await scene.start("a", "--concurrency", str(number), **start)
    handles = await scene.hold(number, "open")
    await scene.noted("began", number, worker="a")
    return a, handles


async def _all_on_b(scene: Scene, handles: list[JobHandle[str]]) -> None:
    """All of them end on `b`, as second runs of their first attempt."""
    assert await scene.results(handles) == ["b"] * len(handles)
    ids = sorted(handle.id for handle in handles)
    ran = [line for line in scene.lines("began", worker="b") if line.id in ids]
    assert sorted(line.id for line in ran) == ids
    assert {(line.attempt, line.crashes) for line in ran} == {(1, 1)}


async def test_by_an_idle_worker_though_no_new_job_arrives(scene: Scene) -> None:
    async with scene.app:
        a, handles = await _working(scene, 20)
        await scene.start("b")
        a.process.kill()
        await scene.noted("began", 20, worker="b")
        scene.open("open")
        await _all_on_b(scene, handles)


async def test_by_a_busy_worker_with_two_free_slots(scene: Scene) -> None:
    async with scene.app:
        a, handles = await _working(scene, 6)
        await scene.start("b", "--concurrency", "10")
        busy = await scene.hold(8, "busy")
        await scene.noted("began", 8, worker="b")
        scene.open("open")
        a.process.kill()
        # `a` has ended some or none of them: what it has recorded stays.
        results = Counter(await scene.results(handles))
        assert set(results) <= {"a", "b"}
        assert len(scene.lines("ended", worker="b")) == results["b"]
        assert [await handle.status() for handle in busy] == [State.RUNNING] * 8


async def test_by_a_worker_without_a_free_slot(scene: Scene) -> None:
    async with scene.app:
        a, handles = await _working(scene, 6)
        await scene.start("b", "--concurrency", "3")
        await scene.hold(3, "busy")
        await scene.noted("began", 3, worker="b")
        a.process.kill()

        async def are_back() -> bool:
            return {await handle.status() for handle in handles} == {State.READY}

        await eventually(are_back)
        assert len(scene.lines("began", worker="b")) == 3
        scene.open("busy")
        scene.open("open")
        await _all_on_b(scene, handles)


async def test_by_a_worker_that_is_started_later(scene: Scene) -> None:
    async with scene.app:
        a, handles = await _working(scene, 20)
        a.process.kill()
        await asyncio.to_thread(a.end)
        assert [await handle.status() for handle in handles] == [State.RUNNING] * 20
        scene.open("open")
        await scene.start("b")
        await _all_on_b(scene, handles)


async def test_jobs_come_back_before_younger_ones_of_their_priority(scene: Scene) -> None:
    async with scene.app:
        a, older = await _working(scene, 5)
        await scene.start("b", "--concurrency", "1")
        (busy,) = await scene.hold(1, "busy")
        await scene.noted("began", 1, worker="b")
        younger = await scene.hold(5, "open")
        a.process.kill()

        async def are_back() -> bool:
            return {await handle.status() for handle in older} == {State.READY}

        await eventually(are_back)
        scene.open("open")
        scene.open("busy")
        assert await scene.results(younger) == ["b"] * 5
        order = [line.id for line in scene.lines("began", worker="b")]
        assert order == [busy.id, *(handle.id for handle in [*older, *younger])]


@BOTH
async def test_a_thousand_running_jobs(scene: Scene) -> None:
    async with scene.app:
        a = await scene.start("a")
        done = await scene.hold(100, "early")
        scene.open("early")
        assert await scene.results(done) == ["a"] * 100
        running = await scene.hold(1000, "open")
        await scene.noted("began", 1100, worker="a")
        queued = await scene.hold(100, "open")
        a.process.kill()
        await asyncio.to_thread(a.end)
        scene.open("open")
        await scene.start("b")
        await _all_on_b(scene, running)
        assert await scene.results(queued) == ["b"] * 100
        # Nothing runs twice but what was running at the kill.
        runs = Counter(line.id for line in scene.lines("began"))
        assert {runs[handle.id] for handle in running} == {2}
        assert {runs[handle.id] for handle in [*done, *queued]} == {1}


async def test_an_idle_worker_asks_for_dead_ones_when_a_lease_can_end_and_not_more_often(
    scene: Scene,
) -> None:
    async with scene.app:
        a = await scene.start("a", lease="2s")
        await scene.start("b", lease="2s")
        async with Monitor(scene.server) as monitor:

            def calls(name: str) -> int:
                return monitor.count(script(name).digest.decode())

            await until(lambda: calls("heartbeat") >= 4)
            before = calls("reclaim")
            await until(lambda: calls("heartbeat") >= 16)
            assert calls("reclaim") == before  # while all renew their leases
            # And it takes nothing meanwhile: it is called when there is work.
            assert calls("exchange") <= 4
            a.process.kill()
            await until(lambda: not scene.entries_of("a"))
            await until(lambda: calls("reclaim") > before)  # the monitor may be behind
            assert calls("reclaim") <= before + 4


async def test_consumers_of_workers_that_are_gone_are_removed(scene: Scene) -> None:
    def consumers() -> set[str]:
        found = set()
        for flat in scene.command("XINFO", "CONSUMERS", scene.key("ready:2"), "workers"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            # What was given back has one for each number of crashes: `returned:1`.
            found.add(fields[b"name"].decode().partition(":")[0])
        return found

    async with scene.app:
        a, handles = await _working(scene, 10)
        dead = scene.entry_of("a")
        assert consumers() == {dead}
        b = await scene.start("b")
        a.process.kill()
        scene.open("open")
        await scene.results(handles)
        assert consumers() <= {scene.entry_of("b"), "returned"}
        assert dead not in scene.lease_ends_ms()
        assert await scene.stop(b) == 0
        assert consumers() <= {"returned"}
        assert scene.lease_ends_ms() == {}
