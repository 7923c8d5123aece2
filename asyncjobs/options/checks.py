"""Checks of names, ids and choices.

Each refusal is a ConfigError that names the field, the value and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

from asyncjobs.errors import ConfigError, RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.model.job import Priority
from asyncjobs.policy.retry import ExceptionClasses, Retries, RetryPolicy, RetryValue
from asyncjobs.policy.retry import exception_classes as exceptions_of
from asyncjobs.policy.unique import Debounce, Throttle, Unique, UniqueValue

__all__ = [
    "DEFAULT_QUEUE",
    "MAX_NAME",
    "IsolationValue",
    "PriorityName",
    "PriorityValue",
    "TracingMode",
    "check_aliases",
    "check_attempts",
    "check_exceptions",
    "check_function_name",
    "check_isolation",
    "check_job_id",
    "check_queue_name",
    "check_resumptions",
    "check_retry",
    "check_tracing",
    "check_unique",
    "check_whole",
    "is_job_id",
    "is_queue_name",
    "parse_priority",
]

DEFAULT_QUEUE: Final = "default"

PriorityName: TypeAlias = Literal["critical", "high", "normal", "low"]
PriorityValue: TypeAlias = PriorityName | Priority
TracingMode: TypeAlias = Literal["link", "child", "auto", "none"]
"""Where the trace of an attempt begins; see docs/guides/observability.md."""
IsolationValue: TypeAlias = Literal["loop", "thread", "process"]
"""Where a job function runs; see docs/guides/processes.md."""

MAX_ID: Final = 256
MAX_NAME: Final = 256

_QUEUE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_PRIORITIES: Final = {priority.name.lower(): priority for priority in Priority}
_TRACING: Final = ("link", "child", "auto", "none")
_ISOLATIONS: Final = ("loop", "thread", "process")


def check_queue_name(name: str, *, field: str = "queue") -> str:
    """`name`, if it can be a queue. Raises ConfigError naming `field`.

    The characters are limited because the name becomes part of the store's keys.
    """
    if not is_queue_name(name):
        raise ConfigError(
            f"{field}={shown(name)} is not a queue name; "
            "use 1 to 64 letters, digits, '_', '-' or '.'"
        )
    return name


def is_queue_name(name: Any) -> bool:
    """Whether the value can be the name of a queue."""
    return isinstance(name, str) and _QUEUE.fullmatch(name) is not None


def check_job_id(value: str, *, field: str = "id") -> str:
    """`value`, if it can be a job id. Raises ConfigError naming `field`.

    White space and control characters are refused because ids appear in log lines, in keys and on
    command lines.
    """
    if not is_job_id(value):
        raise ConfigError(
            f"{field}={shown(value)} is not a job id; use 1 to {MAX_ID} printable characters "
            "without white space"
        )
    return value


def is_job_id(value: Any) -> bool:
    """Whether the value can be a job id."""
    return _is_plain(value, MAX_ID)


def check_function_name(name: str, *, field: str = "name") -> str:
    """`name`, if it can be the name of a job function. Raises RegistrationError naming `field`."""
    if not _is_plain(name, MAX_NAME):
        raise RegistrationError(
            f"{field}={shown(name)} is not a name for a job function; "
            f"use 1 to {MAX_NAME} printable "
            "characters without white space"
        )
    return name


def check_aliases(aliases: Iterable[str], *, field: str = "aliases") -> tuple[str, ...]:
    """Names of a job function as a tuple.

    Raises RegistrationError for a wrong name, and for a text instead of a list.
    """
    # A text is iterable, too: each of its letters would become an alias.
    if isinstance(aliases, str) or not isinstance(aliases, Iterable):
        raise RegistrationError(
            f"{field}={shown(aliases)} must be a list of names: [{shown(aliases)}]"
        )
    return tuple(check_function_name(alias) for alias in aliases)


def _is_plain(value: Any, most: int) -> bool:
    """Whether the value is a text of 1 to `most` printable characters without white space."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= most
        and value.isprintable()
        and " " not in value
    )


def parse_priority(value: PriorityValue, *, field: str = "priority") -> Priority:
    """The priority with this name. Raises ConfigError naming `field`."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value in _PRIORITIES:
        return _PRIORITIES[value]
    raise ConfigError(f"{field} must be one of {', '.join(_PRIORITIES)}, not {shown(value)}")


def check_tracing(value: Any, *, field: str = "tracing") -> TracingMode:
    """`value`, if it is a mode of tracing. Raises ConfigError naming `field`."""
    if value not in _TRACING:
        raise ConfigError(f"{field} must be one of {', '.join(_TRACING)}, not {shown(value)}")
    mode: TracingMode = value
    return mode


def check_isolation(value: Any, *, field: str = "isolation") -> str:
    """`value`, if a job function can run there. Raises ConfigError naming `field`."""
    if value not in _ISOLATIONS:
        raise ConfigError(f"{field} must be one of {', '.join(_ISOLATIONS)}, not {shown(value)}")
    return str(value)


def check_retry(value: RetryValue, *, field: str = "retry") -> Retries:
    """The retry policies of a job function. Raises ConfigError."""
    return Retries.of(value)


def check_attempts(value: int | bool, *, field: str = "retry") -> int:
    """The number of attempts that one enqueue asks for. False is one. Raises ConfigError."""
    # True is an int. As a number of attempts it would be 1, the same as False, and surprise.
    if not isinstance(value, int) or value is True:
        raise ConfigError(
            f"options({field}={shown(value)}) must be a number of attempts or False; a whole "
            "RetryPolicy belongs on the job function"
        )
    # RetryPolicy checks the limits, and has the error for a number beyond them.
    attempts = value
    if value is False:
        attempts = 1
    return RetryPolicy(max_attempts=attempts).max_attempts


def check_resumptions(value: int, *, field: str = "max_resumptions") -> int:
    """`value`, if it is a whole number from 0 to a million. Raises ConfigError."""
    if type(value) is not int or not 0 <= value <= 1_000_000:
        raise ConfigError(f"{field}={shown(value)} must be a whole number from 0 to 1,000,000")
    return value


def check_unique(value: UniqueValue | None, *, field: str = "unique") -> UniqueValue | None:
    """`value`, if it is a rule of uniqueness; None for none. Raises ConfigError naming `field`."""
    if value is not None and not isinstance(value, Unique | Debounce | Throttle):
        raise ConfigError(
            f"{field} must be a Unique, Debounce or Throttle, not {shown(value)}; write "
            f"{field}=Unique() for one job with the same arguments at a time"
        )
    return value


def check_exceptions(value: ExceptionClasses, *, field: str) -> tuple[type[BaseException], ...]:
    """Exception classes as a tuple. Raises ConfigError naming `field`."""
    return exceptions_of(value, name=field)


def check_whole(value: Any, *, field: str, minimum: int, maximum: int = 2**53) -> int:
    """A whole number within these limits. Raises ConfigError naming `field`."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ConfigError(
            f"{field} must be a whole number from {minimum} to {maximum}, not {shown(value)}"
        )
    return value
