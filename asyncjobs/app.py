"""AsyncJobs: the registry, the store and the client of one application."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from asyncjobs.client import Client
from asyncjobs.client.opening import Openings
from asyncjobs.client.outbox import Outbox
from asyncjobs.errors import ConfigError
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.readings import check_job_name, read_job_name
from asyncjobs.jobs.registry import JobRegistry, Register
from asyncjobs.model.events import Event, Events, Listener, listening
from asyncjobs.model.job import JobRef
from asyncjobs.options.app import AppOptions, AppSettings
from asyncjobs.options.checks import DEFAULT_QUEUE, check_job_id, check_queue_name
from asyncjobs.options.table import FunctionOptions
from asyncjobs.store.checks import check_needs
from asyncjobs.store.seam import Backend, StoreInfo
from asyncjobs.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["AsyncJobs"]

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Event)
T = TypeVar("T")


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
        self.events = Events()
        self.middlewares = Middlewares()
        self._telemetry = Telemetry(tracer_provider, meter_provider)
        self._openings = Openings(
            self.settings, self.events, url, backend, self._watch, self._check_store
        )
        self._outbox = Outbox(self, self._openings, self._telemetry)
        self.registry.bind(self._outbox, self.settings)

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
        return await self._outbox.send_many(calls)

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
        known = sorted({*self.local_queues, *self._openings.queues})
        readings = read_job_name(id, known)
        candidates = readings.refs
        if readings.is_written and readings.refs[0].queue in known:
            # The queue is known here: the text is taken at its word, until the store says else.
            candidates = readings.refs[:1]
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
        if listener is None:
            return listening(self.events, kind)
        return self.events.on(kind, listener)

    # ── opening and closing ──────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Open the store, or join those who have it open on this loop.

        Raises ConfigError for a URL or a store that cannot work, StoreUnavailable,
        UnsupportedLayout, and UsageError on another loop than the open one, in a forked
        child of the process that opened it, and under another library than asyncio.
        """
        await self._openings.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._openings.leave()

    @property
    def client(self) -> Client:
        """The open client of the running loop. Raises NotOpen."""
        return self._openings.client

    @property
    def backend(self) -> Backend:
        """The open store. Raises NotOpen."""
        return self._openings.backend

    @property
    def store_info(self) -> StoreInfo:
        """The server behind the open store. Raises NotOpen."""
        return self._openings.info

    def _watch(self) -> None:
        """Trace and measure, if there is by now who wants it."""
        openings = self._openings
        find = self.registry.find
        self._telemetry.start(
            self.settings, self.events, self.middlewares, find, lambda: openings.address
        )

    def _check_store(self, backend: Backend) -> None:
        """Raises MissingCapability for a store that cannot keep what a job function needs."""
        for function in self.registry.functions():
            check_needs(function.name, function.needs, backend)

    # ── what handles ask (Reader) ────────────────────────────────────────────────────

    def ask_from_thread(
        self, question: Callable[[Backend], Coroutine[Any, Any, T]], what: str
    ) -> T:
        """Ask the store from a thread; behind `JobHandle.result_sync`."""
        way = self._openings.from_thread(
            f"{what} would block the event loop that runs here; "
            f"write await handle.{what.replace('_sync', '')}"
        )
        return way.call_from_thread(lambda client: question(client.backend), what)

    def opened(self) -> Backend:
        """The open store, for the running loop only. Raises NotOpen."""
        return self.client.backend

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        """How long such a job's outcome is kept; 0 = not at all."""
        ttl_ms = (options or {}).get("result_ttl")
        if ttl_ms is not None:
            return int(ttl_ms)
        function = self.registry.find(name) if name is not None else None
        if function is None:
            return self.settings.result_ttl_ms
        return function.settings.result_ttl_ms

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        """The most attempts that such a job has; None when its function is not known here."""
        attempts = (options or {}).get("max_attempts")
        function = self.registry.find(name)
        if attempts is None and function is not None:
            attempts = function.settings.retry.max_attempts
        return attempts

    def __repr__(self) -> str:
        state = "open" if self._openings.is_open else "closed"
        return f"<AsyncJobs {state}, {len(self.registry.functions())} job functions>"
