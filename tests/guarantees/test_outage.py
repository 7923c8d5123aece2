"""The store stands still or dies under real workers: no running job loses its place."""

from __future__ import annotations

import asyncio

import pytest

from tests.guarantees.kit import Scene, freeze, thaw
from tests.worker.kit import counts

pytestmark = pytest.mark.anyio

CASES = [
    ("valkey", "stopped", "20s"),
    ("valkey", "stopped", "1s"),
    ("valkey", "killed", "20s"),
    ("valkey", "killed", "1s"),
    ("redis", "killed", "1s"),
]
"""An outage is shorter than a lease of 20 s, and longer than one of 1 s."""


async def _take_away(scene: Scene, how: str) -> None:
    if how == "stopped":
        freeze(scene.server.pid)
    else:
        await asyncio.to_thread(scene.server.kill)


async def _give_back(scene: Scene, how: str) -> None:
    if how == "stopped":
        thaw(scene.server.pid)
    else:
        await asyncio.to_thread(scene.server.restart)


@pytest.mark.parametrize(("kind", "how", "lease"), CASES)
async def test_an_outage_costs_no_running_job_its_place(
    durable: Scene, how: str, lease: str
) -> None:
    scene = durable
    async with scene.app:
        workers = await asyncio.gather(
            *(scene.start(name, "--concurrency", "10", lease=lease) for name in ("a", "b"))
        )
        handles = [*await scene.hold(6, "during"), *await scene.hold(14, "after")]
        ids = sorted(handle.id for handle in handles)
        await scene.noted("began", 20)
        await _take_away(scene, how)
        scene.open("during")
        await scene.noted("ended", 6)
        if lease == "1s":
            # The fault itself: both leases are over, and nobody could renew them.
            await asyncio.sleep(1.5)
        await _give_back(scene, how)

        # An outcome of the time without a store is recorded when it is back.
        assert set(await scene.results(handles[:6])) <= {"a", "b"}
        assert (await counts(scene.app)).running == 14
        scene.open("after")
        assert set(await scene.results(handles)) <= {"a", "b"}
        for worker in workers:
            assert await scene.stop(worker) == 0
            assert "lease ended" not in worker.text
    assert scene.ids("began") == scene.ids("ended") == ids
    assert {(line.attempt, line.crashes) for line in scene.lines("began")} == {(1, 0)}
