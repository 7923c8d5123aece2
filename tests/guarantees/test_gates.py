"""Limits hold in a fleet, whatever becomes of its workers. A ledger outside the store says so."""

from __future__ import annotations

import asyncio
import os
import random
import time
from itertools import count

import pytest

from tests.audit import audit
from tests.audit.gates import GATE_KEYS
from tests.cli.process import Process
from tests.guarantees import program
from tests.guarantees.kit import Scene, eventually, freeze, most_at_once, spans_of, thaw, until

pytestmark = pytest.mark.anyio

JOBS = 40
KEYS = "abcdef"
OF_A_KEY = 2
OF_ALL = 4
SEEDS = int(os.environ.get("SEEDS", "6"))
"""So many on Valkey, and half as many on Redis."""


ON_SERVERS = pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("valkey", 1),
        pytest.param("redis", 1, marks=pytest.mark.second_server),
        *(pytest.param("valkey", seed, marks=pytest.mark.long) for seed in range(2, SEEDS + 1)),
        *(pytest.param("redis", seed, marks=pytest.mark.long) for seed in range(2, SEEDS // 2 + 1)),
    ],
)


@ON_SERVERS
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


STARTS = 30
"""Of each key."""
WINDOW_MS = 1_000 - 5
"""That of the rate, but for what a clock in whole milliseconds may be off at both ends."""


def most_in_a_window(times: list[int]) -> int:
    """How many of these moments lie in one window, at the most."""
    ordered = sorted(times)
    most = first = 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - WINDOW_MS:
            first += 1
        most = max(most, last - first + 1)
    return most


@ON_SERVERS
async def test_a_ledger_never_sees_more_starts_than_the_rate(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    rated = scene.job(program.rated)
    workers: list[Process] = []
    names = count()

    async def start() -> None:
        workers.append(await scene.start(f"worker-{next(names)}", "--concurrency", "4"))

    def starts() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for line in scene.lines_of(program.rated):
            found.setdefault(line.id[0], []).append(int(line.word.removeprefix("taken ")))
        return found

    async def are_all_over() -> bool:
        (found,) = await scene.app.backend.inspect.queues.counts(["default"])
        return not (sum(found.ready) + found.running + found.scheduled + found.held)

    async with scene.app:
        for _ in range(4):
            await start()
        keys = [key for key in "ab" for _ in range(STARTS)]
        chance.shuffle(keys)
        await scene.app.enqueue_many(
            [rated.options(id=f"{key}-{n}").bind(key) for n, key in enumerate(keys)]
        )
        began = 0
        for deed in chance.sample(["kill", "freeze", "kill"], 3):
            began += chance.randrange(8, 14)
            await until(lambda began=began: len(scene.lines_of(program.rated)) >= began)
            worker = chance.choice(workers)
            if deed == "freeze":
                freeze(worker.process.pid)
                await asyncio.sleep(0.3)
                thaw(worker.process.pid)
                continue
            workers.remove(worker)
            worker.process.kill()
            await asyncio.to_thread(worker.process.wait)
            await start()
        # Nothing waits for ever though the rate allows it.
        await eventually(are_all_over)
    found = starts()
    assert {key: len(set(times)) > 1 for key, times in found.items()} == {"a": True, "b": True}
    assert max(map(most_in_a_window, found.values())) <= 20
    assert {line.id for line in scene.lines_of(program.rated)} == {
        f"{key}-{n}" for n, key in enumerate(keys)
    }
