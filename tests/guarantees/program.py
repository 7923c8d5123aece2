"""The program that the workers of these tests run: jobs that are held, fail, kill and tell.

    asyncjobs worker --factory tests.guarantees.program:both

Each execution is written down in a ledger outside of the store. Everything that a test
decides meanwhile it says through files, which a worker that was stopped finds as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import orjson

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Batch,
    BatchContext,
    Concurrency,
    JobContext,
    RateLimit,
    RetryPolicy,
    constant,
)
from asyncjobs.model.refs import JobRef

RATE = "20/s"
BURST = 5
POLL_S = 0.01
"""How often a worker looks for gates that have opened."""


class PlantedError(Exception):
    """What jobs of these tests fail with."""


def note(word: str, ctx: JobContext) -> None:
    """One line in the ledger; written by one call, so that none is torn."""
    line = {
        "word": word,
        "id": ctx.id,
        "name": ctx.name,
        "attempt": ctx.attempt,
        "crashes": ctx.crashes,
        "worker": worker_name(),
        "pid": os.getpid(),
        "at_s": time.monotonic(),
    }
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, orjson.dumps(line) + b"\n")
    finally:
        os.close(ledger)


def worker_name() -> str:
    return os.environ.get("WORKER", "")


class Gates:
    """Events that are set when a file of their name is there, or one for this worker alone.

    One poller for all that wait: a thousand of them would keep the machine busy.
    """

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._poller: asyncio.Task[None] | None = None

    async def wait(self, name: str) -> None:
        event = self._events.setdefault(name, asyncio.Event())
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        await event.wait()

    async def _poll(self) -> None:
        folder = Path(os.environ["GATES"])
        while shut := [name for name, event in self._events.items() if not event.is_set()]:
            there = set(os.listdir(folder))
            for name in shut:
                if {name, f"{name}@{worker_name()}"} & there:
                    self._events[name].set()
            await asyncio.sleep(POLL_S)


gates = Gates()


async def held(
    gate: str, seconds: float = 0, fails_on: str = "", *, ctx: JobContext = INJECTED
) -> str:
    """Waits at its gate, then returns its worker's name, or fails on this one worker."""
    note("began", ctx)
    try:
        await gates.wait(gate)
        await asyncio.sleep(seconds)
        ctx.progress(1, 1, worker_name())
    except asyncio.CancelledError:
        note("stopped", ctx)
        raise
    note("ended", ctx)
    if fails_on == worker_name():
        raise PlantedError(f"on {fails_on}")
    return worker_name()


async def single(fails: int, *, ctx: JobContext = INJECTED) -> None:
    """Fails as often as it is told. Its spans in the ledger must not meet those of other jobs."""
    note("began", ctx)
    try:
        await asyncio.sleep(0.01)
    finally:
        # Also when it is cancelled, which takes its time in the store after this line.
        note("ended", ctx)
    if ctx.attempt <= fails:
        raise PlantedError("as planned")


async def bounded(key: str, fails: int, *, ctx: JobContext = INJECTED) -> None:
    """As `single`, and two of one key at a time."""
    await single(fails, ctx=ctx)


async def rated(key: str, *, ctx: JobContext = INJECTED) -> None:
    """Notes when the store has let it start, by the clock of the store: a worker that was stopped
    begins later, and then it would meet jobs that have started in another window."""
    (record,) = await ctx_app().backend.get([JobRef(ctx.queue, ctx.id)])
    # One whose lease is lost meanwhile has started, but nobody knows when.
    if record is not None and record.taken_ms is not None:
        note(f"taken {record.taken_ms}", ctx)


CHILDREN = 3
"""How many jobs go into the own queue and into the other one with the success of `causing`."""


async def causing(fails: int, *, ctx: JobContext = INJECTED) -> None:
    """Keeps jobs for its success, and fails as often as it is told."""
    note("began", ctx)
    child = ctx_app().registry.find(f"{caused.__module__}.{caused.__qualname__}")
    assert child is not None
    for number in range(CHILDREN):
        for queue in ("default", "other"):
            await ctx.enqueue(child.options(queue=queue).bind(f"{ctx.id} {queue} {number}"))
        await asyncio.sleep(0.005)
    if ctx.attempt <= fails:
        raise PlantedError("as planned")


