"""The settings of an app and of its job functions: small, frozen, checked once.

Every refusal is a ConfigError that names the field, the value and what would do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

from asyncjobs.backends.base import StoreSettings
from asyncjobs.clock import LONGEST_S, Seconds, seconds
from asyncjobs.codec import MAX_ENVELOPE
from asyncjobs.errors import ConfigError
from asyncjobs.job import Priority
from asyncjobs.policy.redaction import check_patterns
from asyncjobs.policy.retry import Retries, RetryPolicy, RetryValue
from asyncjobs.texts import shown

__all__ = [
    "DEFAULT_QUEUE",
    "UNSET",
    "AppOptions",
    "AppSettings",
    "JobOptions",
    "PriorityName",
    "PriorityValue",
    "TracingMode",
    "Unset",
    "check_job_id",
    "check_queue_name",
    "check_timeout",
    "check_tracing",
    "expiry_ms",
    "is_job_id",
    "is_queue_name",
    "parse_duration",
    "parse_priority",
    "parse_size",
    "ttl_ms",
]

DEFAULT_QUEUE: Final = "default"

PriorityName: TypeAlias = Literal["critical", "high", "normal", "low"]
PriorityValue: TypeAlias = PriorityName | Priority
TracingMode: TypeAlias = Literal["link", "child", "auto", "none"]
"""Where the trace of an attempt begins; see docs/guides/observability.md."""

_QUEUE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, None: 1.0}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?b|b)?", re.ASCII | re.IGNORECASE)
_UNITS_BYTES: Final = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
    "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000,
}  # fmt: skip
_MAX_ID: Final = 256
_MAX_SIZE: Final = MAX_ENVELOPE // 2
"""Half of what can be read back: each retry may add to the envelope's headers."""


class Unset:
    """The type of `UNSET`: an option that was not given, where None has a meaning."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


def parse_duration(text: str, *, field: str) -> float:
    """Seconds from a text such as `250ms`, `30s`, `5m`, `2h`, `1d` or `30` (seconds).

    Only for the command line, the environment and URLs: Python code gives numbers and
    timedeltas. Raises ConfigError naming `field`.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{field}={shown(text)} is no duration; write a number and ms, s, m, h or d: 30s, 250ms"
        )
    found_s = float(match[1]) * _UNITS_S[match[2]]
    if found_s > LONGEST_S:
        raise ConfigError(f"{field}={shown(text)} is more than 100 years; write a shorter time")
    return found_s


def parse_size(text: str, *, field: str) -> int:
    """Bytes from a text such as `512MiB`, `1.5GiB`, `800MB` or `536870912`.

    KiB, MiB and GiB count by 1024; KB, MB and GB by 1000. A bare M or G means one here and
    the other there, so it is refused. Raises ConfigError naming `field`.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0
    if match is not None:
        size = round(float(match[1]) * _UNITS_BYTES[(match[2] or "").lower()])
    if size < 1:
        raise ConfigError(
            f"{field}={shown(text)} is no size; write a number and KiB, MiB, GiB (by 1024) or KB, "
            "MB, GB (by 1000): 512MiB"
        )
    return size


def parse_priority(value: PriorityValue, *, field: str = "priority") -> Priority:
    """A priority from its name. Raises ConfigError naming `field`."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value in _PRIORITIES:
        return _PRIORITIES[value]
    raise ConfigError(f"{field} must be one of {', '.join(_PRIORITIES)}, not {shown(value)}")


_PRIORITIES: Final = {priority.name.lower(): priority for priority in Priority}


def check_queue_name(name: str, *, field: str = "queue") -> str:
    """`name`, if it can be a queue. Raises ConfigError naming `field`.

    The characters are limited because the name becomes part of the store's keys.
    """
    if not is_queue_name(name):
        raise ConfigError(
            f"{field}={shown(name)} is no queue name; use 1 to 64 letters, digits, '_', '-' or '.'"
        )
    return name


def is_queue_name(name: Any) -> bool:
    """True for a text that can be a queue."""
    return isinstance(name, str) and _QUEUE.fullmatch(name) is not None


def check_job_id(value: str, *, field: str = "id") -> str:
    """`value`, if it can be a job id. Raises ConfigError naming `field`.

    White space and control characters are refused because ids stand in log lines, keys
    and on command lines.
    """
    if not is_job_id(value):
        raise ConfigError(
            f"{field}={shown(value)} is no job id; use 1 to {_MAX_ID} printable characters "
            "without white space"
        )
    return value


def is_job_id(value: Any) -> bool:
    """True for a text that can be a job id."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= _MAX_ID
        and value.isprintable()
        and " " not in value
    )


def ttl_ms(value: Seconds, *, field: str) -> int:
    """A time to keep something, in milliseconds; 0 keeps nothing. Raises ConfigError."""
    return round(seconds(value, field=field) * 1000)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the jobs of one job function run, and what one enqueue asked for.

    `result_ttl_ms` None takes the app's. No attempt starts later than `expires_ms` after
    the enqueue, or at `expires_at_ms` (epoch) and later; at most one of them is set.
    `delay_ms`, `at_ms` (epoch) and `id` belong to a single enqueue and are never set on
    the job function itself.
    """

    queue: str
    priority: Priority
    timeout_s: float | None
    retry: Retries
    discard_on: tuple[type[BaseException], ...] = ()
    result_ttl_ms: int | None = None
    expires_ms: int | None = None
    expires_at_ms: int | None = None
    tracing: TracingMode = "link"
    delay_ms: int = 0
    at_ms: int | None = None
    id: str | None = None


_RETRIES: Final = Retries(default=RetryPolicy())


