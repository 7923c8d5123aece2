"""The job function: a registered function, and the ways to make jobs of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, Unpack

import anyio.to_thread

from asyncjobs.errors import NotBound
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_job_id
from asyncjobs.options.given import Given
from asyncjobs.options.table import EnqueueOptions, JobOptions
from asyncjobs.policy.redaction import Redaction

__all__ = ["Home", "JobCall", "JobFunction", "JobOptions", "Sender"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

WRAPPED: Final = ("__module__", "__name__", "__qualname__", "__doc__")
"""What a job function takes over from its function, beside its signature."""


class Sender(Protocol):
    """What job functions need of the outbox of the app that includes their registry."""

    @property
    def reader(self) -> Reader:
        """What the handles of their jobs ask."""
        ...

    def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, JobHandle[Any]]:
        """Store one job."""
        ...

    def send_from_thread(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job, from code that runs on no event loop."""
        ...


class Home:
    """What the job functions of one registry share: where their jobs go.

    `sender` is None until an app includes the registry; from then on `settings` are the
    app's, which fill in what a job function does not say.
    """

    __slots__ = ("sender", "settings")

    def __init__(self) -> None:
        self.sender: Sender | None = None
        self.settings = AppSettings()


class JobCall(Generic[R_co]):
    """A job function with checked arguments, not yet enqueued: for `app.enqueue_many`."""

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

    def __repr__(self) -> str:
        return f"<JobCall {self.function.name}>"


class JobFunction(Generic[P, R_co]):
    """A function registered with `@app.job` or `@registry.job`.

    Knows its name, its options and its parameters, and where its jobs go. Awaiting a
    plain call of it runs the function here and makes no job.
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
        """`given`: the options that were given; the rest is the app's."""
        self.function = function
        self.name = name
        self.aliases = aliases
        self.isolation = isolation
        self.binding = Binding(name, function)
        self.injected = self.binding.injected
        self._redaction = Redaction.of(name, function, sensitive, self.injected)
        self.redaction = self.binding.redaction = self._redaction
        self._home = home
        self._given = given
        self._template: JobTemplate
        self._made_for: AppSettings | None = None
        # Not what stands in its __dict__: a decorator of the user's may have put anything there.
        update_wrapper(self, function, WRAPPED, updated=())

    @property
    def is_async(self) -> bool:
        """Whether it was written as `async def`."""
        return self.isolation is Isolation.LOOP

    @property
    def template(self) -> JobTemplate:
        """What jobs of this function are made by, in the app that it belongs to now."""
        if self._home.settings is not self._made_for:
            self._resolve()
        return self._template

    @property
    def settings(self) -> JobOptions:
        """The options of this job function, with the app's where it does not say."""
        # Asked for each attempt: not by way of `template`, which is another call.
        if self._home.settings is not self._made_for:
            self._resolve()
        return self._template.options

    def _resolve(self) -> None:
        """Fill in what the app says."""
        app = self._home.settings
        rule = self._redaction.with_patterns(app.redact, self.function)
        self.redaction = self.binding.redaction = rule
        sensitive = rule.stored() if rule else None
        self._template = JobTemplate(
            self.name, self.binding, self._given.within(app), self._given.stored, sensitive
        )
        self._made_for = app

    @property
    def needs(self) -> dict[str, str]:
        """By option: the capability that a store must have for the jobs of this function."""
        return self._given.needs

    @property
    def sender(self) -> Sender:
        """The outbox of the app that this function belongs to. Raises NotBound."""
        sender = self._home.sender
        if sender is None:
            raise NotBound(
                f"{self.name} belongs to a JobRegistry that no app includes; write "
                "app.include(registry) in the module that makes the app, and import that module"
            )
        return sender

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function here and now: no job, no retries, no time-out.

        An injected context is a local one, unless it is given. A sync function runs in
        a thread. Raises ArgumentsError, and whatever the function raises.
        """
        given: dict[str, Any] = dict(kwargs)
        context = given.pop(self.injected, None) if self.injected else None
        self.binding.check(args, given)
        if context is None:
            context = JobContext.local(self.name, queue=self.settings.queue)
        if self.injected:
            given[self.injected] = context
        token = _current.set(context)
        try:
            result: R_co
            if self.is_async:
                result = await self.function(*args, **given)
            else:
                result = await anyio.to_thread.run_sync(partial(self.function, *args, **given))
            return result
        finally:
            _current.reset(token)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R_co]]:
        """Store a job that calls this function with these arguments; to be awaited.

        When that returns, the job is stored. Raises NotBound, NotOpen, ArgumentsError,
        EncodeError and PayloadTooLarge before anything is stored; StoreFull;
        StoreUnavailable when the store does not answer within `connect_timeout`.
        """
        # No coroutine of its own: each on the way of a call costs it time.
        return self.sender.send(self, args, kwargs)

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R_co]:
        """`enqueue` for threads and sync views; blocks until the job is stored.

        Uses the app where it is open in this process, else a background connection of
        its own. Raises like `enqueue`, and UsageError on a running event loop.
        """
        return self.sender.send_from_thread(self, args, kwargs)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> JobCall[R_co]:
        """A call for `app.enqueue_many`. Raises ArgumentsError."""
        self.binding.check(args, kwargs)
        return JobCall(self, args, kwargs)

    def handle(self, id: str) -> JobHandle[R_co]:
        """The handle of a job of this function in its queue; asks nobody.

        Raises ConfigError for what is no job id, NotBound.
        """
        reader = self.sender.reader
        return self.template.handle(reader, check_job_id(id))

    def options(self, **options: Unpack[EnqueueOptions]) -> JobFunction[P, R_co]:
        """This job function with other options for the jobs that are made through it.

        `delay` (seconds or timedelta) and `at` (aware datetime) schedule; `id` makes
        the enqueue idempotent; `retry` takes a number of attempts, for whatever errors,
        or False; `expires` (seconds or timedelta after the enqueue, or an aware datetime)
        ends a job that has not started by then. `timeout=None` and `expires=None` take
        these away. `queue`, `priority`, `result_ttl` and `tracing`: others than the job
        function's. Raises ConfigError naming the option.
        """
        return self._variant(self._given.by_enqueue(options, self.name))

    def _variant(self, given: Given) -> JobFunction[P, R_co]:
        variant: JobFunction[P, R_co] = object.__new__(type(self))
        variant.__dict__.update(self.__dict__)
        variant._given = given
        variant._made_for = None
        return variant

    def settings_for(self, stored: dict[str, Any] | None) -> JobOptions:
        """The options that hold for a stored job, given its envelope's `options`.

        Raises ConfigError for values that no `options()` has written.
        """
        if not stored:
            return self.settings
        return self._given.by_envelope(stored).within(self._home.settings)

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewJob:
        """The job to store. Raises ArgumentsError and EncodeError; does no I/O."""
        return self.template.new_job(args, kwargs)

    def __repr__(self) -> str:
        return f"<JobFunction {self.name}>"
