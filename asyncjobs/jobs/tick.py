"""Ticks of schedules: the call that a schedule stores, and the job that one tick makes of it.

A call is an envelope without a time. Its arguments may be placeholders, which each tick fills in.
They are members of an enumeration and stand for whole arguments. So nothing in a stored call is
ever evaluated, and no text of a user can be taken for a placeholder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from asyncjobs.errors import ConfigError, EncodeError
from asyncjobs.jobs.context import in_zone
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, name_in
from asyncjobs.model.headers import TickMark
from asyncjobs.model.job import NewJob

__all__ = ["FromTick", "ScheduledCall", "check_call", "job_of_tick", "scheduled_call"]


class FromTick(StrEnum):
    """A placeholder in the arguments of a schedule: `args=("eu", FromTick.DATE)`.

    Each tick puts a text in its place. It stands for a whole argument, never for a part of one.
    """

    TIME = "time"
    """The time of the tick in the schedule's zone, in ISO 8601: `2026-10-25T02:30:00+02:00`."""
    DATE = "date"
    """The day of the tick in the schedule's zone: `2026-10-25`."""
    SCHEDULE = "schedule"
    """The id of the schedule."""


_WORDS: Final = frozenset(tick.value for tick in FromTick)


class ScheduledCall(NamedTuple):
    """What a schedule calls. `raw` is an envelope without a time; see `job_of_tick`."""

    queue: str
    priority: int
    raw: bytes

    @property
    def name(self) -> str:
        """The name of its job function; '' if the call cannot be read."""
        return name_in(self.raw)


def check_call(
    function: JobFunction[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Raises ArgumentsError or EncodeError for arguments with which no job could be made, and
    ConfigError for options that belong to a single job."""
    options = function.settings
    # Its jobs would run beside one that holds the key, and nobody would know.
    # rule:23 no schedule makes jobs that ought to hold a unique key
    if "unique" in function.needs:
        raise ConfigError(
            f"{function.name}: its jobs hold a unique key, which those of a schedule cannot; let "
            "the schedule's overlap decide with options(unique=None), or schedule a job function "
            "that enqueues it"
        )
    for name, is_given in (
        ("id", options.id is not None),
        ("delay or at", bool(options.due.after_ms) or options.due.at_ms is not None),
        ("expires with a datetime", options.expires is not None and options.expires.at_ms),
    ):
        if is_given:
            raise ConfigError(
                f"{function.name}: a schedule makes many jobs, so its call cannot have the option "
                f"{name}; leave it out"
            )
    # Texts stand for the placeholders, as they will in the job.
    filled, _ = _without_placeholders(args, kwargs)
    function.binding.check(*filled)
    function.binding.check_values(*filled)


def scheduled_call(
    function: JobFunction[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> ScheduledCall:
    """The call to store, with the function's options. Raises like `check_call`."""
    check_call(function, args, kwargs)
    (plain_args, plain_kwargs), fills = _without_placeholders(args, kwargs)
    options = function.settings
    raw = function.template.new_call(plain_args, plain_kwargs, fills)
    return ScheduledCall(options.queue, options.priority, raw)


def job_of_tick(call: ScheduledCall, job_id: str, mark: TickMark, now_ms: int) -> NewJob:
    """The job that this tick makes. `now_ms`: the time of its enqueue, by the store's clock.

    Raises BadRecord or NewerEnvelope for a call that this release cannot read.
    """
    envelope = Envelope.decode(call.raw)
    texts = _texts(mark)
    for place, word in envelope.headers.fills():
        # A later release may have more words. Without its argument the job must not run.
        if word not in _WORDS:
            raise BadRecord(f"the placeholder {word!r:.40} is unknown to this release")
        if isinstance(place, int) and place < len(envelope.args):
            envelope.args[place] = texts[word]
        elif isinstance(place, str):
            envelope.kwargs[place] = texts[word]
    if envelope.expires_ms is not None:
        # Stored for an enqueue at 0.
        envelope.expires_ms += now_ms
    # By the store's clock, as all workers have it. Their own may differ by seconds.
    envelope.enqueued_ms = now_ms
    envelope.headers = envelope.headers.without_fills().with_tick(mark)
    try:
        raw = envelope.encode()
    except EncodeError as error:
        raise BadRecord(str(error)) from error
    return NewJob(call.queue, job_id, call.priority, raw)


def _texts(mark: TickMark) -> dict[str, str]:
    at = in_zone(mark.at_ms, mark.zone)
    return {"time": at.isoformat(), "date": at.date().isoformat(), "schedule": mark.schedule}


def _without_placeholders(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], list[tuple[int | str, str]]]:
    """The arguments with an empty text for each placeholder, and where the placeholders stand."""
    plain = tuple(_plain(value) for value in args)
    named = {name: _plain(value) for name, value in kwargs.items()}
    return (plain, named), list(_placeholders(args, kwargs))


def _plain(value: Any) -> Any:
    if isinstance(value, FromTick):
        return ""
    return value


def _placeholders(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[int | str, str]]:
    places: list[tuple[int | str, Any]] = [*enumerate(args)]
    for place, value in [*places, *kwargs.items()]:
        if isinstance(value, FromTick):
            yield place, value.value
