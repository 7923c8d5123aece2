"""AsyncJobs: the registry, the store and the client of one application."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from asyncjobs.backends import make_backend, store_url
from asyncjobs.backends.base import Backend, Placed, StoreInfo
from asyncjobs.client import Client
from asyncjobs.errors import ConfigError, UsageError
from asyncjobs.events import Event, Events, Listener, listening
from asyncjobs.function import JobCall, JobFunction
from asyncjobs.handle import JobHandle
from asyncjobs.job import JobRef, NewJob
from asyncjobs.opening import BackgroundOpening, Opening, running_loop, unless_ending, why_not_open
from asyncjobs.options.app import AppOptions, AppSettings
from asyncjobs.options.checks import DEFAULT_QUEUE, check_job_id, check_queue_name
from asyncjobs.options.table import FunctionOptions
from asyncjobs.readings import check_job_name, read_job_name
from asyncjobs.registry import JobRegistry, Register
from asyncjobs.telemetry.telemetry import Telemetry
from asyncjobs.texts import shown

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["AsyncJobs"]

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Event)
T = TypeVar("T")

ENCODE_STEP = 1_000
"""Jobs encoded in one go; then the loop has its turn."""


class AsyncJobs:
    """An application's jobs: what may run, and where jobs are stored.

    `async with app` opens the store; it may be entered any number of times on one event
    loop and closes with the last exit. Owns the connections while it is open; owns no
    worker. Its settings, times in seconds or as timedelta and sizes in bytes:

    `url` is the store's, by default $ASYNCJOBS_URL at the time of opening, else the
    embedded store when that extra is installed. `prefix` starts all keys in the store.
    `result_ttl`: how long results are kept, 0 = not at all. `id_ttl`: how long a finished
    id stays known. `connect_timeout`: how long an enqueue tries. `unknown_ttl`: how long
    jobs wait for a worker that knows their function. `max_crashes`: how many workers a job
    may take down. `timeout` and `retry` hold for job functions that do not say.
    `dead_max_age`, `dead_max_count`, `dead_max_bytes` bound what is kept of dead jobs.
    `wait_replicas`: how many replicas of the store have to hold a job before its enqueue
    returns. `redact`: names, or patterns with `*`, of arguments and keys whose values are
    never shown.
    `meter_provider`, `tracer_provider`: of OpenTelemetry; by default the process's own, if
    they are set up when the app opens. `tracing`: where the trace of an attempt begins.
    `propagate_baggage`: what of it travels with jobs. `trace_upkeep`: spans of reclaims
    and of due jobs that were made ready.
    """

    _opening: Opening | None = None
    _background: BackgroundOpening | None = None

    def __init__(
        self,
        url: str | None = None,
        *,
        backend: Backend | None = None,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        **settings: Unpack[AppOptions],
    ) -> None:
        """Connects to nothing yet. Raises ConfigError naming the setting."""
        if url is not None and backend is not None:
            raise ConfigError("give AsyncJobs a url or a backend, not both")
        self.settings = AppSettings.of(**settings)
        self.registry = JobRegistry()
        self.registry.bind(self, self.settings)
        self.events = Events()
        self._url = url
        self._backend = backend
        self._telemetry = Telemetry(tracer_provider, meter_provider)
        self._locks: dict[int, threading.Lock] = {}

    # ── job functions ────────────────────────────────────────────────────────────────

    @overload
    def job(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...
    @overload
    def job(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...
    @overload
    def job(self, function: None = None, /, **options: Unpack[FunctionOptions]) -> Register: ...
    def job(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function: `@app.job` or `@app.job(queue="mail", timeout=30)`.

        Options and errors are those of `JobRegistry.job`.
        """
        if function is None:
            return self.registry.job(**options)
        return self.registry.job(function, **options)

    def include(self, registry: JobRegistry) -> None:
        """Take over the job functions of `registry`. Raises RegistrationError."""
        self.registry.include(registry)

    @property
    def local_queues(self) -> tuple[str, ...]:
        """The queues that the job functions name, and `default`; sorted."""
        return tuple(sorted(self.registry.queues() | {DEFAULT_QUEUE}))

    # ── jobs ─────────────────────────────────────────────────────────────────────────

    async def enqueue_many(self, calls: Iterable[JobCall[R]]) -> list[JobHandle[R]]:
        """Store many jobs, a batch a trip; handles in the order of the calls.

        Everything is checked and encoded before anything is stored. Raises like
        `JobFunction.enqueue`, StoreFull only when none of the jobs is stored; with another
        failure of the store some of them may be.
        """
        client = self.client
        wanted: list[JobCall[R]] = []
        for call in calls:
            self._check_call(call)
            wanted.append(call)
            if len(wanted) % ENCODE_STEP == 0:
                await asyncio.sleep(0)
        functions = [call.function for call in wanted]
        jobs: list[NewJob] = []
        # Taken off the end, the first one first: encoded, a call is not needed any more, and
        # a million of them need as much memory as their jobs.
        wanted.reverse()
        with self._telemetry.enqueue(functions) as makers:
            for maker in makers:
                call = wanted.pop()
                jobs.append(maker.new_job(call.args, call.kwargs))
                if len(jobs) % ENCODE_STEP == 0:
                    await asyncio.sleep(0)
            answers = await client.enqueue_many(jobs, [function.name for function in functions])
        return [
            self._handle_of(function, job, place)
            for function, job, place in zip(functions, jobs, answers, strict=True)
        ]

    def _check_call(self, call: Any) -> None:
        if not isinstance(call, JobCall):
            raise UsageError(f"enqueue_many() takes calls, not {shown(call)}; write f.bind(...)")
        owner = call.function.sender
        if owner is not self:
            raise UsageError(
                f"{call.function.name} belongs to another AsyncJobs; enqueue it through that one"
            )

    def handle(self, id: str, queue: str | None = None) -> JobHandle[Any]:
        """The handle of any job; `id` may be written `queue/id`.

        Without a queue, the first question looks for the job in all queues that this
        app knows, in one trip. An id may contain a slash: of several jobs that `id` may
        stand for, the one with this public id is found. Raises ConfigError for what is no
        job id or queue.
        """
        if queue is not None:
            return JobHandle(self, (JobRef(check_queue_name(queue), check_job_id(id)),))
        check_job_name(id)
        opening = self._opening
        used = opening.client.queues if opening and opening.client else ()
        known = sorted({*self.local_queues, *used})
        readings = read_job_name(id, known)
        # A queue that is known here: the text is taken at its word, until the store says else.
        is_clear = readings.is_written and readings.refs[0].queue in known
        candidates = readings.refs[:1] if is_clear else readings.refs
        return JobHandle(self, candidates, readings=readings)

    @overload
    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]: ...
    @overload
    def on(self, kind: type[E]) -> Callable[[Listener[E]], Listener[E]]: ...
    def on(self, kind: type[E], listener: Listener[E] | None = None) -> Any:
        """Call `listener` for each event of this kind; returns what removes it again.

        Without a listener it is a decorator: `@app.on(JobDead)`. A listener is a plain
        function: raises UsageError for an async one, which would never run, and for what is
        no class of event.
        """
        return listening(self.events, kind) if listener is None else self.events.on(kind, listener)

    # ── opening and closing ──────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Open the store, or join those who have it open on this loop.

        Raises ConfigError for a URL or a store that cannot work, StoreUnavailable,
        UnsupportedLayout, and UsageError on another loop than the open one, in a forked
        child of the process that opened it, and under another library than asyncio.
        """
        opening = self._opening_here()
        while not await opening.enter():
            opening = self._opening_here()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opening is not None:
            await self._opening.leave()

    @property
    def client(self) -> Client:
        """The open client of the running loop. Raises NotOpen."""
        opening = self._opening
        if opening is not None and opening.client is not None and opening.loop is running_loop():
            return opening.client
        raise why_not_open(self._opening)

    @property
    def backend(self) -> Backend:
        """The open store. Raises NotOpen."""
        opening = self._opening
        if opening is None or opening.client is None:
            raise why_not_open(self._opening)
        return opening.backend

    @property
    def store_info(self) -> StoreInfo:
        """The server behind the open store. Raises NotOpen."""
        opening = self._opening
        if opening is None or opening.info is None:
            raise why_not_open(self._opening)
        return opening.info

    def _opening_here(self) -> Opening:
        """The opening to enter: the one that is there, or a new one."""
        loop = running_loop()
        if loop is None:
            raise UsageError(
                "asyncjobs runs on asyncio, and no asyncio event loop runs here (is this Trio?); "
                "use asyncio.run() or anyio.run(..., backend='asyncio')"
            )
        self._telemetry.start(self.settings, self.events, self.registry.find, self._address)
        opening = self._opening
        # A loop that ended without leaving has taken its connections with it.
        if opening is None or opening.is_over or opening.loop.is_closed():
            opening = self._opening = Opening(loop, self._new_backend, self.settings, self.events)
        elif opening.pid != os.getpid() or opening.loop is not loop:
            raise why_not_open(self._opening)
        return opening

    def _address(self) -> str:
        opening = self._opening
        return "" if opening is None or opening.info is None else opening.info.address

    def _new_backend(self) -> Backend:
        if self._backend is not None:
            return self._backend
        return make_backend(store_url(self._url), self.settings.store())

    # ── what job functions and handles ask (Sender, Reader) ──────────────────────────

    async def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job; behind `JobFunction.enqueue`."""
        client = self.client
        tracing = self._telemetry.tracing
        if tracing is None:
            job = function.new_job(args, kwargs)
            place = await client.enqueue(job, function.name)
        else:
            with tracing.enqueue((function,)) as (maker,):
                job = maker.new_job(args, kwargs)
                place = await client.enqueue(job, function.name)
        return self._handle_of(function, job, place)

    def send_sync(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job from a thread; behind `JobFunction.enqueue_sync`."""
        if running_loop() is not None:
            raise UsageError(
                f"{function.name}: enqueue_sync() would block the event loop that runs here; "
                "write await f.enqueue(...)"
            )
        way = self._way_from_thread()
        with self._telemetry.enqueue((function,)) as (maker,):
            job = maker.new_job(args, kwargs)
            place = way.call_from_thread(lambda c: c.enqueue(job, function.name), function.name)
        return self._handle_of(function, job, place)

    def _handle_of(
        self, function: JobFunction[..., Any], job: NewJob, place: Placed | None
    ) -> JobHandle[Any]:
        """The handle of a job that was enqueued, or of the one that stands in its place."""
        if place is None:
            return function.template.handle(self, job.id, is_new=True)
        return function.template.handle(self, place.ref.id, is_new=False)

    def ask_from_thread(
        self, question: Callable[[Backend], Coroutine[Any, Any, T]], what: str
    ) -> T:
        """Ask the store from a thread; behind `JobHandle.result_sync`."""
        if running_loop() is not None:
            raise UsageError(
                f"{what} would block the event loop that runs here; "
                f"write await handle.{what.replace('_sync', '')}"
            )
        return self._way_from_thread().call_from_thread(lambda c: question(c.backend), what)

    def _way_from_thread(self) -> Opening | BackgroundOpening:
        """The app where it is open in this process, else a connection in the background."""
        opening = self._opening
        if opening is not None and opening.serves_threads():
            return opening
        return self._background_opening()

    def _background_opening(self) -> BackgroundOpening:
        # One lock a process: one that is held while another thread forks stays shut.
        with unless_ending(), self._locks.setdefault(os.getpid(), threading.Lock()):
            background = self._background
            if background is None or not background.is_usable():
                backend = self._new_backend()
                if not backend.capabilities.shared:
                    raise why_not_open(self._opening)
                if backend is self._backend:
                    backend = backend.for_thread()
                self._telemetry.start(self.settings, self.events, self.registry.find, self._address)
                background = BackgroundOpening(backend, self.settings, self.events)
                self._background = background
            return background

    def opened(self) -> Backend:
        """The open store, for the running loop only. Raises NotOpen."""
        return self.client.backend

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        """How long such a job's outcome is kept; 0 = not at all."""
        ttl_ms = (options or {}).get("result_ttl")
        if ttl_ms is not None:
            return int(ttl_ms)
        function = None if name is None else self.registry.find(name)
        holder = self.settings if function is None else function.settings
        return holder.result_ttl_ms

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        """The most attempts that such a job has; None when its function is not known here."""
        attempts = (options or {}).get("max_attempts")
        function = self.registry.find(name)
        if attempts is None and function is not None:
            attempts = function.settings.retry.max_attempts
        return attempts

    def __repr__(self) -> str:
        is_open = self._opening is not None and self._opening.client is not None
        state = "open" if is_open else "closed"
        return f"<AsyncJobs {state}, {len(self.registry.functions())} job functions>"
