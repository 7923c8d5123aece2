"""The rule of a schedule: when it fires, and what happens to ticks that are late or in the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

from asyncjobs.errors import ConfigError
from asyncjobs.guard.nearness import nearest
from asyncjobs.guard.texts import shown
from asyncjobs.guard.untrusted import LAST_MS, read_text
from asyncjobs.jobs.tick import ScheduledCall
from asyncjobs.jobs.times import in_zone
from asyncjobs.model.clock import Seconds, at_ms, seconds
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.job import Priority
from asyncjobs.model.schedules import CatchUp, Overlap
from asyncjobs.options.checks import check_job_id, check_whole
from asyncjobs.options.durations import parse_duration
from asyncjobs.policy.calendar import Cron, Every, Once, first_after

__all__ = [
    "CallOptions",
    "CronOptions",
    "Definition",
    "Interval",
    "NewerDefinition",
    "PutOptions",
    "Rule",
    "RuleOptions",
    "ScheduleOptions",
    "check_schedule_id",
    "cron_rule",
    "every_rule",
    "once_rule",
]

Interval: TypeAlias = Seconds | str
"""A duration: a number of seconds, a timedelta, or a text such as `90s`, `5m` or `2h`."""

Calendar: TypeAlias = Cron | Every | Once

WINDOW_S: Final = 3_600.0
LONGEST_ID: Final = 200
"""A job of a schedule has the id `cron:<id>:<time>`, and an id of a job has at most 256
characters."""
VERSION: Final = 1


class RuleOptions(TypedDict, total=False):
    """The options that each schedule may have. `JobRegistry.every` explains them."""

    catch_up: Literal["none", "latest", "all"]
    window: Interval
    overlap: Literal["allow", "skip", "queue_one", "cancel_running"]
    jitter: Interval | None
    start: datetime | None
    end: datetime | None
    limit: int | None


class ScheduleOptions(RuleOptions, total=False):
    """The options of a schedule in code."""

    id: str | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


class PutOptions(RuleOptions, total=False):
    """The options of `app.schedules.put`: also the time zone of a cron expression."""

    tz: str


class CronOptions(ScheduleOptions, total=False):
    """The options of a cron schedule: also its time zone, an IANA name."""

    tz: str


class CallOptions(NamedTuple):
    """What a schedule in code says of its id and its call. `id` is None if it gives none."""

    id: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class NewerDefinition(Exception):
    """A definition that a later release has written."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a schedule fires. Never changes. Times are milliseconds since the epoch.

    `limit`: the most jobs that it makes; None without a limit.
    """

    calendar: Calendar
    catch_up: CatchUp = CatchUp.LATEST
    window_ms: int = round(WINDOW_S * 1000)
    overlap: Overlap = Overlap.ALLOW
    jitter_ms: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    limit: int | None = None

    @property
    def text(self) -> str:
        """The times of the schedule in English."""
        return self.calendar.explain()

    @property
    def times(self) -> str:
        """Its cron expression, its interval or its only time, as a user has written it."""
        match self.calendar:
            case Cron():
                return self.calendar.expression
            case Every():
                return f"every {self.calendar.every_ms / 1000:g}s"
            case Once():
                return f"at {in_zone(self.calendar.at_ms, 'UTC').isoformat()}"

    @property
    def zone(self) -> str:
        """The IANA name of its time zone."""
        if isinstance(self.calendar, Cron):
            return self.calendar.tz
        return "UTC"

    def next_after(self, ms: int) -> int | None:
        """The first tick after this time; None if there is none."""
        return first_after(self.calendar, ms, start_ms=self.start_ms, end_ms=self.end_ms)

    def fields(self) -> dict[str, Any]:
        """The rule as JSON. Fields with their defaults are left out."""
        fields: dict[str, Any] = {
            **_calendar_fields(self.calendar),
            "catch_up": self.catch_up.value,
            "window_ms": self.window_ms,
            "overlap": self.overlap.value,
            "jitter_ms": self.jitter_ms,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "limit": self.limit,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Rule:
        """The rule that `fields` has written. Raises ValueError."""
        # The checks of the calendar are those for users, and raise the errors for users.
        try:
            calendar = _read_calendar(fields)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return cls(
            calendar,
            CatchUp(read_text(fields, "catch_up")),
            _read_ms(fields, "window_ms") or 0,
            Overlap(read_text(fields, "overlap")),
            _read_ms(fields, "jitter_ms") or 0,
            _read_ms(fields, "start_ms"),
            _read_ms(fields, "end_ms"),
            _read_ms(fields, "limit"),
        )


class Definition(NamedTuple):
    """All that a schedule is: its rule and its call, as the store keeps them."""

    rule: Rule
    call: ScheduledCall

    def encode(self) -> bytes:
        """The bytes to store. Equal definitions have equal bytes."""
        # The order of the fields is part of the version, so it must not change.
        fields = {
            "v": VERSION,
            **self.rule.fields(),
            "priority": int(self.call.priority),
            "call": self.call.raw.decode(),
        }
        return to_json(fields)

    @property
    def version(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(self.encode()).hexdigest()[:16]

    @classmethod
    def decode(cls, raw: bytes, queue: str) -> Definition:
        """Raises BadRecord or NewerDefinition. Anyone who can write to the store may have written
        `raw`."""
        fields = read_fields(raw)
        version = fields.get("v")
        if type(version) is int and version > VERSION:
            raise NewerDefinition(f"its definition has version {version}, newer than {VERSION}")
        try:
            if version != VERSION:
                raise ValueError(f"version {version!r:.20}")
            priority = Priority(fields["priority"])
            call = ScheduledCall(queue, priority, read_text(fields, "call").encode())
            return cls(Rule.read(fields), call)
        except (ValueError, TypeError, KeyError) as error:
            raise BadRecord(f"its definition cannot be read: {error}") from error


# ── options ──────────────────────────────────────────────────────────────────────────


def cron_rule(expression: str, options: Mapping[str, Any]) -> tuple[Rule, CallOptions]:
    """The rule of a cron schedule, and its call. Raises ConfigError and TypeError."""
    given: dict[str, Any] = {**options}
    calendar = Cron(expression, given.pop("tz", "UTC"))
    return _rule(calendar, given, "cron")


def every_rule(interval: Interval, options: Mapping[str, Any]) -> tuple[Rule, CallOptions]:
    """The rule of a schedule that fires again and again. Raises ConfigError and TypeError."""
    # More often than each second is a loop inside of a job, not a schedule.
    every_s = _duration_s(interval, field="every", minimum=1.0)
    return _rule(Every(round(every_s * 1000)), {**options}, "every")


def once_rule(at: datetime, options: Mapping[str, Any]) -> tuple[Rule, CallOptions]:
    """The rule of a schedule that fires once. Raises ConfigError and TypeError."""
    return _rule(Once(at_ms(at)), {**options}, "at")


_OPTIONS: Final = (*ScheduleOptions.__annotations__, *RuleOptions.__annotations__)


def _rule(calendar: Calendar, options: dict[str, Any], caller: str) -> tuple[Rule, CallOptions]:
    # All names first, so that a misspelled one is reported whatever the values are.
    for name in options:
        if name not in _OPTIONS:
            raise _unexpected(name, caller)
    call = _call_options(options)
    start_ms = _moment_ms(options.get("start"), field="start")
    end_ms = _moment_ms(options.get("end"), field="end")
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise ConfigError("end must be after start; between them there is no tick")
    limit = options.get("limit")
    if limit is not None:
        # None would be "for ever", and 0 a schedule that nobody can have meant.
        check_whole(limit, field="limit", minimum=1)
    jitter = options.get("jitter")
    jitter_ms = 0
    if jitter is not None:
        jitter_ms = round(_duration_s(jitter, field="jitter") * 1000)
    window = options.get("window", WINDOW_S)
    rule = Rule(
        calendar,
        _choice(options.get("catch_up", "latest"), CatchUp, field="catch_up"),
        round(_duration_s(window, field="window") * 1000),
        _choice(options.get("overlap", "allow"), Overlap, field="overlap"),
        jitter_ms,
        start_ms,
        end_ms,
        limit,
    )
    return rule, call


def _call_options(options: Mapping[str, Any]) -> CallOptions:
    id = options.get("id")
    if id is not None:
        check_schedule_id(id)
    args = options.get("args", ())
    kwargs = options.get("kwargs", {})
    # A text is a sequence, too: each of its letters would become an argument of its own.
    if isinstance(args, str) or not isinstance(args, Sequence):
        raise ConfigError(f"args={shown(args)} must be a tuple or a list: ({shown(args)},)")
    if not isinstance(kwargs, Mapping):
        raise ConfigError(f"kwargs={shown(kwargs)} must be a dict of arguments by name")
    return CallOptions(id, tuple(args), dict(kwargs))


def check_schedule_id(id: Any) -> str:
    """`id`, if it can be the id of a schedule. Raises ConfigError."""
    checked = check_job_id(id, field="id of a schedule")
    if len(checked) > LONGEST_ID:
        raise ConfigError(
            f"the id of a schedule has at most {LONGEST_ID} characters, and {shown(id)} has "
            f"{len(checked)}"
        )
    return checked


def _duration_s(value: Any, *, field: str, minimum: float = 0.0) -> float:
    if isinstance(value, str):
        value = parse_duration(value, field=field)
    return seconds(value, field=field, minimum=minimum)


def _moment_ms(value: Any, *, field: str) -> int | None:
    if value is None:
        return None
    return at_ms(value, field=field)


def _choice(value: Any, kind: Any, *, field: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(kind)
        raise ConfigError(f"{field} must be one of {words}, not {shown(value)}") from None


def _unexpected(name: str, caller: str) -> TypeError:
    advice = ""
    near = nearest(name, (*_OPTIONS, "tz"))
    if near is not None:
        advice = f"; did you mean {near!r}?"
    return TypeError(f"{caller}() got an unexpected keyword argument {name!r}{advice}")


# ── calendars as JSON ────────────────────────────────────────────────────────────────


def _calendar_fields(calendar: Calendar) -> dict[str, Any]:
    match calendar:
        case Cron():
            return {"cron": calendar.expression, "tz": calendar.tz}
        case Every():
            return {"every_ms": calendar.every_ms}
        case Once():
            return {"at_ms": calendar.at_ms}


def _read_calendar(fields: Mapping[str, Any]) -> Calendar:
    if "cron" in fields:
        return Cron(read_text(fields, "cron"), read_text(fields, "tz"))
    every_ms = _read_ms(fields, "every_ms")
    if every_ms is not None:
        return Every(every_ms)
    once_ms = _read_ms(fields, "at_ms")
    if once_ms is None:
        raise ValueError("it has no times")
    return Once(once_ms)


def _read_ms(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    # `type`, not `isinstance`: True would pass as the number 1.
    if value is not None and (type(value) is not int or not 0 <= value <= LAST_MS):
        raise ValueError(f"{name!r} is out of range")
    return value
