"""Job functions: registered functions, and the ways to enqueue jobs that call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, Unpack

import anyio.to_thread

from asyncjobs.errors import ConfigError, NotBound, RegistrationError
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.calling import CallPlan
from asyncjobs.jobs.causing import Keeper
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.jobs.conversions import Returns, conversions
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.hooks import Hooked, Hooks
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.jobs.resources import Resources
from asyncjobs.jobs.template import JobTemplate, new_template
from asyncjobs.jobs.typed import has_placeholder
from asyncjobs.jobs.wiring import Wiring
from asyncjobs.model.job import NewJob
from asyncjobs.options.app import AppSettings
from asyncjobs.options.batch import Batch
from asyncjobs.options.carried import CarriedVariable
from asyncjobs.options.checks import check_job_id
from asyncjobs.options.given import Given
from asyncjobs.options.routes import QueueBy
from asyncjobs.options.table import EnqueueOptions, JobOptions
from asyncjobs.policy.gating import Gating
from asyncjobs.policy.redaction import Redaction
from asyncjobs.policy.unique import Debounce, UniqueRule

__all__ = ["Home", "JobCall", "JobFunction", "JobOptions", "Sender"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

WRAPPED: Final = ("__module__", "__name__", "__qualname__", "__doc__")
"""The attributes that a job function copies from its function."""


class Sender(Keeper, Protocol):
    """What job functions need of their app's sender."""

    @property
    def reader(self) -> Reader:
        """The app, which the handles of their jobs ask."""
        ...

    def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, JobHandle[Any]]:
        """Store one job."""
        ...

    def send_from_thread(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job, from code that does not run on an event loop."""
        ...


class Home:
    """The app of a registry, shared by all of its job functions.

    `sender` is None until an app includes the registry. From then on `settings` are the app's,
    which hold for the options that a job function does not give. `hooks` are the registry's,
    `resources` what its jobs share in a worker, `types` how values of foreign types are stored.
    """

    __slots__ = ("hooks", "resources", "sender", "settings", "types")

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.sender: Sender | None = None
        self.settings = AppSettings()
        self.resources = Resources()
        self.types = Types()

    def renew(self) -> None:
        """Let all templates be made again: a serializer or a loader has come."""
        # They are made anew for other settings. A copy is another one.
        self.settings = replace(self.settings)


class JobCall(Generic[R_co]):
    """A job function with its arguments, checked but not yet enqueued.

    Made by `f.bind(...)`, for `app.enqueue_many`.
    """

    __slots__ = ("args", "function", "kwargs")

    def __init__(
        self,
        function: JobFunction[..., R_co],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def first_call(self) -> JobCall[R_co]:
        """This call: it may stand where a workflow may."""
        return self

    def __repr__(self) -> str:
        return f"<JobCall {self.function.name}>"


# size: each way to enqueue is a method here with the errors that it raises, where users look for
# them. What the methods do is in the modules that they call.
class JobFunction(Hooked, Generic[P, R_co]):
    """A function registered with `@app.job` or `@registry.job`.

    `await f.enqueue(...)` stores a job, which a worker runs. A plain call, `await f(...)`, runs
    the function here and makes no job, even if the function is sync.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        aliases: tuple[str, ...],
        isolation: Isolation,
        home: Home,
        given: Given,
        sensitive: tuple[str, ...] = (),
    ) -> None:
        """`given`: the options that were given. The app's settings hold for the others."""
        self.function = function
        self.name = name
        self.aliases = aliases
        self.isolation = isolation
        self.batch: Batch | None = given.fields.get("batch")
        is_batch = self.batch is not None
        self.binding = Binding(name, function, is_batch=is_batch)
        self.injected = self.binding.injected
        if self.binding.needs:
            _check_isolation(name, isolation)
        self._redaction = Redaction.of(name, function, sensitive, self.binding.filled)
        self.redaction = self.binding.redaction = self._redaction
        self.binding.read_types(home.types, None, is_final=home.sender is not None)
        self.returns = Returns(name, function, home, is_batch=is_batch)
        self._home = home
        self.hooks = Hooks(home.hooks)
        self._given = given
        self.max_running: int | None = given.fields.get("max_running")
        self.starts_at_once = (
            isolation.starts_at_once and self.max_running is None and self.batch is None
        )
        """Whether an attempt that was taken never waits: for a place, a turn, or others."""
        self._unique = self._unique_rule()
        self.gating: Gating | None = None
        if limits := given.fields.get("limits"):
            self.gating = Gating(limits, name, self.binding.parameters)
        self._template: JobTemplate
        self._made_for: AppSettings | None = None
        # Without the function's __dict__: a user's decorator may have put names there that would
        # replace ours.
        update_wrapper(self, function, WRAPPED, updated=())

    @property
    def is_async(self) -> bool:
        """Whether the function is async."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def template(self) -> JobTemplate:
        """The template of this function's jobs, in the app that it belongs to now."""
        # An app that includes the registry brings other settings, so the template is made when
        # it is first needed, and again after that.
        if self._home.settings is not self._made_for:
            self._resolve()
        return self._template

    @property
    def settings(self) -> JobOptions:
        """The options of this job function, with the app's settings for those not given."""
        # Read for each attempt, so it repeats `template` instead of calling it.
        if self._home.settings is not self._made_for:
            self._resolve()
        return self._template.options

    def _resolve(self) -> None:
        """Make the template, with the settings of the app."""
        app = self._home.settings
        self.read_types()
        rule = self._redaction.with_patterns(app.redact, self.function)
        self.redaction = self.binding.redaction = rule
        sensitive = None
        gating = self.gating
        if rule:
            sensitive = rule.stored()
            # rule:39 the keys of limits show nothing that is sensitive
            gating = gating and gating.hiding(rule)
        self._template = new_template(
            self.name, self.binding, self._given, app, sensitive, self._unique, gating
        )
        self._template.pass_through(self.hooks.enqueue_chain())
        self._made_for = app

    @property
    def wiring(self) -> Wiring | None:
        """What makes its dependencies; None for most functions, which have none."""
        if not self.binding.needs:
            return None
        return Wiring(self.binding.needs, self._home.resources)

    @property
    def plan(self) -> CallPlan:
        """The steps of each attempt before the call of the function. Most functions have none."""
        steps = conversions(self.binding)
        wiring = self.wiring
        if wiring is None:
            return steps
        return steps + CallPlan([wiring.make])

    def read_types(self) -> None:
        """Read its annotations, with all that is known now. Raises RegistrationError."""
        home = self._home
        self.binding.read_types(home.types, home.settings, is_final=home.sender is not None)

    @property
    def given_queue(self) -> str | QueueBy | None:
        """Its `queue=`, without the app's prefix; None if it has none."""
        queue: str | QueueBy | None = self._given.fields.get("queue")
        return queue

    @property
    def carried(self) -> tuple[CarriedVariable, ...]:
        """The context variables that travel with its jobs."""
        return self._home.settings.carried

    @property
    def needs(self) -> dict[str, str]:
        """The capabilities that a store must have for this function's jobs, by option name."""
        return self._given.needs

    @property
    def is_unique(self) -> bool:
        """Whether its jobs hold a unique key."""
        return self._unique is not None

    @property
    def sender(self) -> Sender:
        """The sender of the app that this function belongs to. Raises NotBound."""
        sender = self._home.sender
        if sender is None:
            raise NotBound(
                f"{self.name} belongs to a JobRegistry that no app includes; write "
                "app.include(registry) in the module that makes the app, and import that module"
            )
        return sender

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function here and now, without a job, retries or a time-out.

        A sync function runs in a thread. The injected context is `JobContext.local(...)`, unless
        one is given. Dependencies that are not given are made for this call, and ended after it.
        Raises ArgumentsError, and whatever the function raises.
        """
        given: dict[str, Any] = dict(kwargs)
        context: JobContext | None = None
        if self.injected:
            context = given.pop(self.injected, None)
        made: dict[str, Any] = {}
        wiring = self.wiring
        if wiring is not None:
            made = wiring.take_given(given)
        self.binding.check(args, given)
        if context is None:
            context = JobContext.local(self.name, queue=self.settings.queue)
        if self.injected:
            given[self.injected] = context
        # `current_job()` works inside a plain call, too. Afterwards the caller's job counts again.
        token = _current.set(context)
        try:
            result: R_co
            if wiring is None:
                result = await self._execute(partial(self.function, *args, **given))
            else:
                plan = CallPlan([partial(wiring.make, given=made)])
                result = await plan.call(self.function, args, given, self._execute)
            return result
        finally:
            _current.reset(token)

    async def _execute(self, function: Callable[[], Any]) -> Any:
        """Call the function with its arguments, without a worker."""
        if self.is_async:
            return await function()
        return await anyio.to_thread.run_sync(function)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R_co]]:
        """Store a job that calls this function with these arguments. Await it.

        When it returns, the store has the job. Returns the handle of the job.

        Raises ArgumentsError, EncodeError, PayloadTooLarge, NotOpen and NotBound before anything
        is stored, and Aborted if a middleware refuses the call. Raises StoreFull if the store is
        out of memory. Raises StoreUnavailable if the store does not confirm the job within
        `connect_timeout`: then the job may be stored.
        """
        # Not `async def`: each coroutine on the way of an enqueue costs time.
        return self.sender.send(self, args, kwargs)

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R_co]:
        """`enqueue` for threads and sync views. Blocks until the store has the job.

        Uses the app if it is open in this process, else a connection in a background thread.
        Raises like `enqueue`, and UsageError on a running event loop, which it would block.
        """
        return self.sender.send_from_thread(self, args, kwargs)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> JobCall[R_co]:
        """Check the arguments and return a call for `app.enqueue_many`.

        Raises ArgumentsError, and EncodeError for typed arguments that JSON would lose or change.
        """
        self.binding.check(args, kwargs)
        self.read_types()
        # Calls of schedules and flows may have placeholders, and are checked where they are stored.
        if self.binding.is_typed and not has_placeholder((*args, *kwargs.values())):
            self.binding.stored(args, kwargs)
        return JobCall(self, args, kwargs)

    def handle(self, id: str) -> JobHandle[R_co]:
        """The handle of a job of this function, by its id in the function's queue.

        Asks no store, so the job need not exist. Raises ConfigError if `id` is not a job id, and
        NotBound.
        """
        reader = self.sender.reader
        return self.template.handle_by_id(reader, check_job_id(id))

    def options(self, **options: Unpack[EnqueueOptions]) -> JobFunction[P, R_co]:
        """This job function with other options: `await f.options(delay=60).enqueue(...)`.

        They hold for the jobs that are enqueued through the returned function, and come before
        the options of the job function. Times are seconds or timedelta.
        docs/reference/settings.md lists all options. The usual ones are:

        delay: run the job this much later.
        at: run the job at this time, an aware datetime.
        id: the job's id. A second enqueue with it stores nothing while the id is known.
        queue: another queue.
        priority: `critical`, `high`, `normal` or `low`.
        timeout: time-out of each attempt; None removes it.
        retry: a number of attempts, whatever the error is, or False for one attempt.
        result_ttl: how long the result is kept; 0 keeps none.
        expires: how long after the enqueue, or until which aware datetime, an attempt may start;
        after that the job is discarded. None removes the limit.
        tracing: where the trace of an attempt begins: `link`, `child`, `auto` or `none`.
        unique: at most one job with its key: a `Unique`, `Debounce` or `Throttle`; None removes it.
        meta: more labels, which lists of jobs can be filtered by: `{"tenant": "acme"}`.
        tags: more tags, which log lines, spans and the history show.

        Raises ConfigError naming the option, and TypeError for an unknown one.
        """
        variant = self._variant(self._given.by_enqueue(options, self.name))
        if "unique" in options or self._unique is not None:
            variant._unique = variant._unique_rule()
        return variant

    def _unique_rule(self) -> UniqueRule | None:
        """How its jobs get their unique keys. Raises RegistrationError and ConfigError."""
        value = self._given.fields.get("unique")
        if value is None:
            return None
        if isinstance(value, Debounce) and "due" in self._given.fields:
            raise ConfigError(
                f"{self.name}: unique=Debounce(...) decides when the job runs; leave delay and at "
                "out, or give unique=None"
            )
        return UniqueRule(value, self.name, self.binding.parameters)

    def _variant(self, given: Given) -> JobFunction[P, R_co]:
        # Without `__init__`, which reads the signature: programs call `options()` for each job.
        variant: JobFunction[P, R_co] = object.__new__(type(self))
        variant.__dict__.update(self.__dict__)
        variant._given = given
        variant._made_for = None  # its options differ, so it needs a template of its own
        return variant

    def settings_for(self, stored: dict[str, Any] | None) -> JobOptions:
        """The options of a stored job. `stored` are the options in its envelope.

        Raises ConfigError for values that no `options()` writes.
        """
        if not stored:
            return self.settings
        return self._given.by_envelope(stored).within(self._home.settings)

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewJob:
        """The job to store. Raises ArgumentsError and EncodeError; does no I/O."""
        return self.template.new_job(args, kwargs)

    def __repr__(self) -> str:
        return f"<JobFunction {self.name}>"


def _check_isolation(name: str, isolation: Isolation) -> None:
    """Raises RegistrationError if dependencies could not reach the function."""
    if not isolation.shares_memory:
        raise RegistrationError(
            f"{name} has isolation={isolation.value!r}, and what Depends makes cannot travel to "
            "another process; make it inside the function"
        )
