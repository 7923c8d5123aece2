"""AsyncJobs: the registry, the store and the client of one application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload

from asyncjobs.client import Client
from asyncjobs.client.deferred import Deferred
from asyncjobs.client.events import EventSender
from asyncjobs.client.flows import Flows
from asyncjobs.client.limits import Limits
from asyncjobs.client.needs import check_store
from asyncjobs.client.opening import Openings
from asyncjobs.client.passage import Passage, PassageOptions
from asyncjobs.client.queues import Queues
from asyncjobs.client.schedules import Schedules
from asyncjobs.client.sender import Sender
from asyncjobs.client.workers import Workers
from asyncjobs.errors import ConfigError
from asyncjobs.jobs.foreign import Missing
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.hooks import Hooked
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.opened import Opened
from asyncjobs.jobs.overview import Jobs
from asyncjobs.jobs.past import History
from asyncjobs.jobs.readings import check_job_name, read_job_name
from asyncjobs.jobs.register import Register, RegisterBatch
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.rule import CronOptions, Interval, ScheduleOptions
from asyncjobs.model.events import Event, Events, Listener, listening
from asyncjobs.model.job import JobRecord
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppOptions, AppSettings
from asyncjobs.options.batch import Batch
from asyncjobs.options.carried import new_variable
from asyncjobs.options.checks import check_job_id, check_queue_name
from asyncjobs.options.given import Given
from asyncjobs.options.table import FunctionOptions
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
F = TypeVar("F", bound=Callable[..., Any])


# size: a third of it says what each setting means, where users look for that
class AsyncJobs(Hooked):
    """The job functions of one application, and the store that keeps their jobs.

    `async with app` opens the store. It may be entered any number of times on one event loop, and
    the last exit closes the store. It runs no jobs: a `Worker` does. Times are seconds or
    timedelta, sizes are bytes. docs/reference/settings.md has all defaults.

    url: the store. By default $ASYNCJOBS_URL when the app opens, else the embedded store if that
    extra is installed.
    backend: a store that you have made yourself, instead of `url`.
    meter_provider: of OpenTelemetry. By default the process's own, if it is set up when the app
    opens.
    tracer_provider: the same for traces.
    prefix: the start of all keys in the store.
    result_ttl: how long results are kept; 0 keeps none.
    max_payload: the largest size of an encoded job.
    max_result: the largest size of an encoded result.
    id_ttl: how long the id of a finished job stays known.
    connect_timeout: how long an enqueue tries to reach the store.
    unknown_ttl: how long a job waits for a worker that knows its function.
    max_crashes: how many workers may die while they run a job, before the job is dead.
    timeout: time-out of an attempt, for job functions without their own; None means no limit.
    retry: a RetryPolicy or a list of them, for job functions without their own.
    dead_max_age: how long a dead job is kept.
    dead_max_count: how many dead jobs each queue keeps.
    dead_max_bytes: how many bytes of dead jobs each queue keeps.
    history: how many jobs that have ended the history of each queue lists; 0 keeps no history.
    event_ttl: how long an event is kept for jobs that do not wait for it yet.
    wait_replicas: how many replicas of the store must have a job before its enqueue returns.
    tracing: where the trace of an attempt begins: `link`, `child`, `auto` or `none`.
    propagate_baggage: which baggage travels with jobs: `all`, `none` or a list of keys.
    trace_upkeep: also trace reclaims, and due jobs that became ready.
    redact: names of arguments and keys, or patterns with `*`, whose values are never shown.
    queue_prefix: the start of the queues of all job functions, such as `staging-`.

    Raises ConfigError naming the setting, and TypeError for an unknown name.
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
        """Does not connect yet. Raises ConfigError and TypeError, as the class says."""
        if url is not None and backend is not None:
            raise ConfigError("give AsyncJobs a url or a backend, not both")
        self.settings = AppSettings.of(**settings)
        self.registry = JobRegistry()
        self.events = Events()
        self.middlewares = Middlewares()
        self.hooks = self.registry.hooks
        self._telemetry = Telemetry(tracer_provider, meter_provider)
        self._openings = Openings(
            self.settings, self.events, url, backend, self._watch, self._check_store
        )
        self.jobs = Jobs(self, self.registry, self.settings.max_payload)
        self._sender = Sender(self, self._openings, self._telemetry)
        self.flows = Flows(self._sender)
        self.batch = self.flows.batch
        self.history = History(self.opened)
        self.queues = Queues(self.opened, self.settings, self.events)
        self.workers = Workers(self.opened)
        self.limits = Limits(self.opened, self.registry, self.settings)
        self._event_sender = EventSender(self._openings, self._known_queues, self.settings)
        # From here on, job functions know where their jobs go, and which settings hold for them.
        self.registry.bind(self._sender, self.settings)
        self.hooks.on_change = self._compile_anew
        self.schedules = Schedules(self, self.registry)

    # ── job functions ────────────────────────────────────────────────────────────────

    @overload
    def job(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...
    @overload
    def job(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...
    @overload
    def job(
        self, function: None = None, /, *, batch: Batch, **options: Unpack[FunctionOptions]
    ) -> RegisterBatch: ...
    @overload
    def job(self, function: None = None, /, **options: Unpack[FunctionOptions]) -> Register: ...
    def job(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function as a job function: `@app.job`, or `@app.job(queue="mail")`.

        The options and the errors are those of `JobRegistry.job`.
        """
        if function is None:
            return self.registry.job(**options)
        return self.registry.job(function, **options)

    def cron(self, expression: str, **options: Unpack[CronOptions]) -> Callable[[F], F]:
        """Make jobs at set times: `@app.cron("30 2 * * *", tz="Europe/Berlin")`. See
        `JobRegistry.cron` for options and errors."""
        return self.registry.cron(expression, **options)

    def every(self, interval: Interval, **options: Unpack[ScheduleOptions]) -> Callable[[F], F]:
        """Make jobs again and again: `@app.every("90s")`. See `JobRegistry.every`."""
        return self.registry.every(interval, **options)

    # ── what job functions depend on ─────────────────────────────────────────────────

    def lifespan(self, function: F) -> F:
        """Open what this function makes when a worker starts, and close it after its last job:
        `@app.lifespan`. See `JobRegistry.lifespan`."""
        return self.registry.lifespan(function)

    def override(
        self, function: Callable[..., Any], replacement: Callable[..., Any]
    ) -> AbstractContextManager[None]:
        """Let `replacement` make what `function` makes: `with app.override(get_db, get_fake):`.

        For tests. It holds for all that depend on `function` in this app, in all tasks and threads,
        from the next attempt on until the block ends. What a worker has opened stays open.

        Raises RegistrationError for a replacement that nothing can be made with.
        """
        return self.registry.resources.override(function, replacement)

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        """Open the lifespans without a worker, for plain calls of job functions:
        `async with app.resources():`.

        They close at the end of the block. Without it, a plain call opens what it needs, and closes
        that at once. Raises ResourceError for a lifespan that cannot be opened.
        """
        async with Opened.of(self.registry.resources) as opened:
            await opened.open_lifespans()
            with opened.everywhere():
                yield

    def serializer(
        self, kind: type[T], /, *, dump: Callable[[T], Any], load: Callable[[Any], T]
    ) -> None:
        """Say how values of a class are stored. See `JobRegistry.serializer`."""
        self.registry.serializer(kind, dump=dump, load=load)

    def loader(
        self,
        model: type[T],
        /,
        *,
        load: Callable[[Any], Coroutine[Any, Any, T | None]],
        id: Callable[[T], Any],
        missing: Missing = "discard",
    ) -> None:
        """Say how rows of a model are loaded for a `Ref[Model]`. See `JobRegistry.loader`."""
        self.registry.loader(model, load=load, id=id, missing=missing)

    def include(self, registry: JobRegistry) -> None:
        """Add the job functions of `registry`, including those that it gets later.

        Raises RegistrationError if a name is taken, or if `registry` belongs to another app or
        registry.
        """
        self.registry.include(registry)

    def carry(
        self,
        variable: ContextVar[T],
        *,
        name: str | None = None,
        dump: Callable[[T], Any] | None = None,
        load: Callable[[Any], T] | None = None,
    ) -> None:
        """Let a context variable travel with jobs, such as a locale, a time zone or a tenant.

        The value that it has at an enqueue is stored with the job, and each attempt has it again.
        A variable that is not set there has its default in the attempt.

        name: under which it is stored; by default the variable's own name.
        dump: makes JSON of a value that is none.
        load: makes the value again. What it raises fails the attempt.

        An enqueue raises EncodeError for a value that JSON does not have, and if all variables of
        a job take more than 4,096 bytes. Raises RegistrationError for a name that is taken, and
        ConfigError for one that cannot be stored.
        """
        known = self.settings.carried
        new = new_variable(variable, name, dump, load, known)
        self.settings = replace(self.settings, carried=(*known, new))
        self._compile_anew()

    @property
    def local_queues(self) -> tuple[str, ...]:
        """The queues of the job functions, and `default`, in alphabetical order."""
        return tuple(sorted(self.registry.queues() | {self.settings.default_queue}))

    # ── jobs ─────────────────────────────────────────────────────────────────────────

    async def enqueue_many(self, calls: Iterable[JobCall[R]]) -> list[JobHandle[R]]:
        """Store many jobs, and return their handles in the order of the calls.

        `calls` are made by `f.bind(...)`. The jobs travel in batches of up to 1,000 jobs or
        4 MiB. All of them are checked and encoded before the first batch is sent. Calls that pass
        an enqueue middleware do so beside each other, a thousand at a time, and each thousand is
        stored before the next one begins.

        Raises UsageError if a call does not belong to this app, NotOpen, EncodeError and
        PayloadTooLarge, all before anything is stored. Raises Aborted if a middleware has refused
        some of the calls: the others are stored, and `error.handles` has their handles. StoreFull
        means that none of the jobs is stored. After StoreUnavailable some of them may be stored:
        repeat the call with the same job ids.
        """
        return await self._sender.send_many(calls)

    def deferred(self) -> Deferred:
        """Enqueues that wait for something else to succeed, such as a transaction:

            async with app.deferred() as later:
                async with session.begin():
                    later.add(ship.bind(order.id))

        The jobs are stored at the end of the block. If it raises, they are dropped.
        """
        return Deferred(self._sender, self.settings.max_payload)

    async def send_event(
        self, name: str, key: str = "", value: Any = None, *, queues: Iterable[str] | None = None
    ) -> int:
        """Send an event to the jobs that wait for it: `await app.send_event("paid", order_id,
        amount)`. Returns how many it has woken.

        Each job that waits for this name and key by `ctx.wait_for` gets the value. It is kept for
        `event_ttl`, for jobs that come to wait later.

        value: of JSON, at most 64 KiB.
        queues: those of the jobs, by their full names; None: `local_queues`, and those into which
        this process has enqueued.

        Raises UsageError for a wrong name or key, EncodeError for a value that JSON would change,
        PayloadTooLarge, NotOpen, MissingCapability, and StoreUnavailable if the store does not
        confirm it within `connect_timeout`. Then it may be sent: sent again it is another event,
        which only a job that waits twice would notice.
        """
        return await self._event_sender.send(name, key, value, queues)

    def send_event_sync(
        self, name: str, key: str = "", value: Any = None, *, queues: Iterable[str] | None = None
    ) -> int:
        """The same from a thread without an event loop; it blocks. See `send_event`."""
        return self._event_sender.send_from_thread(name, key, value, queues)

    def limit(self, name: str, key: Any = "", **options: Unpack[PassageOptions]) -> Passage:
        """Pass a limit outside of jobs: `async with app.limit("api", key):`. See `Limits.limit`."""
        return self.limits.limit(name, key, **options)

    def handle(self, id: str, queue: str | None = None) -> JobHandle[Any]:
        """The handle of any job. `id` may be the public id, `queue/id`. Asks no store.

        Without a queue, the handle looks for the job in all queues that this app knows, when it
        is first asked something. An id may contain a slash. If `id` fits several jobs, the one
        whose public id it is counts.

        Raises ConfigError if `id` is not a job id, or `queue` not a queue name.
        """
        if queue is not None:
            return JobHandle(self, (JobRef(check_queue_name(queue), check_job_id(id)),))
        check_job_name(id)
        known = self._known_queues()
        readings = read_job_name(id, known)
        candidates = readings.refs
        if readings.is_written and readings.refs[0].queue in known:
            # A known queue stands before the slash, so `handle.ref` can answer at once. The other
            # readings stay in `readings`, for an id that contains a slash itself.
            candidates = readings.refs[:1]
        return JobHandle(self, candidates, readings=readings)

    def _known_queues(self) -> list[str]:
        # Jobs may also have gone to queues that only `options(queue=...)` names.
        return sorted({*self.local_queues, *self._openings.queues})

    @overload
    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]: ...
    @overload
    def on(self, kind: type[E]) -> Callable[[Listener[E]], Listener[E]]: ...
    def on(self, kind: type[E], listener: Listener[E] | None = None) -> Any:
        """Call `listener(event)` for each event of this kind, subclasses included.

        Returns a function that removes the listener again. Without a listener it is a decorator:
        `@app.on(JobDead)`. A plain listener runs where the event happens, so keep it short. An
        async one runs on the loop on which the app is open. It gets its events one after the
        other, in their order, has 30 s for each, and is waited for when the app is closed, for up
        to 5 s. If 10,000 events wait for it, more are dropped and logged. What a listener raises
        is logged once, and the job goes on.

        Raises UsageError if `kind` is not a class of event, and if the listener cannot be called
        or is a generator.
        """
        if listener is None:
            return listening(self.events, kind)
        return self.events.on(kind, listener)

    # ── opening and closing ──────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Open the store, or join those who have it open on this loop.

        Raises ConfigError for a URL or a store that cannot work, MissingCapability for a store
        that lacks what a job function needs, UnsupportedLayout and StoreUnavailable. Raises
        UsageError outside of asyncio, on another loop than the open one, and in a forked child of
        the process that opened the app.
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
    def store_url(self) -> str | None:
        """The URL of the store, with its password if it has one; None for a given backend.

        Raises ConfigError when there is no URL at all.
        """
        return self._openings.store_url

    @property
    def store_info(self) -> StoreInfo:
        """The server behind the open store. Raises NotOpen."""
        return self._openings.info

    def _use(self, openings: Openings) -> Openings:
        """Open the store in this way from now on, and return the way before. A test puts its own
        store under the app like that; see `asyncjobs.testing`."""
        before = self._openings
        self._openings = openings
        self._sender.use(openings)
        # An event of a test must not reach the store that the app itself has open.
        self._event_sender.use(openings)
        return before

    def _watch(self) -> None:
        """Start tracing and metrics, if their providers are set up by now."""
        openings = self._openings
        find = self.registry.find

        async def look_up(refs: Sequence[JobRef]) -> Sequence[JobRecord | None]:
            return await self.backend.get(refs)

        self._telemetry.start(
            self.settings,
            self.events,
            self.middlewares,
            find,
            lambda: openings.address,
            look_up,
        )

    def _compile_anew(self) -> None:
        """A hook was added: what job functions and workers have put together is not right now."""
        # Job functions make their templates anew when the settings are another object.
        self.registry.bind(self._sender, copy(self.settings))
        self.middlewares.tell_change()

    def _check_store(self, backend: Backend) -> None:
        check_store(self.registry, backend)

    # ── what handles ask (Reader) ────────────────────────────────────────────────────

    def ask_from_thread(
        self, question: Callable[[Backend], Coroutine[Any, Any, T]], what: str
    ) -> T:
        """Ask the store from a thread and block until it answers. Used by `JobHandle.*_sync`."""
        way = self._openings.from_thread(
            f"{what} would block the event loop that runs here; "
            f"write await handle.{what.replace('_sync', '')}"
        )
        return way.call_from_thread(lambda client: question(client.backend), what)

    def opened(self) -> Backend:
        """The open store, for the running loop only. Raises NotOpen."""
        return self.client.backend

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        """How long the outcome of such a job is kept, in milliseconds; 0 keeps none."""
        # The enqueue's own time comes first. It travels with the job.
        ttl_ms: int | None = _read_options(options).get("result_ttl_ms")
        if ttl_ms is not None:
            return ttl_ms
        function = self.registry.find(name or "")
        if function is None:
            # Another program may have the function, with a time of its own. This is a guess.
            return self.settings.result_ttl_ms
        return function.settings.result_ttl_ms

    def result_value(self, ref: JobRef, name: str, value: Any) -> Any:
        """The kept result of a job of this function, as its type. Raises ResultUnavailable."""
        function = self.registry.find(name)
        if function is None:
            return value
        return function.returns.value(ref, value)

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        """How many attempts such a job may have; None if its function is not known here."""
        attempts: int | None = _read_options(options).get("attempts")
        function = self.registry.find(name)
        if attempts is None and function is not None:
            attempts = function.settings.retry.max_attempts
        return attempts

    def __repr__(self) -> str:
        state = "open" if self._openings.is_open else "closed"
        return f"<AsyncJobs {state}, {len(self.registry.functions())} job functions>"


def _read_options(stored: dict[str, Any] | None) -> dict[str, Any]:
    """The options of a stored job, by their fields; none when one of them is not valid."""
    if not stored:
        return {}
    try:
        # rule:15 an option that no enqueue writes fails no question about its job
        return Given({}).by_envelope(stored).fields
    except ConfigError:
        return {}