async def caused(words: str, *, ctx: JobContext = INJECTED) -> None:
    """Tells whose child it is."""
    note(words, ctx)


async def poison(gate: str, *, ctx: JobContext = INJECTED) -> None:
    """Kills its worker: the first time at its gate, after that at once."""
    note("began", ctx)
    if not ctx.crashes:
        await gates.wait(gate)
    os.kill(os.getpid(), signal.SIGKILL)


async def gathering(number: int, *, ctx: JobContext = INJECTED) -> list[str]:
    """Waits for so many jobs, which it finds again when it runs again."""
    note("began", ctx)
    app = ctx_app()
    child = app.registry.find(f"{held.__module__}.{held.__qualname__}")
    assert child is not None
    made = [
        await child.options(id=f"{ctx.id}:{each}", result_ttl=600).enqueue("children", 0.2)
        for each in range(number)
    ]
    found = await ctx.gather(made)
    note("ended", ctx)
    return [str(each) for each in found]


_apps: list[AsyncJobs] = []


def ctx_app() -> AsyncJobs:
    """The app of this process."""
    return _apps[-1]


async def poison_batch(items: list[str], *, ctx: BatchContext = INJECTED) -> None:
    """Kills its worker if one of the items says so."""
    for item in ctx.items:
        note("began", item)
    await gates.wait("batch")
    if "poison" in items:
        os.kill(os.getpid(), signal.SIGKILL)
    for item in ctx.items:
        note("ended", item)


async def node(layer: int, before: list[int], *, ctx: JobContext = INJECTED) -> int:
    """A node of a flow, which gets the layers of those that it waits for."""
    note("began", ctx)
    if before != [layer - 1] * len(before):
        raise PlantedError(f"layer {layer} has got {before}")
    await asyncio.sleep(0.01)
    note("ended", ctx)
    return layer


async def blocking(gate: str, *, ctx: JobContext = INJECTED) -> str:
    """Blocks the loop of its worker while its gate is shut."""
    note("began", ctx)
    while not (Path(os.environ["GATES"]) / gate).exists():
        time.sleep(POLL_S)
    return worker_name()


async def fresh(*, ctx: JobContext = INJECTED) -> str:
    """A job function that only the newer version of the program has."""
    note("began", ctx)
    return worker_name()


def make(*, knows_fresh: bool, url: str | None = None, prefix: str | None = None) -> AsyncJobs:
    """The app, by default on the store that the environment names."""
    app = AsyncJobs(url, prefix=prefix or os.environ["PREFIX"], connect_timeout=10)
    app.job(retry=RetryPolicy(max_attempts=3, backoff=constant(0)))(held)
    app.job(retry=RetryPolicy(max_attempts=3, backoff=constant(0.01)))(single)
    app.job(
        retry=RetryPolicy(max_attempts=3, backoff=constant(0.01)),
        limits=[Concurrency(2, by="key"), Concurrency(4, name="all")],
    )(bounded)
    app.job(retry=False, limits=RateLimit(RATE, burst=BURST, by="key"))(rated)
    _apps.append(app)
    app.job(retry=RetryPolicy(max_attempts=3, backoff=constant(0.01)))(causing)
    app.job(retry=False)(caused)
    app.job(retry=False)(poison)
    app.job(retry=False)(gathering)
    app.job(retry=False)(node)
    app.job(retry=False)(blocking)
    app.job(retry=False, batch=Batch(size=64, window=0.2))(poison_batch)
    if knows_fresh:
        app.job(fresh)
    return app


def older() -> AsyncJobs:
    """The program before `fresh` was written."""
    return make(knows_fresh=False)


def both() -> AsyncJobs:
    """The program of today."""
    return make(knows_fresh=True)
