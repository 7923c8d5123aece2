"""The loop of the simulation: time, order, processes that crash and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from tests.simulation.loop import Process, SimLoop, Stuck

LIMIT_S = 100.0


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(Random(0))
    yield loop
    loop.bury()


def live(loop: SimLoop, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop.run_until(loop.spawn(loop.outside, body()), LIMIT_S)


def test_time_jumps_to_the_next_timer(loop: SimLoop) -> None:
    seen: list[float] = []

    async def body() -> None:
        start_s = loop.time()
        await asyncio.sleep(30)
        seen.append(loop.time() - start_s)

    live(loop, body)
    assert 30 <= seen[0] < 30.01


def test_a_crashed_process_runs_no_finally_block(loop: SimLoop) -> None:
    process, ends = Process("one", 1), list[str]()

    async def doomed() -> None:
        try:
            await asyncio.sleep(2)
        finally:
            ends.append("finally")

    async def body() -> None:
        _ = loop.spawn(process, doomed())
        await asyncio.sleep(1)
        loop.kill(process)
        await asyncio.sleep(10)

    live(loop, body)
    assert ends == []
    assert loop.leftovers() == []


def test_a_paused_process_goes_on_where_it_was(loop: SimLoop) -> None:
    process, ends = Process("one", 1), list[float]()
    start_s = loop.time()

    async def sleeper() -> None:
        await asyncio.sleep(2)
        ends.append(loop.time() - start_s)

    async def body() -> None:
        task = loop.spawn(process, sleeper())
        await asyncio.sleep(1)
        loop.pause(process)
        await asyncio.sleep(10)
        assert ends == []
        loop.go_on(process)
        await task

    live(loop, body)
    assert 11 <= ends[0] < 11.01


def test_children_belong_to_the_process_of_their_parent(loop: SimLoop) -> None:
    process, ends = Process("one", 1), list[str]()

    async def child() -> None:
        await asyncio.sleep(2)
        ends.append("child")

    async def parent() -> None:
        _ = loop.create_task(child())
        loop.call_later(2, ends.append, "timer")

    async def body() -> None:
        await loop.spawn(process, parent())
        loop.kill(process)
        await asyncio.sleep(10)

    live(loop, body)
    assert ends == []


def test_the_seed_decides_the_order() -> None:
    orders = set()
    for seed in range(20):
        loop, order = SimLoop(Random(seed)), list[int]()

        async def body(loop: SimLoop = loop, order: list[int] = order) -> None:
            for number in range(4):
                loop.call_soon(order.append, number)
            await asyncio.sleep(1)

        live(loop, body)
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(tuple(order))
        loop.bury()
    assert len(orders) > 5


def test_a_fuse_strikes_before_a_step(loop: SimLoop) -> None:
    process, steps = Process("one", 1), list[int]()
    process.fuse = 4
    loop.on_fuse = loop.kill

    async def stepper() -> None:
        for number in range(10):
            steps.append(number)
            await asyncio.sleep(0)

    async def body() -> None:
        _ = loop.spawn(process, stepper())
        await asyncio.sleep(1)

    live(loop, body)
    assert steps == [0, 1, 2]


def test_what_nobody_waits_for_is_told(loop: SimLoop) -> None:
    async def failing() -> None:
        raise ValueError("unseen")

    async def lasting() -> None:
        await asyncio.sleep(1000)

    async def body() -> None:
        _ = loop.create_task(failing(), name="failing")
        _ = loop.create_task(lasting(), name="lasting")
        await asyncio.sleep(1)

    live(loop, body)
    assert len(loop.leftovers()) == 2


def test_it_says_when_nothing_can_happen_any_more(loop: SimLoop) -> None:
    async def waits_for_ever() -> None:
        await loop.create_future()

    async def waits_long() -> None:
        await asyncio.sleep(2 * LIMIT_S)

    with pytest.raises(Stuck, match="nothing is scheduled"):
        live(loop, waits_for_ever)
    with pytest.raises(Stuck, match="time is over"):
        live(loop, waits_long)
