"""The job function: a registered function, and the ways to make jobs of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar

import anyio.to_thread

from asyncjobs.binding import Binding
from asyncjobs.clock import Seconds, at_ms, new_id, now_ms, seconds
from asyncjobs.config import (
    UNSET,
    AppSettings,
    JobOptions,
    PriorityValue,
    TracingMode,
    Unset,
    check_job_id,
    check_queue_name,
    check_timeout,
    check_tracing,
    expiry_ms,
    parse_priority,
    ttl_ms,
)
from asyncjobs.context import JobContext, _current
from asyncjobs.errors import ConfigError, EncodeError, NotBound
from asyncjobs.handle import JobHandle, Reader
from asyncjobs.job import JobRef, NewJob
from asyncjobs.model.envelope import encode_call, without_trace
from asyncjobs.policy.redaction import Redaction
from asyncjobs.policy.retry import Retries
from asyncjobs.texts import shown

__all__ = ["Home", "JobCall", "JobFunction", "JobOptions", "Sender"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_PLAIN: Final = frozenset({str, bool, type(None), int})
"""Types of arguments that JSON keeps as they are; an integer that is too large for it is
refused by the encoder."""
_new: Final = tuple.__new__  # of a NamedTuple: half the time of a call of its class


class Sender(Reader, Protocol):
    """What job functions need of the app that includes their registry."""

    def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, JobHandle[Any]]:
        """Store one job."""
        ...

    def send_sync(
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

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        aliases: tuple[str, ...],
        is_async: bool,
        home: Home,
        declared: dict[str, Any],
        sensitive: tuple[str, ...] = (),
    ) -> None:
        """`declared`: the JobOptions fields that were given; the rest is the app's."""
        self.function = function
        self.name = name
        self.aliases = aliases
        self.is_async = is_async
        self.binding = Binding(name, function)
        self.injected = self.binding.injected
        self._redaction = Redaction.of(name, function, sensitive, self.injected)
        self.redaction = self.binding.redaction = self._redaction
        self._sensitive: dict[str, Any] | None = None
        self._redacted_by: AppSettings | None = None
        self._home = home
        self._declared = declared
        self._stored: dict[str, Any] | None = None
        self._filled_from: AppSettings | None = None
        self._settings: JobOptions
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @property
    def settings(self) -> JobOptions:
        """The options of this job function, with the app's where it does not say."""
        app = self._home.settings
        if app is not self._filled_from:
            retry: Retries = self._declared.get("retry", Retries()).within(app.retry)
            given: dict[str, Any] = {"timeout_s": app.timeout_s, "tracing": app.tracing}
            given |= self._declared
            given["retry"] = retry
            self._settings = JobOptions(**given)
            self._redact_as(app)
            self._filled_from = app
        return self._settings

    def _redact_as(self, app: AppSettings) -> None:
        """Add the app's patterns to what this function declares to be sensitive."""
        if app is self._redacted_by:
            return
        rule = self._redaction.with_patterns(app.redact, self.function)
        self.redaction = self.binding.redaction = rule
        self._sensitive = rule.stored() if rule else None
        self._redacted_by = app

    @property
    def sender(self) -> Sender:
        """The app that this function belongs to. Raises NotBound."""
        sender = self._home.sender
        if sender is None:
            raise self._not_bound()
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
        return self.sender.send_sync(self, args, kwargs)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> JobCall[R_co]:
        """A call for `app.enqueue_many`. Raises ArgumentsError."""
        self.binding.check(args, kwargs)
        return JobCall(self, args, kwargs)

    def handle(self, id: str) -> JobHandle[R_co]:
        """The handle of a job of this function in its queue; asks nobody.

        Raises ConfigError for what is no job id, NotBound.
        """
        return self.handle_of(self.sender, check_job_id(id), is_new=None)

    def handle_of(self, reader: Reader, id: str, *, is_new: bool | None) -> JobHandle[R_co]:
        """A handle on the job with this id in this function's queue."""
        settings = self.settings
        ttl_ms = settings.result_ttl_ms
        if ttl_ms is None:
            ttl_ms = self._home.settings.result_ttl_ms
        ref = _new(JobRef, (settings.queue, id))
        return JobHandle(reader, (ref,), is_new=is_new, ttl_ms=ttl_ms, name=self.name)

    def options(
        self,
        *,
        delay: Seconds | None = None,
        at: datetime | None = None,
        id: str | None = None,
        queue: str | None = None,
        priority: PriorityValue | None = None,
        timeout: Seconds | Unset | None = UNSET,
        retry: int | bool | None = None,
        result_ttl: Seconds | None = None,
        expires: Seconds | datetime | Unset | None = UNSET,
        tracing: TracingMode | None = None,
    ) -> JobFunction[P, R_co]:
        """This job function with other options for the jobs that are made through it.

        `delay` (seconds or timedelta) and `at` (aware datetime) schedule; `id` makes
        the enqueue idempotent; `retry` takes a number of attempts, for whatever errors,
        or False; `expires` (seconds or timedelta after the enqueue, or an aware datetime)
        ends a job that has not started by then. `timeout=None` and `expires=None` take
        these away. `tracing`: another mode. Raises ConfigError naming the option.
        """
        if delay is not None and at is not None:
            raise ConfigError(f"{self.name}: give delay or at, not both")
        declared: dict[str, Any] = {**self._declared, **_due(delay, at)}
        stored = dict(self._stored or ())
        if id is not None:
            declared["id"] = check_job_id(id)
        if queue is not None:
            declared["queue"] = check_queue_name(queue)
        if priority is not None:
            declared["priority"] = parse_priority(priority)
        if not isinstance(timeout, Unset):
            declared["timeout_s"] = stored["timeout"] = check_timeout(timeout)
        if retry is not None:
            declared["retry"] = self._with_attempts(retry)
            stored["max_attempts"] = declared["retry"].max_attempts
        if result_ttl is not None:
            declared["result_ttl_ms"] = stored["result_ttl"] = ttl_ms(
                result_ttl, field="result_ttl"
            )
        if tracing is not None:
            declared["tracing"] = stored["tracing"] = check_tracing(tracing)
        declared |= _expiry(expires)
        self._check_expiry(declared)
        return self._variant(declared, stored)

    def _variant(self, declared: dict[str, Any], stored: dict[str, Any]) -> JobFunction[P, R_co]:
        variant: JobFunction[P, R_co] = object.__new__(type(self))
        variant.__dict__.update(self.__dict__)
        variant._declared = declared
        variant._stored = stored or None
        variant._filled_from = None
        return variant

    def _check_expiry(self, declared: dict[str, Any]) -> None:
        """Refuse jobs that would have expired before they are due."""
        now = now_ms()
        due_ms = declared.get("at_ms") or now + declared.get("delay_ms", 0)
        ends_ms = declared.get("expires_at_ms")
        if declared.get("expires_ms") is not None:
            ends_ms = now + declared["expires_ms"]
        if ends_ms is not None and ends_ms <= due_ms and due_ms > now:
            raise ConfigError(
                f"{self.name}: expires is not after the time that delay or at asks for, so the "
                "job would never run; give a later expires in the same options(), or expires=None"
            )

    def _with_attempts(self, retry: int | bool) -> Retries:
        if not isinstance(retry, int) or retry is True:
            raise ConfigError(
                f"{self.name}: options(retry={shown(retry)}) must be a number of attempts or "
                "False; a whole RetryPolicy belongs on the job function"
            )
        declared: Retries = self._declared.get("retry", Retries())
        return declared.limited(1 if retry is False else retry)

    def settings_for(self, stored: dict[str, Any] | None) -> JobOptions:
        """The options that hold for a stored job, given its envelope's `options`.

        What `options(timeout=, retry=, result_ttl=, tracing=)` set travels with the job as
        `timeout` (seconds or null), `max_attempts`, `result_ttl` (milliseconds), `tracing`.
        Raises ConfigError for values that no `options()` has written.
        """
        if not stored:
            return self.settings
        variant = self._variant(self._declared.copy(), stored)
        declared = variant._declared
        if "timeout" in stored:
            declared["timeout_s"] = check_timeout(stored["timeout"], field="stored timeout")
        if "max_attempts" in stored:
            declared["retry"] = self._with_attempts(stored["max_attempts"])
        if "result_ttl" in stored:
            declared["result_ttl_ms"] = round(
                seconds(stored["result_ttl"], field="stored result_ttl")
            )
        if "tracing" in stored:
            declared["tracing"] = check_tracing(stored["tracing"], field="stored tracing")
        return variant.settings

    def new_job(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        trace: dict[str, Any] | None = None,
    ) -> NewJob:
        """The job to store; `trace` is what it carries of telemetry/carrier.py.

        Raises ArgumentsError and EncodeError; does no I/O.
        """
        settings = self.settings
        self.binding.check(args, kwargs)
        if not (
            _PLAIN.issuperset(map(type, args))
            and (not kwargs or _PLAIN.issuperset(map(type, kwargs.values())))
        ):
            self.binding.check_values(args, kwargs)
        now = now_ms()
        scheduled_ms = settings.at_ms
        if settings.delay_ms:
            scheduled_ms = now + settings.delay_ms
        expires_ms = settings.expires_at_ms
        if settings.expires_ms is not None:
            expires_ms = now + settings.expires_ms
        try:
            envelope = encode_call(
                self.name,
                args,
                kwargs,
                now,
                scheduled_ms,
                expires_ms,
                self._stored,
                self._sensitive,
                trace,
            )
        except EncodeError:
            self.binding.explain(args, kwargs)
            raise
        given = settings.id
        return _new(NewJob, (
            settings.queue, given or new_id(now), settings.priority, envelope, settings.delay_ms,
            settings.at_ms, given is None, None,
        ))  # fmt: skip

    def without_trace(self, job: NewJob, trace: dict[str, Any] | None) -> NewJob:
        """A job that `new_job` has made with this trace, without it."""
        return job._replace(envelope=without_trace(job.envelope, self._sensitive, trace))

    def _not_bound(self) -> NotBound:
        return NotBound(
            f"{self.name} belongs to a JobRegistry that no app includes; write "
            "app.include(registry) in the module that makes the app, and import that module"
        )

    def __repr__(self) -> str:
        return f"<JobFunction {self.name}>"


def _due(delay: Seconds | None, at: datetime | None) -> dict[str, int | None]:
    """The fields of JobOptions for these options. Raises ConfigError."""
    if delay is not None:
        return {"delay_ms": round(seconds(delay, field="delay") * 1000), "at_ms": None}
    return {} if at is None else {"delay_ms": 0, "at_ms": at_ms(at)}


def _expiry(expires: Seconds | datetime | Unset | None) -> dict[str, int | None]:
    """The fields of JobOptions for this option. Raises ConfigError."""
    if isinstance(expires, Unset):
        return {}
    if isinstance(expires, datetime):
        return {"expires_ms": None, "expires_at_ms": at_ms(expires, field="expires")}
    return {"expires_ms": None if expires is None else expiry_ms(expires), "expires_at_ms": None}
