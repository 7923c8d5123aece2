"""A success and the jobs that it stores are one step, through kills. The ledger says so."""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict

import pytest

from asyncjobs import JobHandle, State
from tests.audit import audit
from tests.cli.process import Process
from tests.guarantees import program
from tests.guarantees.kit import Line, Scene, eventually, until

pytestmark = pytest.mark.anyio

PARENTS = 30
ATTEMPTS = 3
KILLS = 3
QUEUES = ("default", "other")
SEEDS = int(os.environ.get("SEEDS", "6"))
"""So many on Valkey, and half as many on Redis."""


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("valkey", 0),
        pytest.param("redis", 0, marks=pytest.mark.second_server),
        *(pytest.param("valkey", seed, marks=pytest.mark.long) for seed in range(1, SEEDS + 1)),
        *(pytest.param("redis", seed, marks=pytest.mark.long) for seed in range(1, SEEDS // 2 + 1)),
    ],
)
async def test_a_parent_that_succeeds_has_its_children_once(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    # The first one is for every day, so it kills once.
    kills = KILLS if seed else 1
    parents: dict[str, int] = {}
    handles: list[JobHandle[None]] = []
    workers: dict[str, Process] = {}
    names = iter(f"worker-{number}" for number in range(100))

    async def start() -> None:
        name = next(names)
        flags = ("--concurrency", "8", "--queues", ",".join(QUEUES))
        workers[name] = await scene.start(name, *flags)

    async def enqueue() -> None:
        job = scene.job(program.causing)
        fails = [chance.choice([0, 0, 1, ATTEMPTS]) for _ in range(PARENTS)]
        found = await scene.app.enqueue_many([job.bind(number) for number in fails])
        parents.update(zip([handle.id for handle in found], fails, strict=True))
        handles.extend(found)

    async def are_all_over() -> bool:
        found = await scene.app.backend.inspect.queues.counts(QUEUES)
        return not any(sum(each.ready) + each.running + each.scheduled for each in found)

    async with scene.app:
        await asyncio.gather(start(), start())
        for turn in range(kills):
            began = len(scene.lines("began"))
            await enqueue()
            await scene.noted("began", began + chance.randrange(1, PARENTS))
            # Any moment will do: in a job, in its settlement, or before what it causes is relayed.
            await asyncio.sleep(chance.uniform(0, 0.03))
            worker = workers.pop(chance.choice([*workers]))
            worker.process.kill()
            await asyncio.to_thread(worker.process.wait)
            if turn < kills - 1:
                await start()
        # Those who settle these relay what the last one that was killed has left.
        await enqueue()
        good = {id for id, fails in parents.items() if fails < ATTEMPTS}
        wanted = {
            f"{id} {queue} {number}"
            for id in good
            for queue in QUEUES
            for number in range(program.CHILDREN)
        }
        await until(lambda: wanted <= {line.word for line in scene.lines_of(program.caused)})
        await eventually(are_all_over)
        for worker in workers.values():
            assert await scene.stop(worker) == 0
        assert await are_all_over()
        states = {handle.id: await handle.status() for handle in handles}
    assert states == {id: State.SUCCEEDED if id in good else State.DEAD for id in parents}
    ran: dict[str, list[Line]] = defaultdict(list)
    for line in scene.lines_of(program.caused):
        ran[line.word].append(line)
    assert ran.keys() == wanted
    for lines in ran.values():
        # One job, which runs again only if its worker was killed meanwhile.
        assert len({line.id for line in lines}) == 1
        assert len({line.crashes for line in lines}) == len(lines)
    assert audit(scene.server, scene.prefix) == []
