"""At most one job holds a unique key, whatever becomes of jobs and workers. The ledger says so."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import get_args

import pytest

from asyncjobs import JobHandle, Unique
from asyncjobs.policy.unique import OnConflict
from tests.audit import audit
from tests.guarantees import program
from tests.guarantees.kit import Scene, eventually, most_at_once, spans_of

pytestmark = pytest.mark.anyio

CALLS = 100
AT_ONCE = 10
SEED = 15


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_one_job_holds_a_key_through_kills_retries_and_cancels(scene: Scene) -> None:
    chance = random.Random(SEED)
    single = scene.job(program.single)
    handles: list[JobHandle[None]] = []
    killed: dict[str, float] = {}

    async def call() -> None:
        how = chance.choice([each for each in get_args(OnConflict) if each != "raise"])
        unique = Unique(key="one", on_conflict=how)
        delay = chance.choice([0, 0, 0.02])
        job = single.options(unique=unique, delay=delay)
        handle = await job.enqueue(chance.choice([0, 1, 3]))
        handles.append(handle)
        if chance.random() < 0.2:
            await handle.cancel()

    async def are_all_over() -> bool:
        found = await scene.app.backend.inspect.queues.counts(["default"])
        return not any(
            sum(each.ready) + each.running + each.scheduled + each.held for each in found
        )

    async with scene.app:
        workers = [await scene.start(name, "--concurrency", "4") for name in ("a", "b", "c")]
        for turn in range(CALLS // AT_ONCE):
            await asyncio.gather(*(call() for _ in range(AT_ONCE)))
            began = len(scene.lines("began"))

            async def goes_on(began: int = began) -> bool:
                return len(scene.lines("began")) > began or await are_all_over()

            await eventually(goes_on)
            if turn in (3, 6):
                worker = workers.pop(0)
                name = ("a", "b")[turn // 5]
                worker.process.kill()
                await asyncio.to_thread(worker.process.wait)
                killed[name] = time.monotonic()

        await eventually(are_all_over)
        # Nobody has slipped through: the key is free, and the next job takes it.
        last = await single.options(unique=Unique(key="one")).enqueue(0)
        assert last.disposition == "new"
        await eventually(are_all_over)
        for worker in workers:
            assert await scene.stop(worker) == 0
    counted = Counter(handle.disposition for handle in handles)
    assert {"new", "existing", "held"} <= counted.keys()
    spans = spans_of(scene, killed)
    # One job at a time, and a job that was lost with its worker begins anew only after that.
    assert most_at_once([span for own in spans.values() for span in own]) == 1
    left = [name for name in ("", ":of", ":next", ":held") if _exists(scene, f"unique{name}")]
    assert left == []
    assert audit(scene.server, scene.prefix) == []


def _exists(scene: Scene, name: str) -> bool:
    return bool(scene.command("EXISTS", scene.key(name)))
