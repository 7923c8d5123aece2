"""Every error that asyncjobs raises, in one tree.

AsyncJobsError
├── ConfigError              a setting, URL or registration that cannot work
│   ├── RegistrationError    a function that cannot be a job, or a name taken twice
│   ├── MissingCapability    the store cannot keep what a job function or a job asks for
│   └── UnsupportedLayout    the store was written by a release this one does not know
├── UsageError               the call is wrong in this place
│   ├── NotOpen              the app has not been opened (or on another loop)
│   ├── NotBound             the job function's registry belongs to no app
│   └── ArgumentsError       arguments that do not fit the job function
│       └── UnfitArguments   stored arguments that do not fit it any more
│           └── ResultMissing    a result that a node of a flow needs is not there
├── Aborted                  an enqueue middleware has refused a call
├── UniqueConflict           another job holds the unique key of a call
├── ProcessDied              the process of an attempt has ended before the attempt
│   └── MemoryLimit          the attempt wanted more than its `max_memory`
├── RowMissing               a row that a job refers to is gone
├── EncodeError              a value that JSON would lose or change
├── EventTimeout             the event that a job waits for has not come
├── FlowNotFound             no flow has this id
├── LimitTimeout             a limit had no room within the time-out
├── LimitLost                a permit was lost while its holder went on
├── ScheduleNotFound         no schedule has this id
├── PayloadTooLarge          an encoded job over `max_payload`
├── ResourceError            a lifespan could not be opened, or is closed
├── StoreError               the store did not do what it was asked
│   ├── StoreUnavailable     not reachable, or it refuses for now
│   └── StoreFull            out of memory: it refuses new jobs
├── JobsDied                 a test has run jobs that are dead
├── JobsLeft                 the jobs of a test do not come to their end
└── ResultError              `JobHandle.result()` has no value to return
    ├── JobFailed            ended dead; carries the remote traceback text
    ├── JobDiscarded         ended by `Discard` or `discard_on`
    ├── JobCancelled         cancelled before it could succeed
    ├── JobNotFound          id unknown, or the result has expired
    ├── ResultsDisabled      results are off for this job function
    ├── ResultTimeout        not finished within `timeout`
    ├── FlowFailed           a flow has ended, and not as a success
    ├── FlowCancelled        a flow was cancelled
    └── ResultUnavailable    succeeded, but the value could not be kept

`JobSignal` is not in the tree. Jobs raise `Retry`, `Snooze`, `RateLimited`, `Discard`, `Abort` and
`BatchError` to say what should happen next, and `except AsyncJobsError` in a job must not catch
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from asyncjobs.guard.texts import safe_text, shown

__all__ = [
    "Abort",
    "Aborted",
    "ArgumentsError",
    "AsyncJobsError",
    "BatchError",
    "ConfigError",
    "Discard",
    "EncodeError",
    "EventTimeout",
    "FlowCancelled",
    "FlowFailed",
    "FlowNotFound",
    "JobCancelled",
    "JobDiscarded",
    "JobFailed",
    "JobNotFound",
    "JobSignal",
    "JobsDied",
    "JobsLeft",
    "LimitLost",
    "LimitTimeout",
    "MemoryLimit",
    "MissingCapability",
    "NotBound",
    "NotOpen",
    "PayloadTooLarge",
    "ProcessDied",
    "RateLimited",
    "RegistrationError",
    "ResourceError",
    "ResultError",
    "ResultMissing",
    "ResultTimeout",
    "ResultUnavailable",
    "ResultsDisabled",
    "Retry",
    "RowMissing",
    "ScheduleNotFound",
    "Snooze",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "UnfitArguments",
    "UniqueConflict",
    "UnsupportedLayout",
    "UsageError",
]


class AsyncJobsError(Exception):
    """Base of every error that asyncjobs raises."""


class ConfigError(AsyncJobsError):
    """A setting, URL or registration that cannot work; nothing was started."""


class RegistrationError(ConfigError):
    """A function that cannot be a job function, or a name that is taken."""


class MissingCapability(ConfigError):
    """The store cannot keep what a job function or a job asks for; nothing was stored."""


class UnsupportedLayout(ConfigError):
    """The store's key layout or a stored envelope comes from another release."""


class UsageError(AsyncJobsError):
    """The call is wrong at this place in the program."""


class NotOpen(UsageError):
    """The app is not open here. The message shows the lifespan lines to write."""


class NotBound(UsageError):
    """The job function's registry is not included in any app."""


class ArgumentsError(UsageError):
    """The arguments do not fit the job function; nothing was stored."""


class UnfitArguments(ArgumentsError):
    """The stored arguments of a job do not fit its function any more.

    The function was changed after the enqueue. It was not called, and the job is dead with the
    reason `arguments`: a retry alone would not help.
    """


