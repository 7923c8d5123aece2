"""Events that jobs wait for: what is sent, who waits, and what becomes of a wait."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from asyncjobs.model.job import TakenJob

__all__ = [
    "LONGEST_WAIT_MS",
    "MOST_EVENT_BYTES",
    "MOST_NAME_BYTES",
    "Awaited",
    "EventWait",
    "NewEvent",
    "Sent",
    "Waited",
    "awaits",
    "name_fault",
    "time_mark",
]

MOST_NAME_BYTES: Final = 512
"""The most bytes of the name of an event, and of its key."""

MOST_EVENT_BYTES: Final = 64 << 10
"""The most bytes of the value of an event, as JSON. Each job that waits for it keeps a copy."""

LONGEST_WAIT_MS: Final = 366 * 86_400_000
"""Every wait ends: a job that nobody ever wakes would be kept for ever."""


class NewEvent(NamedTuple):
    """An event to send. Jobs wait for its `name` and `key`; `value` is for them to read.

    Neither name nor key has control characters (`name_fault`). A store refuses nothing else.
    `token` is new for each event: one that is sent again with its token, because a reply was lost,
    is kept once, unless another one with its name and key came in between. '' is no token.
    """

    name: str
    key: str
    value: bytes
    token: str = ""


class Sent(NamedTuple):
    """What became of an event in one queue: its id there, and how many jobs it has woken."""

    id: str
    woken: int


class EventWait(NamedTuple):
    """A running job that waits for an event.

    What it waits for is written into its note `note`, in the step in which that is known. So the
    job finds it there each time that it runs again, and a repeated question has the same answer.

    `after`: only an event behind this one counts; the id of an event, or a time as `time_mark`
    writes it. `over` is written into the note when nothing has come in `timeout_ms`.
    """

    job: TakenJob
    name: str
    key: str
    note: str
    after: str
    timeout_ms: int
    over: bytes


Waited: TypeAlias = Literal["come", "over", "waits"]


class Awaited(NamedTuple):
    """How a wait stands. `waits`: until `until_ms`, by the store's clock; that is in `left_ms`.
    Else the note is `written`: `come` is an event, its id and a blank in front of its value; `over`
    is the time-out.
    """

    how: Waited
    written: bytes = b""
    until_ms: int = 0
    left_ms: int = 0


def time_mark(ms: int) -> str:
    """A time (ms since the epoch) as `EventWait.after` has it: as the ids of events begin."""
    return f"{ms:013d}"


def awaits(name: str, key: str) -> str:
    """`JobRecord.held_by` of a job that waits for this event."""
    if key:
        name = f"{name}:{key}"
    return f"event {name}"


def name_fault(text: str, what: str) -> str:
    """What is wrong with the name or the key of an event, '' for nothing."""
    # Stores put them side by side, with a control character in between.
    if any(letter < " " or letter == "\x7f" for letter in text):
        return f"{what} {text[:100]!r} has a control character"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"{what} {text[:100]!r} is no text that UTF-8 can write"
    if size > MOST_NAME_BYTES:
        return f"{what} {text[:40]!r}… has {size:,} bytes; use at most {MOST_NAME_BYTES}"
    return ""
