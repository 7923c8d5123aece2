"""Jobs that a success stores in other queues: the worker that settles brings them there."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, State
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.store.answers import Relayed
from asyncjobs.worker.duties.relay import LONGEST_S, MORE_S, SHORTEST_S, Relay
from asyncjobs.worker.engine.relays import Relays
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, ended, register, until, working

pytestmark = pytest.mark.anyio


async def child(name: str) -> None:
    jobs.stage.note(name)


async def parent(number: int, *, ctx: JobContext = INJECTED) -> None:
    kids = jobs.stage.again
    assert kids is not None
    await ctx.enqueue_many(
        kids.options(queue=("one", "two")[n % 2]).bind(f"{number}-{n}") for n in range(10)
    )


async def test_children_in_other_queues_run_at_once(app: AsyncJobs, stage: Stage) -> None:
    stage.again = register(app, child)
    job = register(app, parent)
    async with working(app, queues=["default", "one", "two"]):
        await app.enqueue_many(job.bind(number) for number in range(20))
        await until(lambda: len(stage.notes) >= 200)
    assert sorted(stage.notes) == sorted(f"{n}-{k}" for n in range(20) for k in range(10))


async def test_a_worker_that_leaves_brings_them_there(
    app: AsyncJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.again = register(app, child)
    job = register(app, parent)
    monkeypatch.setattr(Relays, "hear", lambda self, queues: None)
    async with app:
        async with working(app):
            handle = await job.enqueue(1)
            await ended(app, handle.id, State.SUCCEEDED)
        async with working(app, queues=["one", "two"]):
            await until(lambda: len(stage.notes) >= 10)
    assert len(stage.notes) == 10


class Plan:
    """A store that answers relays as planned."""

    def __init__(self, *answers: Relayed | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    async def relay(self, queues: list[str], limit: int = 100) -> Relayed:
        self.asked.append(list(queues))
        answer = self.answers.pop(0) if self.answers else Relayed(0)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_it_goes_on_while_something_moves() -> None:
    plan = Plan(Relayed(100, frozenset("a")), Relayed(3), Relayed(0))
    relays = Relays(plan)  # type: ignore[arg-type]
    relays.hear(["b", "a"])
    await until(lambda: len(plan.asked) == 2)
    relays.hear(["c"])
    await until(lambda: len(plan.asked) == 3)
    await relays.close()
    assert plan.asked == [["a", "b"], ["a"], ["c"]]


@pytest.mark.parametrize(
    "answer",
    [
        Relayed(0, frozenset("a"), {"b": StoreError("away")}),
        StoreUnavailable("away"),
        RuntimeError("planned"),
    ],
)
async def test_it_asks_nobody_again_and_again(
    answer: Relayed | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan(answer)
    relays = Relays(plan)  # type: ignore[arg-type]
    relays.hear(["a"])
    task = relays._task
    assert task is not None
    async with asyncio.timeout(LIMIT_S):
        await task
    assert plan.asked == [["a"]]
    failed = [line for line in caplog.records if line.levelno >= logging.ERROR]
    assert len(failed) == isinstance(answer, RuntimeError)
    # The next settlement is a reason to try again.
    relays.hear(["a"])
    await until(lambda: len(plan.asked) == 2)
    await relays.close()
    await relays.close()


SESSION: Any = SimpleNamespace(spec=SimpleNamespace(queues=("a", "b")))


async def test_the_duty_relays_what_is_left() -> None:
    plan = Plan(
        Relayed(100, frozenset("a")),
        Relayed(0, frozenset("a"), {"b": StoreError("planned")}),
        Relayed(0),
    )
    duty = Relay(plan, SESSION)  # type: ignore[arg-type]
    assert await duty.run() == MORE_S
    # Nothing moves: a queue that is away is asked again much later.
    assert SHORTEST_S <= await duty.run() <= LONGEST_S
    assert SHORTEST_S <= await duty.run() <= LONGEST_S
    assert plan.asked == [["a", "b"]] * 3


async def test_the_duty_is_done_at_the_end() -> None:
    plan = Plan(Relayed(100, frozenset("a")), Relayed(1, frozenset("a")), Relayed(1))
    await Relay(plan, SESSION).finish()  # type: ignore[arg-type]
    assert len(plan.asked) == 3
    endless = Plan(*[Relayed(1, frozenset("a"))] * 1000)
    await Relay(endless, SESSION).finish()  # type: ignore[arg-type]
    assert len(endless.asked) == 100
