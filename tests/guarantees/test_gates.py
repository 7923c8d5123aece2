"""Limits hold in a fleet, whatever becomes of its workers. A ledger outside the store says so."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from tests.audit import audit
from tests.audit.gates import GATE_KEYS
from tests.cli.process import Process
from tests.guarantees import program
from tests.guarantees.kit import Scene, eventually, freeze, most_at_once, spans_of, thaw

pytestmark = pytest.mark.anyio

JOBS = 40
KEYS = "abcdef"
OF_A_KEY = 2
OF_ALL = 4
SEEDS = int(os.environ.get("SEEDS", "6"))
"""So many on Valkey, and half as many on Redis."""


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("valkey", 1),
        pytest.param("redis", 1, marks=pytest.mark.second_server),
        *(pytest.param("valkey", seed, marks=pytest.mark.long) for seed in range(2, SEEDS + 1)),
        *(pytest.param("redis", seed, marks=pytest.mark.long) for seed in range(2, SEEDS // 2 + 1)),
    ],
)
async def test_a_ledger_never_sees_more_than_the_number(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    bounded = scene.job(program.bounded)
    ids: list[str] = []
    killed: dict[str, float] = {}
    workers: dict[str, Process] = {}

    async def start() -> None:
        name = f"worker-{len(workers) + len(killed)}"
        workers[name] = await scene.start(name, "--concurrency", "4")

    async def kill() -> None:
        name = chance.choice([*workers])
        worker = workers.pop(name)
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        killed[name] = time.monotonic()

    async def are_all_over() -> bool:
        found = await scene.app.backend.inspect.queues.counts(["default"])
        return not any(
            sum(each.ready) + each.running + each.scheduled + each.held for each in found
        )

    async with scene.app:
        for _ in range(4):
            await start()
        for turn in range(3):
            calls = []
            for number in range(JOBS):
                key = chance.choice(KEYS)
                options = bounded.options(
                    id=f"{key}-{turn}-{number}", delay=chance.choice([0, 0, 0.05])
                )
                calls.append(options.bind(key, chance.choice([0, 0, 1])))
            began = len(scene.lines("began"))
            ids += [handle.id for handle in await scene.app.enqueue_many(calls)]
            await scene.noted("began", began + 5)
            if turn == 1:
                # It is silent for less than its lease, so its jobs stay with it.
                paused = workers[chance.choice([*workers])].process.pid
                freeze(paused)
                await asyncio.sleep(0.3)
                thaw(paused)
            else:
                await kill()
                await start()
        # Nothing waits for ever beside room.
        await eventually(are_all_over)
        for worker in workers.values():
            assert await scene.stop(worker) == 0
    spans = spans_of(scene, killed)
    assert spans.keys() == set(ids)
    by_key: dict[str, list[tuple[float, float]]] = {}
    for id, own in spans.items():
        by_key.setdefault(id[0], []).extend(own)
    assert max(map(most_at_once, by_key.values())) == OF_A_KEY
    assert most_at_once([span for own in spans.values() for span in own]) <= OF_ALL
    left = {name for name in GATE_KEYS if scene.command("EXISTS", scene.key(name))}
    assert left == {"limits"}
    assert not scene.command("EXISTS", scene.key("gated"))
    assert audit(scene.server, scene.prefix) == []
