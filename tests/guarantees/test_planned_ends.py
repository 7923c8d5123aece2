"""A worker that was told to end and is then killed: its jobs run again, and none is charged."""

from __future__ import annotations

import signal

import pytest

from tests.guarantees import program
from tests.guarantees.kit import Scene, eventually

pytestmark = pytest.mark.anyio


async def is_told(scene: Scene) -> bool:
    """Whether the store knows that a worker was told to end."""
    fields = scene.command("HKEYS", scene.key("sequence"))
    return any(field.endswith(b":leaves") for field in fields)


@pytest.mark.parametrize("function", [program.held, program.blocking])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_kill_within_the_grace_charges_nobody(
    scene: Scene, function: object, number: signal.Signals
) -> None:
    """As docker, systemd, Kubernetes and the parent of several processes do it."""
    async with scene.app:
        job = scene.job(function)  # type: ignore[arg-type]
        a = await scene.start("a", "--grace", "60s", "--block-warning", "off")
        handle = await job.enqueue("open")
        await scene.noted("began", 1, worker="a")
        # Its own lease would be over within a second; only a beat at once comes in time.
        a.send(number)
        await eventually(lambda: is_told(scene))
        a.process.kill()
        await scene.start("b")
        scene.open("open")
        assert await handle.result(30) == "b"
    (again,) = scene.lines("began", worker="b")
    assert (again.attempt, again.crashes) == (1, 0)


async def test_a_kill_out_of_the_blue_is_a_crash(scene: Scene) -> None:
    async with scene.app:
        a = await scene.start("a", "--grace", "60s")
        (handle,) = await scene.hold(1, "open")
        await scene.noted("began", 1, worker="a")
        a.process.kill()
        await scene.start("b")
        scene.open("open")
        assert await handle.result(30) == "b"
    assert [line.crashes for line in scene.lines("began", worker="b")] == [1]
