"""What tests of the worker are written with: a stage for jobs, and waiting for facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import pytest

from asyncjobs import AsyncJobs, JobFunction, State, Worker
from asyncjobs.events import Event
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.lease.heartbeat import Heartbeats

LIMIT_S = 10.0
"""How long a test waits for what must happen; reached only when it fails."""

E = TypeVar("E", bound=Event)


class NewApp(Protocol):
    """Makes apps on the store of this test, all with one key prefix."""

    def __call__(self, **settings: Any) -> AsyncJobs: ...


class Stage:
    """Where the jobs of one test write down what they do, and the gates they wait at."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.again: JobFunction[..., Any] | None = None
        """What a job enqueues itself."""
        self._gates: dict[str, asyncio.Event] = {}

    def note(self, what: Any) -> None:
        """From a coroutine or a thread."""
        self.notes.append(what)

    def gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.gate(name).set()

    def open_all(self) -> None:
        self.open(*self._gates)

    def count(self, what: Any) -> int:
        return self.notes.count(what)

    async def noted(self, what: Any, times: int = 1) -> None:
        """Wait until a job has written this."""
        await until(lambda: self.count(what) >= times)


class Mute:
    """Keeps the workers of the test from renewing, until told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        renew = Heartbeats._renew

        async def renew_unless_mute(beats: Heartbeats, backend: object) -> bool:
            return False if self.on else await renew(beats, backend)  # type: ignore[arg-type]

        monkeypatch.setattr(Heartbeats, "_renew", renew_unless_mute)


async def until(check: Callable[[], bool]) -> None:
    """Wait until a fact holds in this process."""
    with anyio.fail_after(LIMIT_S):
        while not check():
            await anyio.sleep(0.005)


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a fact holds in the store."""
    with anyio.fail_after(LIMIT_S):
        while not await check():
            await anyio.sleep(0.01)


async def counts(app: AsyncJobs, queue: str = "default") -> QueueCounts:
    (found,) = await app.backend.inspect.queues.counts([queue])
    return found


async def is_settled(app: AsyncJobs, queue: str = "default") -> bool:
    """True when nothing is queued or running."""
    found = await counts(app, queue)
    return not (sum(found.ready) or found.running or found.scheduled)


async def ended(app: AsyncJobs, id: str, state: State, queue: str = "default") -> None:
    """Wait until the job is in this state."""

    async def check() -> bool:
        return await app.handle(id, queue).status() is state

    await eventually(check)


def events_of(app: AsyncJobs, kind: type[E]) -> list[E]:
    """A list that fills with the events of this kind."""
    found: list[E] = []
    app.on(kind, found.append)
    return found


def register(app: AsyncJobs, function: Callable[..., Any], **options: Any) -> JobFunction[..., Any]:
    """`function` as a job function of this app, under its own name."""
    options.setdefault("name", function.__name__)
    job: JobFunction[..., Any] = app.job(**options)(function)
    return job


async def listens(app: AsyncJobs, queue: str = "default", number: int = 1) -> None:
    """Wait until so many workers hear at once of cancels in this queue."""

    async def check() -> bool:
        backend = app.backend
        if isinstance(backend, MemoryBackend):
            return len(backend._queues.control._inboxes) >= number
        assert isinstance(backend, RedisBackend)
        channel = backend._keys.queue(queue).control
        _, listeners = await backend._link.call(b"PUBSUB", b"NUMSUB", channel)
        return int(listeners) >= number

    await eventually(check)


def processor_of(worker: Worker) -> Processor:
    """The processor of a worker that is in its queues."""
    shift = worker._shift
    assert shift is not None
    return shift.processor


@asynccontextmanager
async def working(app: AsyncJobs, **options: Any) -> AsyncIterator[Worker]:
    """The app, open, with a worker beside the test."""
    # A test that fails leaves jobs at their gates: its end shall not wait for them.
    options.setdefault("grace", 2)
    async with app, Worker(app, **options) as worker:
        yield worker


async def store_raw(
    app: AsyncJobs, envelope: bytes, *, id: str | None = None, queue: str = "default"
) -> str:
    """Store a job with these very bytes; its id."""
    job = NewJob(queue, id or new_id(), 2, envelope)
    await app.backend.enqueue(EnqueueBatch(new_id(), [job]))
    return job.id
