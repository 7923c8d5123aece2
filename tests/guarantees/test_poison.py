"""A job that kills its worker, among 999 that do no harm: it dies alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from asyncjobs import JobFailed
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.suspects import SuspectBounds
from tests.guarantees import program
from tests.guarantees.kit import LIMIT_S, Line, Scene, most_at_once
from tests.processes.kit import wait_ready
from tests.worker.kit import counts

pytestmark = pytest.mark.anyio

INNOCENTS = 999
SLOTS = 334
CRASHES = AppSettings().max_crashes


async def test_one_poison_job_among_999_innocents(scene: Scene) -> None:
    async with scene.app:
        # There before the workers, which so take their shares in large pieces: the poison job
        # has others of its queue with it.
        innocents = await scene.hold(50, "boom", 0.05)
        poison = await scene.job(program.poison).enqueue("boom")
        innocents += await scene.hold(450, "boom", 0.05)
        innocents += await scene.hold(INNOCENTS - 500, "boom", 0.05, queue="other")
        flags = ("--processes", "3", "--concurrency", str(SLOTS), "--queues", "default,other")
        parent = await scene.start("p", *flags)
        await asyncio.to_thread(wait_ready, parent, 3)
        await scene.noted("began", INNOCENTS + 1)
        scene.open("boom")
        assert await scene.results(innocents) == ["p"] * INNOCENTS
        with pytest.raises(JobFailed, match="crashed"):
            await poison.result(LIMIT_S)

        for queue, dead in (("default", 1), ("other", 0)):
            found = await counts(scene.app, queue)
            assert (sum(found.ready), found.running, found.scheduled) == (0, 0, 0)
            assert found.dead == dead
        assert await scene.stop(parent) == 0
    runs = scene.lines("began", id=poison.id)
    assert [(line.attempt, line.crashes) for line in runs] == [(1, n) for n in range(CRASHES)]
    _check_innocents(scene, poison.id, runs)


@pytest.mark.long
async def test_one_poison_item_in_a_batch_of_64(scene: Scene) -> None:
    async with scene.app:
        job = scene.job(program.poison_batch)
        calls = [job.bind("poison" if n == 40 else "good") for n in range(64)]
        handles = await scene.app.enqueue_many(calls)
        poison = handles.pop(40)
        parent = await scene.start("p", "--processes", "2", "--concurrency", "64")
        await asyncio.to_thread(wait_ready, parent, 2)
        scene.open("batch")
        assert await scene.results(handles) == [None] * 63
        with pytest.raises(JobFailed, match="crashed"):
            await poison.result(LIMIT_S)
        assert await scene.stop(parent) == 0
    runs = scene.lines("began", id=poison.id)
    assert [line.crashes for line in runs] == list(range(CRASHES))
    # Each call that had it was at the most half as large as the one before, and the last was alone.
    sizes = [_size_of_call(scene, line) for line in runs]
    assert sizes[0] > 1
    assert all(2 * after <= before or after == 1 for before, after in pairwise(sizes)), sizes
    assert sizes[-1] == 1
    assert {line.attempt for line in scene.lines("began")} == {1}


def _size_of_call(scene: Scene, run: Line) -> int:
    """How many items the call had in which the poison item had so many crashes."""
    return len(scene.lines("began", pid=run.pid, crashes=run.crashes)) - len(
        scene.lines("ended", pid=run.pid, crashes=run.crashes)
    )


def _check_innocents(scene: Scene, poison: str, runs: list[Line]) -> None:
    began = [line for line in scene.lines("began") if line.id != poison]
    ended = scene.lines("ended")
    assert {line.attempt for line in began} == {1}
    # Each death blames fewer: all of one worker, then those that ran with it, then it alone.
    crashes = Counter({line.id: line.crashes for line in began})
    for number, together in enumerate(SuspectBounds(SLOTS, CRASHES).by_crashes, start=2):
        assert sum(count >= number for count in crashes.values()) < together
    assert sum(crashes.values()) > 0
    # And they do not wait in single file: suspects run beside each other on each worker.
    again = {line.id: line.at_s for line in began if line.at_s > runs[0].at_s and line.crashes}
    spans = [(again[line.id], line.at_s) for line in ended if line.id in again]
    assert len(spans) >= sum(count > 0 for count in crashes.values())
    assert most_at_once(spans) >= 60
    # Whoever ran as the only suspect did so: no other suspect beside it on its worker.
    last = runs[-1]
    beside = [
        line
        for line in scene.lines("ended", pid=last.pid)
        if line.crashes and line.at_s > last.at_s
    ]
    assert beside == []
