"""Parents that wait for their children, on workers that are killed."""

from __future__ import annotations

import os
import signal

import pytest

from tests.guarantees import program
from tests.guarantees.kit import Scene

pytestmark = [pytest.mark.anyio, pytest.mark.long]

CHILDREN = 20


async def test_a_parent_finds_its_children_after_a_kill(scene: Scene) -> None:
    async with scene.app:
        parent = await scene.job(program.gathering).enqueue(CHILDREN)
        first = await scene.start("first", "--concurrency", "1")
        # The slot of the parent is that of its first child now.
        (began,) = await scene.noted("began", 1, id=f"{parent.id}:0")
        second = await scene.start("second", "--concurrency", "2")
        os.kill(began.pid, signal.SIGKILL)
        scene.open("children")
        assert sorted(await parent.result(60)) == ["second"] * CHILDREN
        assert await scene.stop(second) == 0
        first.end()
    runs = scene.lines("began", id=parent.id)
    assert [(line.worker, line.attempt, line.crashes) for line in runs] == [
        ("first", 1, 0),
        ("second", 1, 1),
    ]
    # Each child has succeeded once; only what ran when the worker was killed has run twice.
    ended = [line.id for line in scene.lines("ended") if line.id != parent.id]
    assert sorted(ended) == sorted(f"{parent.id}:{each}" for each in range(CHILDREN))
