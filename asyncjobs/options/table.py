"""The table of a job's options: the name of each, where it may be given, and what it does.

An option has three places here. Type checkers and editors read its line in the TypedDict of each
scope. Everything else reads its row in `OPTIONS`. Its value is a field of JobOptions. A test
compares the three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypedDict

from asyncjobs.model.clock import Seconds
from asyncjobs.model.job import Priority
from asyncjobs.options.batch import Batch, check_batch
from asyncjobs.options.checks import (
    DEFAULT_QUEUE,
    IsolationValue,
    PriorityValue,
    TracingMode,
    check_aliases,
    check_attempts,
    check_exceptions,
    check_function_name,
    check_isolation,
    check_job_id,
    check_queue_name,
    check_resumptions,
    check_retry,
    check_tracing,
    check_unique,
    check_whole,
    parse_priority,
)
from asyncjobs.options.durations import (
    When,
    check_delay,
    check_expiry,
    check_memory,
    check_moment,
    check_timeout,
    check_ttl_ms,
    check_window,
    read_ttl_ms,
)
from asyncjobs.options.labels import (
    MetaValue,
    TagsValue,
    check_meta,
    check_tags,
    merge_meta,
    merge_tags,
)
from asyncjobs.options.option import UNSET, Flag, Option, Scope, Travel, Use, of_scope
from asyncjobs.options.routes import QueueBy, QueueValue, check_queue
from asyncjobs.policy.limits import LimitsValue, LimitValue, check_limits
from asyncjobs.policy.redaction import check_patterns
from asyncjobs.policy.retry import ExceptionClasses, Retries, RetryPolicy, RetryValue
from asyncjobs.policy.unique import UniqueValue

__all__ = [
    "ENQUEUE",
    "FUNCTION",
    "OPTIONS",
    "EnqueueOptions",
    "FunctionOptions",
    "JobOptions",
    "RegisteredOptions",
]

# Shared by all job functions with these options: both never change.
_RETRIES: Final = Retries(default=RetryPolicy())
_AT_ONCE: Final = When()


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the jobs of one job function run, and what one enqueue asked for.

    The defaults hold if neither the job function nor the app gives the option. No attempt starts
    at `expires` or later. `retry` already includes `attempts`. `attempts`, `due` and `id` belong
    to a single enqueue and are never set on a job function. `route` is set if the queue comes from
    the arguments; `queue` is then the default one.
    """

    queue: str = DEFAULT_QUEUE
    priority: Priority = Priority.NORMAL
    timeout_s: float | None = 300.0
    retry: Retries = _RETRIES
    discard_on: tuple[type[BaseException], ...] = ()
    max_resumptions: int = 100
    result_ttl_ms: int = 300_000
    expires: When | None = None
    tracing: TracingMode = "link"
    attempts: int | None = None
    due: When = _AT_ONCE
    id: str | None = None
    unique: UniqueValue | None = None
    limits: tuple[LimitValue, ...] = ()
    max_running: int | None = None
    batch: Batch | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    route: QueueBy | None = None
    isolation: str | None = None
    max_memory: int | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the jobs go to, as far as they are known."""
        if self.route is None:
            return (self.queue,)
        return self.route.queues


class FunctionOptions(TypedDict, total=False):
    """The options that `@app.job(...)` and `@registry.job(...)` take."""

    queue: QueueValue
    priority: PriorityValue
    timeout: Seconds | None
    retry: RetryValue
    discard_on: ExceptionClasses
    max_resumptions: int
    result_ttl: Seconds | None
    expires: Seconds | None
    tracing: TracingMode | None
    unique: UniqueValue | None
    limits: LimitsValue
    max_running: int | None
    meta: MetaValue
    tags: TagsValue
    isolation: IsolationValue | None
    max_memory: int | str | None
    sensitive: Iterable[str]
    name: str | None
    aliases: Iterable[str]


class RegisteredOptions(FunctionOptions, total=False):
    """All options of a job function. Another overload of `job` takes `batch`: it changes the type
    of the function."""

    batch: Batch | None


class EnqueueOptions(TypedDict, total=False):
    """The options that `f.options(...)` takes."""

    delay: Seconds | None
    at: datetime | None
    id: str | None
    queue: str | None
    priority: PriorityValue | None
    timeout: Seconds | None
    retry: int | bool | None
    result_ttl: Seconds | None
    expires: Seconds | datetime | None
    tracing: TracingMode | None
    unique: UniqueValue | None
    meta: MetaValue | None
    tags: TagsValue | None


OPTIONS: Final = (
    Option(
        "delay",
        "due",
        check_delay,
        {Scope.ENQUEUE: Use("run this much later")},
        flag=Flag("Run the job this much later: 30s, 5m, 2h.", "duration"),
    ),
    Option(
        "at",
        "due",
        check_moment,
        {Scope.ENQUEUE: Use("run at this time, an aware `datetime`")},
        flag=Flag("Run the job at this time, in ISO 8601.", "time", "TIME"),
    ),
    Option(
        "id",
        "id",
        check_job_id,
        {
            Scope.ENQUEUE: Use(
                "the job's id; a second enqueue with it stores nothing while it is known"
            )
        },
        flag=Flag("The job's id. A second job with it is not stored.", "text", "ID"),
    ),
    # Two rows: only a job function may choose the queue of each job by its arguments.
    Option(
        "queue",
        "queue",
        check_queue,
        {
            Scope.FUNCTION: Use(
                "the queue its jobs go to, or a function of the arguments that returns it, see "
                "`QueueBy`",
                DEFAULT_QUEUE,
            )
        },
    ),
    Option("queue", "queue", check_queue_name, {Scope.ENQUEUE: Use("another queue")}),
    Option(
        "priority",
        "priority",
        parse_priority,
        {
            Scope.FUNCTION: Use("`critical`, `high`, `normal` or `low`", "normal"),
            Scope.ENQUEUE: Use("another priority"),
        },
        flag=Flag("The job's priority. By default that of the job function.", "priority"),
    ),
    Option(
        "timeout",
        "timeout_s",
        check_timeout,
        {
            Scope.FUNCTION: Use(
                "time-out of an attempt; None means no limit; by default the app's", UNSET
            ),
            Scope.ENQUEUE: Use("another time-out; None removes it", UNSET),
        },
        travels=Travel("timeout", check_timeout),
        from_app="timeout_s",
    ),
    # One name with two rows, because policies belong to the code and cannot be stored. A number
    # of attempts can, so an enqueue may give one.
    Option(
        "retry",
        "retry",
        check_retry,
        {
            Scope.FUNCTION: Use(
                "a `RetryPolicy` or a list of them, a number of attempts, or False for one "
                "attempt; None takes the app's, which also hold for errors that a list does not "
                "name"
            )
        },
        from_app="retry",
    ),
    Option(
        "retry",
        "attempts",
        check_attempts,
        {
            Scope.ENQUEUE: Use(
                "a number of attempts for any error, or False for one attempt; backoffs stay"
            )
        },
        travels=Travel("max_attempts", check_attempts),
    ),
    Option(
        "discard_on",
        "discard_on",
        check_exceptions,
        {Scope.FUNCTION: Use("exceptions that end the job as discarded, without a retry", ())},
    ),
    Option(
        "max_resumptions",
        "max_resumptions",
        check_resumptions,
        {
            Scope.FUNCTION: Use(
                "how many failed attempts that have brought a job with steps forward spend no "
                "attempt; 0: each one does",
                100,
            )
        },
    ),
    Option(
        "result_ttl",
        "result_ttl_ms",
        check_ttl_ms,
        {
            Scope.FUNCTION: Use(
                "how long its results are kept; 0 keeps none; None takes the app's"
            ),
            Scope.ENQUEUE: Use("another time to keep the result"),
        },
        travels=Travel("result_ttl", read_ttl_ms),
        from_app="result_ttl_ms",
    ),
    # Two rows again: a moment would be the same for all jobs of a function, so only an enqueue
    # may give one.
    Option(
        "expires",
        "expires",
        check_window,
        {
            Scope.FUNCTION: Use(
                "how long after the enqueue an attempt may start; after that the job is discarded"
            )
        },
    ),
    Option(
        "expires",
        "expires",
        check_expiry,
        {
            Scope.ENQUEUE: Use(
                "how long after the enqueue, or until which aware `datetime`, an attempt may "
                "start; None removes it",
                UNSET,
            )
        },
        flag=Flag("Discard the job if it has not started by then: 30s, 5m.", "duration"),
    ),
    Option(
        "tracing",
        "tracing",
        check_tracing,
        {
            Scope.FUNCTION: Use("where the trace of an attempt begins; None takes the app's"),
            Scope.ENQUEUE: Use("another mode of tracing"),
        },
        travels=Travel("tracing", check_tracing),
        from_app="tracing",
    ),
    Option(
        "unique",
        "unique",
        check_unique,
        {
            Scope.FUNCTION: Use(
                "at most one job with the same key: a `Unique`, `Debounce` or `Throttle`"
            ),
            Scope.ENQUEUE: Use("another rule of uniqueness; None removes it", UNSET),
        },
        needs="unique",
    ),
    Option(
        "limits",
        "limits",
        check_limits,
        {
            Scope.FUNCTION: Use(
                "how many of its jobs run at a time, or start in a time, in all workers together: "
                "a list of `Concurrency`, `RateLimit` and `Fair`",
                (),
            )
        },
        needs="gates",
    ),
    Option(
        "max_running",
        "max_running",
        partial(check_whole, minimum=1),
        {Scope.FUNCTION: Use("how many of its jobs run at a time in one worker")},
    ),
    Option(
        "meta",
        "meta",
        check_meta,
        {
            Scope.FUNCTION: Use('labels of its jobs, such as `{"team": "billing"}`', {}),
            Scope.ENQUEUE: Use("more labels, for `asyncjobs jobs list --meta NAME=VALUE`"),
        },
        merge=merge_meta,
    ),
    Option(
        "tags",
        "tags",
        check_tags,
        {
            Scope.FUNCTION: Use("tags of its jobs, in log lines, spans and the history", ()),
            Scope.ENQUEUE: Use("more tags"),
        },
        merge=merge_tags,
    ),
    Option(
        "isolation",
        "isolation",
        check_isolation,
        {
            Scope.FUNCTION: Use(
                "where its attempts run: on the event `loop`, in a `thread`, or each in a "
                "`process` of its own; by default `loop` for an async function and `thread` for a "
                "sync one"
            )
        },
    ),
    Option(
        "max_memory",
        "max_memory",
        check_memory,
        {
            Scope.FUNCTION: Use(
                'with `isolation="process"`: how much memory an attempt may take, in bytes or '
                "as in `512MiB`; then it fails with `MemoryLimit`; Linux only"
            )
        },
    ),
    Option(
        "sensitive",
        "sensitive",
        check_patterns,
        {
            Scope.FUNCTION: Use(
                "parameters whose values are never shown; `parameter.key` for one key of a "
                "parameter",
                (),
            )
        },
    ),
    Option(
        "name",
        "name",
        check_function_name,
        {Scope.FUNCTION: Use("name that is stored with the job; by default `module.function`")},
    ),
    Option(
        "aliases",
        "aliases",
        check_aliases,
        {Scope.FUNCTION: Use("older names under which jobs may still be stored", ())},
    ),
    Option(
        "batch",
        "batch",
        check_batch,
        {Scope.FUNCTION: Use("call it with a list of items, one of each job: a `Batch`")},
    ),
)
"""In the order of docs/reference/settings.md."""

FUNCTION: Final = of_scope(OPTIONS, Scope.FUNCTION)
ENQUEUE: Final = of_scope(OPTIONS, Scope.ENQUEUE)