class AppOptions(TypedDict, total=False):
    """The settings of an app as users write them; `AppSettings.of` has the defaults."""

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
    wait_replicas: int
    tracing: TracingMode
    propagate_baggage: Literal["all", "none"] | Iterable[str]
    trace_upkeep: bool
    redact: Iterable[str]


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The settings of an app, checked; made by `AppSettings.of`.

    `timeout_s`, `retry` and `tracing` hold for job functions that do not say. Sizes in
    bytes. `baggage_keys` travel with jobs, None: all do.
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
    wait_replicas: int = 0
    tracing: TracingMode = "link"
    baggage_keys: frozenset[str] | None = None
    trace_upkeep: bool = False
    redact: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        prefix: str = "asyncjobs",
        result_ttl: Seconds = 300,
        max_payload: int = 1 << 20,
        max_result: int = 1 << 20,
        id_ttl: Seconds = 600,
        connect_timeout: Seconds = 5,
        unknown_ttl: Seconds = 86_400,
        max_crashes: int = 6,
        timeout: Seconds | None = 300,
        retry: RetryValue = None,
        dead_max_age: Seconds = 30 * 86_400,
        dead_max_count: int = 100_000,
        dead_max_bytes: int = 256 << 20,
        wait_replicas: int = 0,
        tracing: TracingMode = "link",
        propagate_baggage: Literal["all", "none"] | Iterable[str] = "all",
        trace_upkeep: bool = False,
        redact: Iterable[str] = (),
    ) -> AppSettings:
        """From what a user writes. Raises ConfigError naming the field."""
        return cls(
            prefix=_check_prefix(prefix),
            result_ttl_ms=ttl_ms(result_ttl, field="result_ttl"),
            max_payload=_whole(max_payload, field="max_payload", minimum=1, maximum=_MAX_SIZE),
            max_result=_whole(max_result, field="max_result", minimum=1),
            id_ttl_ms=_id_ttl_ms(id_ttl, connect_timeout),
            connect_timeout_s=_connect_timeout_s(connect_timeout),
            unknown_ttl_ms=ttl_ms(unknown_ttl, field="unknown_ttl"),
            max_crashes=_whole(max_crashes, field="max_crashes", minimum=1),
            timeout_s=check_timeout(timeout),
            retry=Retries.of(retry).within(Retries()),
            **_dead_bounds(dead_max_age, dead_max_count, dead_max_bytes),
            wait_replicas=_whole(wait_replicas, field="wait_replicas", minimum=0, maximum=100),
            tracing=check_tracing(tracing),
            baggage_keys=_baggage_keys(propagate_baggage),
            trace_upkeep=bool(trace_upkeep),
            redact=check_patterns(redact),
        )

    def store(self) -> StoreSettings:
        """What of this the backend needs."""
        return StoreSettings(
            prefix=self.prefix,
            connect_timeout_s=self.connect_timeout_s,
            id_ttl_ms=self.id_ttl_ms,
            # Above the time for which a batch may be sent again, or a late repeat of it
            # would store its jobs a second time.
            token_ttl_ms=max(60_000, round(self.connect_timeout_s * 3000)),
            dead_max_age_ms=self.dead_max_age_ms,
            dead_max_count=self.dead_max_count,
            dead_max_bytes=self.dead_max_bytes,
            wait_replicas=self.wait_replicas,
        )


def _check_prefix(prefix: Any) -> str:
    if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
        raise ConfigError(
            f"prefix={shown(prefix)} cannot start the store's keys; use 1 to 64 letters, "
            "digits, '_', '-' or '.'"
        )
    return prefix


def _connect_timeout_s(value: Seconds) -> float:
    return seconds(value, field="connect_timeout", minimum=0.001)


def _id_ttl_ms(id_ttl: Seconds, connect_timeout: Seconds) -> int:
    # An enqueue repeated after a lost reply must still find the finished id.
    least_s = 3 * _connect_timeout_s(connect_timeout)
    return round(seconds(id_ttl, field="id_ttl", minimum=least_s) * 1000)


def check_timeout(value: Seconds | None, *, field: str = "timeout") -> float | None:
    """The time-out of an attempt in seconds, None for none. Raises ConfigError."""
    return None if value is None else seconds(value, field=field, minimum=0.001)


def check_tracing(value: Any, *, field: str = "tracing") -> TracingMode:
    """`value`, if it is a mode of tracing. Raises ConfigError naming `field`."""
    if value not in _TRACING:
        raise ConfigError(f"{field} must be one of {', '.join(_TRACING)}, not {shown(value)}")
    mode: TracingMode = value
    return mode


_TRACING: Final = ("link", "child", "auto", "none")


def _baggage_keys(value: Any) -> frozenset[str] | None:
    if value == "all":
        return None
    if value == "none":
        return frozenset()
    keys = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if isinstance(value, str) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(
            f"propagate_baggage must be 'all', 'none' or the keys to pass on, not {shown(value)}"
        )
    return frozenset(keys)


def expiry_ms(value: Seconds) -> int:
    """How long after the enqueue a job may still start, in ms. Raises ConfigError."""
    return round(seconds(value, field="expires", minimum=0.001) * 1000)


class _DeadBounds(TypedDict):
    dead_max_age_ms: int
    dead_max_count: int
    dead_max_bytes: int


def _dead_bounds(age: Seconds, count: int, size: int) -> _DeadBounds:
    """What is kept of dead jobs."""
    return {
        "dead_max_age_ms": ttl_ms(age, field="dead_max_age"),
        "dead_max_count": _whole(count, field="dead_max_count", minimum=0),
        "dead_max_bytes": _whole(size, field="dead_max_bytes", minimum=0),
    }


def _whole(value: Any, *, field: str, minimum: int, maximum: int = 2**53) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ConfigError(
            f"{field} must be a whole number from {minimum} to {maximum}, not {shown(value)}"
        )
    return value
