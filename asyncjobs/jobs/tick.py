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
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.times import in_zone
from asyncjobs.jobs.typed import Placeholder, Written
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, gate_in, name_in
from asyncjobs.model.headers import TickMark
from asyncjobs.model.job import NewJob
from asyncjobs.model.schedules import Overlap
from asyncjobs.model.terms import Terms, Unique

__all__ = ["FromTick", "ScheduledCall", "check_call", "job_of_tick", "scheduled_call"]


class FromTick(Placeholder, StrEnum):
    """A placeholder in the arguments of a schedule: `args=("eu", FromTick.DATE)`.

    Each tick puts a text in its place. It stands for a whole argument, never for a part of one.
    """

    TIME = "time"
    """The time of the tick in the schedule's zone, in ISO 8601: `2026-10-25T02:30:00+02:00`."""
    DATE = "date"
    """The day of the tick in the schedule's zone: `2026-10-25`."""
    SCHEDULE = "schedule"
    """The id of the schedule."""


_SAMPLES: Final = {
    FromTick.TIME: ("2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
    FromTick.DATE: ("2026-10-25", "2026-10-26"),
    FromTick.SCHEDULE: ("1", "2"),
}
"""For each placeholder two texts as ticks write them."""
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
    function: JobFunction[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    overlap: Overlap = Overlap.ALLOW,
) -> None:
    """Raises ArgumentsError or EncodeError for arguments with which no job could be made, and
    ConfigError for options that belong to a single job, and for a unique key that does not fit the
    ticks or the overlap."""
    function.binding.check(args, kwargs)
    template = function.template
    # Texts stand for the placeholders, as they will in the job.
    found = template.call_key(*_stored(function, args, kwargs, 0))
    options = function.settings
    # A debounce makes a delay of its own, which each job of the schedule has.
    own_ms = 0
    if found is not None:
        own_ms = found[1]
    for name, is_given in (
        ("id", options.id is not None),
        ("delay or at", options.due.after_ms != own_ms or options.due.at_ms is not None),
        ("expires with a datetime", options.expires is not None and options.expires.at_ms),
    ):
        if is_given:
            raise ConfigError(
                f"{function.name}: a schedule makes many jobs, so its call cannot have the option "
                f"{name}; leave it out"
            )
    queue = _queue_of(function, args, kwargs, 0)
    # A schedule stands in one queue, with its jobs.
    if options.route is not None and queue != _queue_of(function, args, kwargs, 1):
        raise ConfigError(
            f"{function.name}: its queue comes from an argument that each tick fills in, and a "
            "schedule has one queue; give that argument a value, or write options(queue=...)"
        )
    _check_gate(function, args, kwargs)
    if found is None:
        return
    # rule:23 a key that each tick would change is refused
    if found != template.call_key(*_stored(function, args, kwargs, 1)):
        raise ConfigError(
            f"{function.name}: its unique key comes from an argument that each tick fills in, and "
            "is stored with the schedule; leave that argument out of by="
        )
    _check_overlap(function.name, found[0], overlap)


def _check_gate(
    function: JobFunction[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    template = function.template
    first = template.call_gate(*_stored(function, args, kwargs, 0))
    # A key by a date would stay that of the day on which the schedule was stored.
    # rule:39 a key of a limit that each tick would change is refused
    if first != template.call_gate(*_stored(function, args, kwargs, 1)):
        raise ConfigError(
            f"{function.name}: its limits depend on an argument that each tick fills in, and are "
            "stored with the schedule; leave that argument out of by="
        )


def _check_overlap(name: str, unique: Unique, overlap: Overlap) -> None:
    # rule:23 no job waits for two keys
    if overlap is Overlap.QUEUE_ONE:
        raise ConfigError(
            f"{name}: its jobs hold a unique key, and with overlap='queue_one' they would wait for "
            "a second one; use overlap='allow' with Unique(on_conflict='keep_latest'), or "
            "options(unique=None)"
        )
    # It would ask the earlier job to stop, and then find that this one has the key still.
    if overlap is Overlap.CANCEL_RUNNING and not (unique.hold or unique.until == "started"):
        raise ConfigError(
            f"{name}: with overlap='cancel_running' a job that stops still has the unique key of "
            "the next one; use Unique(on_conflict='keep_latest'), or options(unique=None)"
        )


def scheduled_call(
    function: JobFunction[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    overlap: Overlap = Overlap.ALLOW,
) -> ScheduledCall:
    """The call to store, with the function's options. Raises like `check_call`."""
    check_call(function, args, kwargs, overlap)
    stored_args, stored_kwargs = _stored(function, args, kwargs, 0)
    options = function.settings
    places = list(_placeholders(args, kwargs))
    # Each tick writes its own text there. Until then there is none.
    blank = tuple("" if place in dict(places) else each for place, each in enumerate(stored_args))
    stored_kwargs |= {place: "" for place, _ in places if isinstance(place, str)}
    raw = function.template.new_call(blank, stored_kwargs, places)
    queue = _queue_of(function, args, kwargs, 0)
    return ScheduledCall(queue, options.priority, raw)


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
    found = envelope.headers.call_key()
    envelope.headers = envelope.headers.of_job().with_tick(mark)
    try:
        raw = envelope.encode()
    except EncodeError as error:
        raise BadRecord(str(error)) from error
    job = NewJob(call.queue, job_id, call.priority, raw)
    gate = gate_in(call.raw)
    if found is None and gate is None:
        return job
    unique, delay_ms = found or (None, 0)
    # Like an enqueue at this moment, so a debounce counts from now on.
    return job._replace(delay_ms=delay_ms, terms=Terms(unique=unique, gate=gate))


def _texts(mark: TickMark) -> dict[str, str]:
    at = in_zone(mark.at_ms, mark.zone)
    return {"time": at.isoformat(), "date": at.date().isoformat(), "schedule": mark.schedule}


def _stored(
    function: JobFunction[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], sample: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as JSON, with a sample in place of each placeholder.

    Raises ArgumentsError and EncodeError, also for a placeholder whose text its parameter does not
    take.
    """
    filled = tuple(_filled(value, sample) for value in args)
    named = {name: _filled(value, sample) for name, value in kwargs.items()}
    if not function.binding.is_typed:
        # Nothing says what the texts have to fit.
        filled = tuple(_text(value) for value in filled)
        named = {name: _text(value) for name, value in named.items()}
    return function.binding.stored(filled, named)


def _queue_of(
    function: JobFunction[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], sample: int
) -> str:
    """The queue of the call, with a sample in place of each placeholder."""
    stored = _stored(function, args, kwargs, sample)
    return function.template.queue_of(*function.binding.loaded(*stored))


def _text(value: Any) -> Any:
    if isinstance(value, Written):
        return value.stored
    return value


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(item, FromTick) or _has_placeholder(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(isinstance(item, FromTick) or _has_placeholder(item) for item in value)
    return False


def _filled(value: Any, sample: int) -> Any:
    if isinstance(value, FromTick):
        return Written(_SAMPLES[value][sample])
    # A placeholder is a text, too. In a list it would be stored as the word that it is.
    if _has_placeholder(value):
        raise EncodeError(
            "a part of an argument is a FromTick, which stands for a whole argument only"
        )
    return value


def _placeholders(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[int | str, str]]:
    places: list[tuple[int | str, Any]] = [*enumerate(args)]
    for place, value in [*places, *kwargs.items()]:
        if isinstance(value, FromTick):
            yield place, value.value
