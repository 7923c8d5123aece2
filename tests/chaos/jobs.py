"""The job functions of a chaos run, and how each of their jobs has to end."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any, Final

from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, State, Unique, exponential
from asyncjobs.jobs.function import JobCall
from tests.chaos.ledger import recorded

__all__ = ["ENQUEUE_TRIES_S", "FUNCTIONS", "PREFIX", "QUEUES", "SCHEDULE", "Planned", "app", "plan"]

PREFIX: Final = "chaos"
QUEUES: Final = ("default", "other")
ENQUEUE_TRIES_S: Final = 2.0

# A kill condemns nobody here: that has tests of its own.
app = AsyncJobs(
    prefix=PREFIX,
    max_crashes=10_000,
    result_ttl=3600,
    id_ttl=3600,
    connect_timeout=ENQUEUE_TRIES_S,
)

BACKOFF: Final = exponential(base=0.05, cap=0.5)


class Refused(Exception):
    """What a job is discarded for."""


@app.job
async def nap(seconds: float, *, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx) as run:
        await asyncio.sleep(seconds)
    return run


@app.job(retry=RetryPolicy(max_attempts=5, backoff=BACKOFF))
async def flaky(fails: int, *, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx) as run:
        await asyncio.sleep(0.005)
        if ctx.attempt <= fails:
            raise ValueError("a planted failure")
    return run


@app.job(retry=RetryPolicy(max_attempts=3, backoff=BACKOFF))
async def hopeless(*, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx):
        raise ValueError("a planted failure")


@app.job(discard_on=Refused)
async def refused(*, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx):
        raise Refused


@app.job
def in_thread(seconds: float, *, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx) as run:
        time.sleep(seconds)  # the point of this job: a thread that nobody can stop
    return run


@app.job(unique=Unique(by="key"), retry=RetryPolicy(max_attempts=3, backoff=BACKOFF))
async def alone(key: int, seconds: float, fails: int, *, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx) as run:
        await asyncio.sleep(seconds)
        if ctx.attempt <= fails:
            raise ValueError("a planted failure")
    return run


SCHEDULE: Final = "tick"


@app.every(1, id=SCHEDULE, catch_up="all")
@app.job
async def tick(*, ctx: JobContext = INJECTED) -> str:
    with recorded(ctx) as run:
        await asyncio.sleep(0.01)
    return run


FUNCTIONS: Final = (nap.name, flaky.name, alone.name)
"""Those that an operator pauses."""


@dataclass(frozen=True)
class Planned:
    """A job before it is stored. `budget`: attempts; `ends`: the states it may end in; `key`: its
    unique key, if it wants one."""

    id: str
    queue: str
    call: JobCall[str]
    budget: int
    ends: frozenset[State]
    cancel_after_s: float | None = None
    key: str = ""


def plan(chance: random.Random, number: int) -> Planned:
    """The next job of a run."""
    id, queue = f"job-{number:06}", chance.choice(QUEUES)
    function, args, budget, state = _kind(chance)
    ends, cancel_after_s = {state}, None
    if chance.random() < 0.02:
        ends.add(State.CANCELLED)
        cancel_after_s = chance.uniform(0, 2)
    delay = chance.uniform(0.05, 3) if chance.random() < 0.1 else None
    priority = chance.choice(("critical", "high", "normal", "normal", "low"))
    variant = function.options(id=id, queue=queue, priority=priority, delay=delay)
    key = f"{queue} {args[0]}" if function is alone else ""
    call = variant.bind(*args)
    return Planned(id, queue, call, budget, frozenset(ends), cancel_after_s, key)


def _kind(chance: random.Random) -> tuple[Any, tuple[Any, ...], int, State]:
    """Function, arguments, budget and end of a job."""
    dice = chance.random()
    if dice < 0.05:
        args = (chance.randint(1, 4), round(chance.uniform(0, 0.4), 3), chance.randint(0, 2))
        return alone, args, 3, State.SUCCEEDED
    if dice < 0.62:
        return nap, (round(chance.uniform(0, 0.03), 4),), 3, State.SUCCEEDED
    if dice < 0.65:
        return nap, (round(chance.uniform(1, 4), 3),), 3, State.SUCCEEDED
    if dice < 0.80:
        return flaky, (chance.randint(1, 4),), 5, State.SUCCEEDED
    if dice < 0.84:
        return hopeless, (), 3, State.DEAD
    if dice < 0.88:
        return refused, (), 3, State.DISCARDED
    return in_thread, (round(chance.uniform(0.005, 0.05), 4),), 3, State.SUCCEEDED
