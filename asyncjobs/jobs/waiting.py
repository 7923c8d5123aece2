"""Waits of a job for an event, without a slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from asyncjobs.errors import EventTimeout, UsageError
from asyncjobs.guard.untrusted import LAST_MS, read_whole
from asyncjobs.jobs.converting import Codec, Plain, codec_of
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.jobs.parts import Unconvertible
from asyncjobs.jobs.seat import Seat
from asyncjobs.jobs.suspend import Suspend
from asyncjobs.model.awaiting import LONGEST_WAIT_MS, Awaited, name_fault, time_mark
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.codec import BadRecord, parse, read_fields, to_json
from asyncjobs.model.refs import JobRef

__all__ = ["EventWaits", "check_event_name", "event_value", "read_event"]

SLACK_MS: Final = 5_000
"""An event counts that was sent after the job was enqueued. Its times are by two clocks: the
store's, and that of the process that has enqueued the job. Clocks that differ by less lose none."""
_START: Final = "event:"
"""How the names of the notes begin."""
_TYPE: Final = f"{EventTimeout.__module__}.{EventTimeout.__qualname__}"
"""As a job's past errors name it."""


def check_event_name(name: object, key: object, where: str) -> None:
    """Raises UsageError for a name or a key that no event can have."""
    for what, text in (("name", name), ("key", key)):
        if not isinstance(text, str):
            raise UsageError(
                f"{where}: the {what} of an event is a text, not {type(text).__name__}; write "
                f"str({what})"
            )
        fault = name_fault(text, f"the {what}")
        if fault:
            raise UsageError(f"{where}: {fault}")
    if not name:
        raise UsageError(f"{where}: the name of an event is empty; give it one, such as 'paid'")


def event_value(value: Any) -> bytes:
    """What is stored of an event. Raises TypeError or ValueError for what JSON does not have."""
    return to_json({"v": value})


def read_event(raw: bytes) -> Any:
    """The value of an event, as `event_value` has written it. Raises BadRecord."""
    try:
        return parse(raw)["v"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecord(f"the value of an event cannot be read: {error}") from error


class EventWaits:
    """The waits of one attempt, matched with those of earlier ones by event and order: the second
    wait for an event gets the second event.

    Each has a note, into which the store writes what has become of it. So a job that runs again
    passes the waits that are behind it, without asking the store.
    """

    def __init__(
        self,
        seat: Seat,
        read: Callable[[], Awaitable[Mapping[str, bytes]]],
        ref: JobRef,
        attempt: int,
        enqueued_ms: int,
    ) -> None:
        """`read`: all notes of the job, as this attempt knows them."""
        self._seat = seat
        self._read = read
        self._ref = ref
        self._attempt = attempt
        self._since = time_mark(max(enqueued_ms - SLACK_MS, 0))
        self._made: Counter[tuple[str, str]] = Counter()
        self._behind: dict[tuple[str, str], str] = {}
        """By event: the one that the last wait has got."""
        self._is_waiting = False

    async def wait(self, name: str, key: str, timeout: Seconds | None, expected: Any = Any) -> Any:
        where = f"wait_for in {self._ref}"
        check_event_name(name, key, where)
        # Before the job waits for days: a wrong type is no fault of the event.
        codec = _codec(expected, where)
        timeout_ms = LONGEST_WAIT_MS
        if timeout is not None:
            timeout_ms = round(seconds(timeout, field="timeout") * 1000)
        if timeout_ms > LONGEST_WAIT_MS:
            raise UsageError(f"{where}: a job waits for at most {LONGEST_WAIT_MS // 86_400_000} d")
        if self._seat.is_local:
            raise UsageError(
                f"{where}: a plain call has no store that could bring it the event {name!r}; "
                "enqueue the job, and let a worker run it"
            )
        # Its notes hold one wait: a second one would silently end the first.
        if self._is_waiting:
            raise UsageError(
                f"{where}: the job waits for another event already; it waits for one at a time"
            )
        self._is_waiting = True
        try:
            value = await self._wait(name, key, timeout_ms)
        finally:
            self._is_waiting = False
        return _read_as(codec, value, f"{self._ref}: the value of the event {_shown(name, key)}")

    async def _wait(self, name: str, key: str, timeout_ms: int) -> Any:
        event = (name, key)
        self._made[event] += 1
        # The name has no control character, so each wait has a note of its own.
        base = f"{_START}{name}\0{key}\0{self._made[event]}"
        note, written = await self._look(base)
        after = self._behind.get(event, self._since)
        if written is None:
            answer = await self._ask(name, key, note, after, timeout_ms)
        elif written[:1] == b"e":
            answer = Awaited("come", written[1:])
        else:
            answer = Awaited("over", written[1:])
        if answer.how == "waits":
            # rule:31 a job that waits for an event gives its slot away
            raise Suspend(answer.left_ms / 1000, "event", has_event=True)
        if answer.how == "over":
            raise EventTimeout(
                f"{self._ref}: nobody has sent the event {_shown(name, key)} in time"
            )
        id, _, raw = answer.written.partition(b" ")
        # The next wait for this event is for one behind it.
        self._behind[event] = id.decode("ascii", "backslashreplace")
        return read_event(raw)

    async def _look(self, base: str) -> tuple[str, bytes | None]:
        """The note of a wait, and what is written there; None for nothing yet.

        An attempt that has failed by the time-out has not come further, so the next one waits
        anew, with a note of its own.
        """
        notes = await self._read()
        note, turn = base, 0
        while (written := notes.get(note)) is not None and written[:1] == b"t":
            # rule:31 a time-out that the job has passed is passed again, and no other one
            if not self._seat.has_failed(_attempt_in(written[1:]), _TYPE):
                break
            turn += 1
            note = f"{base}@{turn}"
        return note, written

    async def _ask(self, name: str, key: str, note: str, after: str, timeout_ms: int) -> Awaited:
        # A later attempt asks by it whether this time-out has ended the attempt.
        over = to_json({"attempt": self._attempt})
        return await self._seat.await_event(name, key, note, after, timeout_ms, over)


def _codec(expected: Any, where: str) -> Plain | Codec | None:
    """What reads values of this type. Raises UsageError."""
    try:
        return codec_of(expected, Types())
    except Unconvertible as error:
        raise UsageError(f"{where}: type={expected!r}: {error}") from error


def _read_as(codec: Plain | Codec | None, value: Any, what: str) -> Any:
    """The value as its type. Raises UsageError for one that does not fit."""
    try:
        if isinstance(codec, Codec):
            return codec.load(value)
        if codec is not None:
            codec.check(value)
        return value
    except Misfit as misfit:
        # The value is not quoted: nobody knows what is sensitive in it.
        raise UsageError(f"{what} does not fit: {misfit.told(None)}") from None


def _attempt_in(raw: bytes) -> int:
    """The attempt in which a wait has timed out; 0 for foreign bytes."""
    try:
        return read_whole(read_fields(raw), "attempt", most=LAST_MS)
    except (ValueError, BadRecord):
        return 0


def _shown(name: str, key: str) -> str:
    if key:
        return f"{name!r} with the key {key!r}"
    return repr(name)
