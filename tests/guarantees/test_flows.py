"""A flow whose workers are killed: each node is let go once, after all that it waits for, and the
flow comes to its end. A ledger outside the store says so."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from asyncjobs import Flow, Node
from asyncjobs.model.job import State
from asyncjobs.store.flows import FlowState
from tests.audit import audit
from tests.cli.process import Process
from tests.guarantees import program
from tests.guarantees.kit import Line, Scene, until

pytestmark = pytest.mark.anyio

QUEUES = ("home", "left", "right")
MOST_BEFORE = 3
"""So many nodes does one in the midst of the flow wait for."""
WORKERS = 3


class Workers:
    """Three workers, of which each serves two of the three queues, and those that they replace."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._present: dict[str, tuple[int, Process]] = {}
        self._started = 0
        self._lines = 0
        self.killed: set[int] = set()

    async def start(self, place: int) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        queues = ",".join(QUEUES[:place] + QUEUES[place + 1 :])
        flags = ("--queues", queues, "--concurrency", "16")
        self._present[name] = (place, await self._scene.start(name, *flags))

    async def kill(self) -> int:
        """Kill the one that has begun a job last. Returns its place."""
        await until(lambda: bool(self._at_work()))
        place, worker = self._present.pop(self._at_work()[-1])
        self.killed.add(worker.process.pid)
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        self._lines = len(self._scene.lines("began"))
        return place

    def _at_work(self) -> list[str]:
        """Those that have begun a job since the last kill."""
        lines = self._scene.lines("began")[self._lines :]
        return [line.worker for line in lines if line.worker in self._present]

    async def stop(self) -> None:
        for _, worker in self._present.values():
            assert await self._scene.stop(worker) == 0


def flow_of(
    scene: Scene, layers: int, width: int, chance: Random
) -> tuple[Flow, dict[str, set[str]]]:
    """A flow in three queues, from one node through layers to one node; and for each node the names
    of those that it waits for."""
    job = scene.job(program.node)
    flow = Flow()
    waits: dict[str, set[str]] = {}

    def add(
        name: str, layer: int, queue: str, before: dict[str, Node[int]], *after: str
    ) -> Node[int]:
        waits[name] = {*before, *after}
        call = job.options(queue=queue).bind(layer, [each.result for each in before.values()])
        found: Node[int] = flow.add(call, name=name, after=after)
        return found

    present = {"first": add("first", 0, "left", {})}
    for layer in range(1, layers + 1):
        before, present = present, {}
        for number in range(width):
            chosen = chance.sample(sorted(before), min(MOST_BEFORE, len(before)))
            own = {each: before[each] for each in chosen}
            name = f"{layer}-{number}"
            present[name] = add(name, layer, chance.choice(QUEUES), own)
    # Those that nobody waits for by chance. The last one is behind them, too.
    awaited = {each for names in waits.values() for each in names}
    loose = sorted(waits.keys() - awaited - present.keys())
    add("last", layers + 1, "home", present, *loose)
    return flow, waits


def check(
    lines: list[Line], waits: dict[str, set[str]], names: dict[str, str], killed: set[int]
) -> int:
    """A node runs again only if its worker was killed, and none begins before those that it waits
    for have run for the last time. Returns how many have run again."""
    runs: dict[str, list[tuple[int, Line]]] = {name: [] for name in waits}
    ended: dict[str, int] = {}
    for place, line in enumerate(lines):
        name = names[line.id]
        if line.word == "began":
            runs[name].append((place, line))
        else:
            ended[name] = place
    assert ended.keys() == waits.keys()
    for name, own in runs.items():
        assert own, f"{name} has not run"
        assert {line.pid for _, line in own[:-1]} <= killed, f"{name} was let go twice"
        assert ended[name] > own[-1][0]
        for before in waits[name]:
            assert ended[before] < own[0][0], f"{name} has begun before {before} had succeeded"
    return sum(len(own) > 1 for own in runs.values())


async def run(scene: Scene, *, layers: int, width: int, kills: int, limit_s: float) -> None:
    chance = Random(kills)
    flow, waits = flow_of(scene, layers, width, chance)
    workers = Workers(scene)
    async with scene.app:
        await asyncio.gather(*map(workers.start, range(WORKERS)))
        handle = await scene.app.flows.start(flow, name="killed", queue="right")
        # The flow does not wait for those that replace others.
        async with asyncio.TaskGroup() as replacing:
            for number in range(1, kills + 1):
                await scene.noted("began", number * len(waits) // (kills + 2))
                replacing.create_task(workers.start(await workers.kill()))
        assert await handle.result(limit_s) == layers + 1
        info = await handle.info()
        assert (info.state, info.nodes) == (FlowState.SUCCEEDED, len(waits))
        assert info.ended == {State.SUCCEEDED: len(waits)}
        nodes = await handle.nodes()
        assert {node.state for node in nodes} == {State.SUCCEEDED}
        names = {node.job.id: node.name for node in nodes}
        assert names.keys() == {line.id for line in scene.lines("began")}
        await workers.stop()
    again = check(scene.ledger(), waits, names, workers.killed)
    # Or nothing was killed at all.
    assert again > 0
    assert audit(scene.server, scene.prefix) == []


async def test_a_flow_in_three_queues_outlives_three_workers(scene: Scene) -> None:
    await run(scene, layers=6, width=40, kills=3, limit_s=30)


@pytest.mark.long
async def test_ten_thousand_jobs_outlive_ten_workers(scene: Scene) -> None:
    await run(scene, layers=100, width=100, kills=10, limit_s=300)
