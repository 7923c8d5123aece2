"""Celery's options: those that mean the same here, and what to write in place of the others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import Seconds
from asyncjobs.options.checks import PriorityValue
from asyncjobs.options.table import EnqueueOptions, FunctionOptions

__all__ = [
    "FROM_RABBITMQ",
    "FROM_REDIS",
    "OF_CALLS",
    "OF_TASKS",
    "ApplyOptions",
    "Priorities",
    "TaskOptions",
    "apply_options",
    "task_options",
]

Priorities = Mapping[int, PriorityValue]
"""What Celery's numbers become."""

FROM_REDIS: Final[Priorities] = {
    **dict.fromkeys(range(3), "critical"),
    **dict.fromkeys(range(3, 6), "high"),
    **dict.fromkeys(range(6, 9), "normal"),
    9: "low",
}
"""Numbers of Celery on Redis, where 0 is the most urgent: its four steps are the four here."""
FROM_RABBITMQ: Final[Priorities] = {
    **dict.fromkeys(range(3), "low"),
    **dict.fromkeys(range(3, 6), "normal"),
    **dict.fromkeys(range(6, 9), "high"),
    9: "critical",
}
"""Numbers of Celery on RabbitMQ, where 9 is the most urgent."""


class TaskOptions(FunctionOptions, total=False):
    """What `@app.task(...)` takes: the options of `@app.job`, and this one of Celery."""

    ignore_result: bool


class ApplyOptions(EnqueueOptions, total=False):
    """What `apply_async` takes: the options of `f.options()`, and these of Celery."""

    countdown: Seconds | None
    eta: datetime | None
    task_id: str | None
    ignore_result: bool


_NOT_NEEDED: Final = "leave it out"
OF_TASKS: Final = {
    "bind": "take `self` away and add the parameter `*, ctx: JobContext = INJECTED`",
    "base": "write dependencies and middleware in place of a class",
    "acks_late": f"{_NOT_NEEDED}: each job is kept until its end, and may run twice",
    "reject_on_worker_lost": f"{_NOT_NEEDED}: the jobs of a dead worker run again",
    "retry_on_worker_lost": f"{_NOT_NEEDED}: the jobs of a dead worker run again",
    "acks_on_failure": "write retry=",
    "acks_on_timeout": "write retry=",
    "acks_on_failure_or_timeout": "write retry=",
    "autoretry_for": "write retry=[RetryPolicy(on=...), RetryPolicy(max_attempts=1)]",
    "dont_autoretry_for": "write RetryPolicy(on=..., max_attempts=1) as the first policy",
    "retry_kwargs": "write retry=RetryPolicy(max_attempts=...)",
    "max_retries": "write retry=RetryPolicy(max_attempts=...), which counts the first attempt, too",
    "retry_backoff": "write retry=RetryPolicy(backoff=exponential(...))",
    "retry_backoff_max": "write retry=RetryPolicy(backoff=exponential(cap=...))",
    "retry_jitter": "write retry=RetryPolicy(backoff=exponential(jitter=...))",
    "default_retry_delay": "write retry=RetryPolicy(backoff=constant(...))",
    "throws": "write discard_on=",
    "rate_limit": "write limits=[RateLimit(...)], which holds for all workers together",
    "time_limit": "write timeout=",
    "soft_time_limit": "write timeout=",
    "track_started": f"{_NOT_NEEDED}: the state `running` is always known",
    "send_events": f"{_NOT_NEEDED}: events are always there",
    "store_errors_even_if_ignored": f"{_NOT_NEEDED}: a dead job is kept with its error",
    "serializer": f"{_NOT_NEEDED}: jobs are stored as JSON",
    "compression": f"{_NOT_NEEDED}: jobs are stored as JSON",
    "pydantic": f"{_NOT_NEEDED}: annotated models are converted",
    "typing": f"{_NOT_NEEDED}: arguments are always checked",
    "resultrepr_maxsize": f"{_NOT_NEEDED}: results are not logged",
    "exchange": "write queue=",
    "routing_key": "write queue=",
    "on_success": "write app.on(JobSucceeded, ...)",
    "on_failure": "write @f.on_dead, for the job function f",
    "on_retry": "write app.on(JobRetryScheduled, ...)",
    "after_return": "write @f.middleware, for the job function f",
    "before_start": "write @f.middleware, for the job function f",
    "run_every": "write @app.every(...) above @app.job",
}
"""Options of Celery's tasks that mean nothing here, with what to do."""
OF_CALLS: Final = {
    "link": "write a chain",
    "link_error": "write @f.on_dead, for the job function f",
    "retry_policy": f"{_NOT_NEEDED}: connect_timeout= of the app is how long an enqueue tries",
    "connection": f"{_NOT_NEEDED}: the app has its own",
    "producer": f"{_NOT_NEEDED}: the app has its own",
    "publisher": f"{_NOT_NEEDED}: the app has its own",
    "time_limit": "write timeout=",
    "soft_time_limit": "write timeout=",
    "routing_key": "write queue=",
    "exchange": "write queue=",
    "delivery_mode": _NOT_NEEDED,
    "mandatory": _NOT_NEEDED,
    "immediate": _NOT_NEEDED,
    "serializer": f"{_NOT_NEEDED}: jobs are stored as JSON",
    "compression": f"{_NOT_NEEDED}: jobs are stored as JSON",
    "headers": "write meta=, which the job reads as ctx.meta",
    "shadow": "write meta= or tags=",
    "root_id": _NOT_NEEDED,
    "parent_id": _NOT_NEEDED,
    "group_id": _NOT_NEEDED,
    "group_index": _NOT_NEEDED,
    "chord": "write a chord",
    "chain": "write a chain",
    "reply_to": _NOT_NEEDED,
    "app": f"{_NOT_NEEDED}: a job function belongs to its app",
    "add_to_parent": _NOT_NEEDED,
}
"""The same for options of calls."""
_SAME_HERE: Final = {
    ("bind", False),
    ("shared", True),
    ("shared", False),
    ("lazy", True),
    ("lazy", False),
    ("trail", True),
    ("trail", False),
    ("serializer", "json"),
    ("immutable", True),
    ("add_to_parent", True),
}
"""Options with values that say how it is anyway."""