class ResultMissing(UnfitArguments):
    """A result that a node of a flow needs is not there any more, or was never kept.

    Its function was not called, and its job is dead with the reason `arguments`. The message says
    what to set.
    """


class RowMissing(AsyncJobsError, LookupError):
    """There is no row with the id that a `Ref` argument has stored, and its loader says `fail`."""


class UniqueConflict(AsyncJobsError):
    """Another job holds the unique key of a call, and nothing was stored for it.

    `holder` is the public id of that job, `queue/id`.
    """

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class Aborted(AsyncJobsError):
    """A middleware has refused a call by `Abort`, and nothing was stored for it.

    `reason` is the one of the `Abort`; of several refused calls, that of the first. After
    `enqueue_many`, `handles` has the handle of each call in their order, and None for those that
    were not stored.
    """

    def __init__(
        self, message: str, *, reason: str = "", handles: tuple[Any | None, ...] = ()
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.handles = handles


class ProcessDied(AsyncJobsError):
    """The process of an attempt has ended before the attempt: by a signal, or by `os._exit`.

    The attempt has failed, and its retry policies decide. The message names the signal or the exit
    code. Raised by the worker for job functions with `isolation="process"`.
    """


# Also a MemoryError, which is what a function without a limit would have raised.
class MemoryLimit(ProcessDied, MemoryError):
    """An attempt in a process of its own wanted more memory than its `max_memory`."""


class EncodeError(AsyncJobsError):
    """A value that JSON would lose or change. The message names it and the conversion to write."""


# Also a TimeoutError, which is what code that waits for something usually catches.
class EventTimeout(AsyncJobsError, TimeoutError):
    """Nobody has sent the event that `ctx.wait_for` waits for within its time-out."""


# Also a TimeoutError, which is what code that waits for something usually catches.
class LimitTimeout(AsyncJobsError, TimeoutError):
    """The limit of an `async with app.limit(...)` had no room within its time-out."""


class LimitLost(AsyncJobsError):
    """The body of an `async with app.limit(...)` was stopped, for its permit is somebody else's.

    The store was away for longer than the permit lasts, the event loop was blocked for so long, or
    an operator has freed the key.
    """


class ScheduleNotFound(AsyncJobsError):
    """No schedule has this id. The message names it."""


class FlowNotFound(AsyncJobsError):
    """No flow has this id: it was never started here, or it was dropped. The message names it."""


class ResourceError(AsyncJobsError):
    """What is opened once a worker could not be opened, or is closed. The message names it."""


class PayloadTooLarge(AsyncJobsError):
    """The encoded job is larger than `max_payload`. The message names both sizes in bytes."""


class StoreError(AsyncJobsError):
    """The store failed or refused. Base of the two below."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or refuses for now.

    If an enqueue raises it, the jobs may or may not be stored. To be sure, repeat the call with the
    same job ids.
    """


class StoreFull(StoreError):
    """The store is out of memory and refuses new jobs. Running jobs go on."""


class DrainTimeout(AsyncJobsError, TimeoutError):
    """The queue was not empty within the time-out. Its jobs go on."""


class JobsDied(AsyncJobsError):
    """Jobs have died while a test has run them. `dead` has their refs, and the cause is the error
    of the first one."""

    def __init__(self, message: str, *, dead: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.dead = dead


class JobsLeft(AsyncJobsError):
    """The jobs of a test do not come to their end: there is always another one, or one hangs."""


class ResultError(AsyncJobsError):
    """`JobHandle.result()` has no value to return."""


class JobFailed(ResultError):
    """The job is dead.

    `error_type` is the qualified name of the worker's exception, `remote_traceback` its traceback
    as text. Both are empty if there was no exception.
    """

    def __init__(self, message: str, *, error_type: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        text = super().__str__()
        if self.remote_traceback:
            text += f"\n\n{self.remote_traceback}"
        return text


class JobDiscarded(ResultError):
    """The job ended by `Discard` or by an exception named in `discard_on`."""


class JobCancelled(ResultError):
    """The job was cancelled."""


class JobNotFound(ResultError):
    """The job is not known: it was never enqueued here, or its result has expired."""


class ResultsDisabled(ResultError):
    """Results are off (`result_ttl=0`) for this job."""


class FlowFailed(ResultError):
    """The flow has failed. `nodes` are the names of those that failed first: those behind them
    were cancelled."""

    def __init__(self, message: str, *, nodes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nodes = tuple(nodes)


class FlowCancelled(ResultError):
    """The flow was cancelled."""


# Also a TimeoutError, which is what code that waits for something usually catches.
class ResultTimeout(ResultError, TimeoutError):
    """The job has not finished within the time-out. It goes on."""


class ResultUnavailable(ResultError):
    """The job succeeded, but its value could not be kept, or does not fit the annotation of its
    function any more.

    `stored` is what is kept of a value that does not fit, as plain data; else None.
    """

    def __init__(self, message: str, *, stored: Any = None) -> None:
        super().__init__(message)
        self.stored = stored


class JobSignal(Exception):
    """Base of the signals that a job raises to say what happens next. Not an error."""


def _check_delay(name: str, delay: object, field: str = "delay") -> None:
    """Refuse a wrong delay at the user's own line, instead of later in the worker."""
    number = delay
    if isinstance(delay, timedelta):
        number = delay.total_seconds()
    if (
        isinstance(delay, float | int | timedelta)
        and not isinstance(delay, bool)
        and isinstance(number, float | int)
        and 0 <= number < 3e9
    ):
        return
    raise ConfigError(
        f"{name}({field}={shown(delay)}) must be a number of seconds or a timedelta, 0 or more"
    )


class Retry(JobSignal):
    """Raise it in a job to run the job again. Spends an attempt of the retry policy.

    message: why, for the log and the job's errors.
    delay: the pause before the next attempt (seconds or timedelta); None takes the backoff of the
    retry policy.

    Raises ConfigError for a wrong delay.
    """

    def __init__(self, message: str = "", *, delay: float | timedelta | None = None) -> None:
        super().__init__(message or "the job asked to be retried")
        self.delay = delay
        if delay is not None:
            _check_delay("Retry", delay)


class Snooze(JobSignal):
    """Raise it in a job to run the job again later. Spends no attempt.

    delay: the pause before the next attempt (seconds or timedelta).

    Raises ConfigError for a wrong delay.
    """

    def __init__(self, delay: float | timedelta) -> None:
        _check_delay("Snooze", delay)
        self.delay = delay
        super().__init__(f"snoozed for {delay}")

    def __reduce__(self) -> tuple[type[Snooze], tuple[float | timedelta]]:
        # Pickle makes it again from its delay, not from its text. An error here, on the way back
        # from a process pool, would break the pool.
        return type(self), (self.delay,)


class RateLimited(Snooze):
    """Raise it in a job that was told to come back later, as by HTTP status 429. Spends no attempt.

    Until then nobody passes the limits of this job under its keys: jobs that wait do not run into
    the same answer. In a job without limits it is a `Snooze`.

    after: the time until then (seconds or timedelta). Without it the class attribute of this name
    counts, for a class of your own: `class Busy(RateLimited): after = 30`.

    Raises ConfigError for a wrong time, and without any.
    """

    after: float | timedelta | None = None

    def __init__(self, after: float | timedelta | None = None) -> None:
        if after is None:
            after = self.after
        if after is None:
            raise ConfigError(
                f"{type(self).__name__}(): say when to come back: RateLimited(after=30), in seconds"
            )
        _check_delay(type(self).__name__, after, "after")
        super().__init__(after)


class Discard(JobSignal):
    """Raise it in a job to end the job for good, without a retry and without a dead letter.

    reason: why, for `handle.result()` and the log. An exception is turned into its text.
    """

    def __init__(self, reason: object = "") -> None:
        # Often an exception is passed. Only its text can be stored.
        self.reason = safe_text(reason) or "discarded by the job"
        super().__init__(self.reason)


class BatchError(JobSignal):
    """Raise it in a batch consumer when some items have failed: `raise BatchError({3: error})`.

    errors: the exception of each item that has failed, by its position in the list that the
    function got. Each fails its own job, by the retry policies of that job. All other items have
    succeeded.

    Raises UsageError for what is no mapping of positions to exceptions.
    """

    def __init__(self, errors: Mapping[int, BaseException]) -> None:
        if not isinstance(errors, Mapping) or not errors:
            raise UsageError(f"BatchError({{position: error}}) names at least one, not {errors!r}")
        for place, error in errors.items():
            if type(place) is not int or place < 0 or not isinstance(error, BaseException):
                raise UsageError(
                    "BatchError({position: error}): a position is a number from 0, and an error "
                    f"an exception; here is one of {type(place).__name__} with one of "
                    f"{type(error).__name__}"
                )
        self.errors: dict[int, BaseException] = dict(errors)
        super().__init__(f"{len(self.errors):,} items of a batch have failed")

    def __reduce__(self) -> tuple[type[BatchError], tuple[dict[int, BaseException]]]:
        return type(self), (self.errors,)


class Abort(Discard):
    """Raise it in a middleware to refuse what it is around.

    Around an enqueue: nothing is stored, and the caller gets `Aborted`. Around an attempt, and in
    a job: the job is discarded, as by `Discard`.

    reason: why. An exception is turned into its text.
    """

    def __init__(self, reason: object = "") -> None:
        super().__init__(safe_text(reason) or "aborted by a middleware")
