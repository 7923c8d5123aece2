"""The settings of an app: their table, and their checked values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypedDict, Unpack

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.codec import MAX_ENVELOPE
from asyncjobs.options.carried import CarriedVariable
from asyncjobs.options.checks import (
    DEFAULT_QUEUE,
    TracingMode,
    check_queue_name,
    check_retry,
    check_tracing,
    check_whole,
)
from asyncjobs.options.durations import SHORTEST_S, check_timeout, check_ttl_ms
from asyncjobs.options.option import Option, Scope, Use, of_scope, read
from asyncjobs.policy.redaction import check_patterns
from asyncjobs.policy.retry import Retries, RetryPolicy, RetryValue
from asyncjobs.store.seam import StoreSettings

__all__ = ["SETTINGS", "AppOptions", "AppSettings"]

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_RETRIES: Final = Retries(default=RetryPolicy())
_MAX_SIZE: Final = MAX_ENVELOPE // 2
"""Half of what can be read back, because each retry may add to the envelope's headers."""

_MAX_HISTORY: Final = 100_000
"""With 300 bytes a job they take 30 MB of the store, for each queue."""


class AppOptions(TypedDict, total=False):
    """The settings that `AsyncJobs(...)` takes, as users write them."""

    prefix: str
    result_ttl: Seconds
    max_payload: int
    max_result: int
    id_ttl: Seconds
    connect_timeout: Seconds
    unknown_ttl: Seconds
    max_crashes: int
    timeout: Seconds | None
    retry: RetryValue
    dead_max_age: Seconds
    dead_max_count: int
    dead_max_bytes: int
    history: int
    event_ttl: Seconds
    wait_replicas: int
    tracing: TracingMode
    propagate_baggage: Literal["all", "none"] | Iterable[str]
    trace_upkeep: bool
    redact: Iterable[str]
    queue_prefix: str


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The settings of an app, checked. Made by `AppSettings.of`.

    `timeout_s`, `retry`, `result_ttl_ms` and `tracing` hold for job functions that do not give
    these options. Sizes are in bytes. `baggage_keys`: the keys of baggage that travel with jobs;
    None for all. `carried` are the context variables that travel with jobs.
    """

    prefix: str = "asyncjobs"
    result_ttl_ms: int = 300_000
    max_payload: int = 1 << 20
    max_result: int = 1 << 20
    id_ttl_ms: int = 600_000
    connect_timeout_s: float = 5.0
    unknown_ttl_ms: int = 86_400_000
    max_crashes: int = 6
    timeout_s: float | None = 300.0
    retry: Retries = _RETRIES
    dead_max_age_ms: int = 30 * 86_400_000
    dead_max_count: int = 100_000
    dead_max_bytes: int = 256 << 20
    history: int = 1_000
    event_ttl_ms: int = 86_400_000
    wait_replicas: int = 0
    tracing: TracingMode = "link"
    baggage_keys: frozenset[str] | None = None
    trace_upkeep: bool = False
    redact: tuple[str, ...] = ()
    queue_prefix: str = ""
    carried: tuple[CarriedVariable, ...] = ()

    @property
    def default_queue(self) -> str:
        """The queue of job functions that name none."""
        return self.queue_prefix + DEFAULT_QUEUE

    @classmethod
    def of(cls, **settings: Unpack[AppOptions]) -> AppSettings:
        """Check the settings of a user.

        Raises ConfigError naming the setting, and TypeError for an unknown name.
        """
        made = cls(**read(settings, SETTINGS, Scope.APP))
        # An enqueue that is repeated after a lost reply must still find the id, even if the job
        # has finished meanwhile. Otherwise the job would be stored a second time.
        least_s = 3 * made.connect_timeout_s
        seconds(made.id_ttl_ms / 1000, field="id_ttl", minimum=least_s)
        return made

    def store(self) -> StoreSettings:
        """The settings that the backend needs."""
        return StoreSettings(
            prefix=self.prefix,
            connect_timeout_s=self.connect_timeout_s,
            id_ttl_ms=self.id_ttl_ms,
            # Longer than a batch may be sent again. Otherwise the store could forget the token
            # before the last repeat, and store the jobs a second time.
            token_ttl_ms=max(60_000, round(self.connect_timeout_s * 3000)),
            dead_max_age_ms=self.dead_max_age_ms,
            dead_max_count=self.dead_max_count,
            dead_max_bytes=self.dead_max_bytes,
            history=self.history,
            event_ttl_ms=self.event_ttl_ms,
            wait_replicas=self.wait_replicas,
        )


def _check_prefix(prefix: Any, *, field: str) -> str:
    if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
        raise ConfigError(
            f"{field}={shown(prefix)} cannot start the store's keys; use 1 to 64 letters, "
            "digits, '_', '-' or '.'"
        )
    return prefix


def _check_queue_prefix(prefix: Any, *, field: str) -> str:
    if prefix == "":
        return ""
    return check_queue_name(prefix, field=field)


def _check_retry(value: RetryValue, *, field: str) -> Retries:
    # An app has nobody to inherit from, so it always has a policy for all errors.
    return check_retry(value, field=field).within(Retries())


def _check_baggage(value: Any, *, field: str) -> frozenset[str] | None:
    """The keys of the baggage that travels; None for all."""
    if value == "all":
        return None
    if value == "none":
        return frozenset()
    if isinstance(value, Iterable) and not isinstance(value, str):
        keys = list(value)
        if all(isinstance(key, str) for key in keys):
            return frozenset(keys)
    raise ConfigError(f"{field} must be 'all', 'none' or the keys to pass on, not {shown(value)}")


def _check_switch(value: Any, *, field: str) -> bool:
    # A text such as "false" from an environment variable is true to Python.
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, not {shown(value)}")
    return value


def _setting(name: str, field: str, check: Any, default: Any, text: str) -> Option:
    return Option(name, field, check, {Scope.APP: Use(text, default)})


_positive = partial(check_whole, minimum=1)
_natural = partial(check_whole, minimum=0)

SETTINGS: Final = of_scope(
    (
        _setting(
            "prefix",
            "prefix",
            _check_prefix,
            "asyncjobs",
            "start of all keys in the store; apps that share a server need different ones",
        ),
        _setting(
            "result_ttl",
            "result_ttl_ms",
            check_ttl_ms,
            300,
            "how long a result is kept; 0 keeps none",
        ),
        _setting(
            "max_payload",
            "max_payload",
            partial(check_whole, minimum=1, maximum=_MAX_SIZE),
            1 << 20,
            "largest size of an encoded job; `enqueue` refuses a larger one",
        ),
        _setting(
            "max_result",
            "max_result",
            _positive,
            1 << 20,
            "largest size of an encoded result; a larger one is not kept, and waiters get "
            "`ResultUnavailable`",
        ),
        _setting(
            "id_ttl",
            "id_ttl_ms",
            check_ttl_ms,
            600,
            "how long the id of a finished job stays known; until then an enqueue with it stores "
            "nothing",
        ),
        _setting(
            "connect_timeout",
            "connect_timeout_s",
            partial(seconds, minimum=SHORTEST_S),
            5,
            "how long an `enqueue` tries to reach the store",
        ),
        _setting(
            "unknown_ttl",
            "unknown_ttl_ms",
            check_ttl_ms,
            86_400,
            "how long a job waits for a worker that knows its function, before it is dead",
        ),
        _setting(
            "max_crashes",
            "max_crashes",
            _positive,
            6,
            "how many workers may die while they run a job, before it is dead",
        ),
        _setting(
            "timeout",
            "timeout_s",
            check_timeout,
            300,
            "time-out of an attempt, for job functions without their own; None means no limit",
        ),
        _setting(
            "retry",
            "retry",
            _check_retry,
            None,
            "a `RetryPolicy` or a list of them, for job functions and errors without their own; "
            "None means `RetryPolicy()`",
        ),
        _setting(
            "dead_max_age",
            "dead_max_age_ms",
            check_ttl_ms,
            30 * 86_400,
            "how long a dead job is kept for inspection",
        ),
        _setting(
            "dead_max_count",
            "dead_max_count",
            _natural,
            100_000,
            "how many dead jobs of a queue are kept for inspection",
        ),
        _setting(
            "dead_max_bytes",
            "dead_max_bytes",
            _natural,
            256 << 20,
            "how many bytes of dead jobs a queue keeps; the oldest are deleted first",
        ),
        _setting(
            "history",
            "history",
            partial(check_whole, minimum=0, maximum=_MAX_HISTORY),
            1_000,
            "how many jobs that have ended the history of each queue lists; 0 keeps no history",
        ),
        _setting(
            "event_ttl",
            "event_ttl_ms",
            check_ttl_ms,
            86_400,
            "how long an event is kept for jobs that do not wait for it yet",
        ),
        _setting(
            "wait_replicas",
            "wait_replicas",
            partial(check_whole, minimum=0, maximum=100),
            0,
            "how many replicas must have a job before its enqueue returns",
        ),
        _setting(
            "tracing",
            "tracing",
            check_tracing,
            "link",
            "where the trace of an attempt begins: `link`, `child`, `auto` or `none`, see "
            "[Observability](../guides/observability.md); for job functions without their own",
        ),
        _setting(
            "propagate_baggage",
            "baggage_keys",
            _check_baggage,
            "all",
            "which baggage travels with jobs: `all`, `none` or a list of keys",
        ),
        _setting(
            "trace_upkeep",
            "trace_upkeep",
            _check_switch,
            False,
            "also trace reclaims that found jobs, and due jobs that became ready",
        ),
        _setting(
            "redact",
            "redact",
            check_patterns,
            (),
            "names of arguments and keys, or patterns such as `*token*`, whose values are never "
            "shown",
        ),
        _setting(
            "queue_prefix",
            "queue_prefix",
            _check_queue_prefix,
            "",
            "start of the queues of all job functions, such as `staging-`; queues that are named "
            "elsewhere (`worker --queues`, `app.queues`) are named whole",
        ),
    ),
    Scope.APP,
)
"""By name, in the order of docs/reference/settings.md."""