def task_options(given: Mapping[str, Any], priorities: Priorities | None) -> dict[str, Any]:
    """The options of a job function. Raises ConfigError for those that mean nothing here."""
    options = _known(given, OF_TASKS, "a task")
    # rule:41 an error ends a task of Celery, unless it asks for a retry
    # Code that was written for one attempt may not bear a second one.
    options.setdefault("retry", False)
    # rule:41 a task of Celery may run as long as it needs
    options.setdefault("timeout", None)
    return _with_priority(options, priorities)


def apply_options(given: Mapping[str, Any], priorities: Priorities | None) -> dict[str, Any]:
    """The options of an enqueue. Raises ConfigError for those that mean nothing here."""
    # In Celery this one is about reaching the broker, and here about attempts.
    if isinstance(given.get("retry"), bool):
        raise _refused("retry", "a call", OF_CALLS["retry_policy"])
    options = _known(given, OF_CALLS, "a call")
    for theirs, ours in (("countdown", "delay"), ("eta", "at"), ("task_id", "id")):
        if theirs not in options:
            continue
        value = options.pop(theirs)
        if value is not None:
            options[ours] = value
    at = options.get("at")
    if isinstance(at, datetime) and at.tzinfo is None:
        raise ConfigError(
            f"eta={at!r} has no time zone, and Celery would read it in the zone of its setting "
            "`timezone`; give an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)"
        )
    if options.get("expires", False) is None:
        # The default of Celery, which a wrapper may pass on. Here it would remove a limit.
        del options["expires"]
    return _with_priority(options, priorities)


def _known(given: Mapping[str, Any], refused: Mapping[str, str], of: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        if _says_how_it_is(name, value):
            continue
        if name in refused:
            raise _refused(name, of, refused[name])
        options[name] = value
    # A result that is kept is the default, so False says nothing.
    ignores = options.pop("ignore_result", False)
    if ignores:
        options["result_ttl"] = 0
    return options


def _says_how_it_is(name: str, value: Any) -> bool:
    return isinstance(value, bool | str) and (name, value) in _SAME_HERE


def _refused(name: str, of: str, instead: str) -> ConfigError:
    return ConfigError(
        f"{name}= of {of} is an option of Celery; {instead}. See docs/coming-from/celery.md"
    )


def _with_priority(options: dict[str, Any], priorities: Priorities | None) -> dict[str, Any]:
    number = options.get("priority")
    if not isinstance(number, int):
        return options
    # rule:41 a number is never taken for the opposite of what it meant
    if priorities is None:
        raise ConfigError(
            f"priority={number}: 0 is the most urgent in Celery on Redis, and the least urgent on "
            "RabbitMQ; give critical, high, normal or low, or make the app with "
            "Celery(jobs, priorities=FROM_REDIS) or FROM_RABBITMQ"
        )
    if number not in priorities:
        known = ", ".join(map(str, priorities))
        raise ConfigError(
            f"priority={shown(number)} is none of the priorities= of the app: {known}"
        )
    return {**options, "priority": priorities[number]}
