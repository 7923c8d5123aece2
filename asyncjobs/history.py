"""What a job carries of its failed attempts, in the headers of its envelope.

Bounded: the last few errors, each cut to a few thousand characters, so that a job that
fails for days does not grow.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from asyncjobs.codec import BadEnvelope, Outcome, clean_text, read_dead_letter, read_fields, to_json
from asyncjobs.untrusted import LAST_MS, MOST_COUNT, in_range, read_whole

__all__ = [
    "PastError",
    "count_in",
    "end_of",
    "past_errors",
    "remember",
    "revivals",
    "revived",
    "spent_by_policy",
    "unknown_so_far",
]

KEPT: Final = 5
"""Errors that stay with a job: the newest ones."""
MAX_MESSAGE: Final = 1_000
MAX_TRACEBACK: Final = 4_000
"""Characters; of a traceback from its end, where the cause stands."""

_SPENT: Final = ("spent", "crashes", "crashes_kept", "first_unknown_at", "unknown_times")
"""Headers that count towards the end of a job: a fresh start is made without them."""


class PastError(NamedTuple):
    """How one attempt failed. `at_ms` by the worker's clock; `worker` is its name."""

    attempt: int
    type: str
    message: str
    traceback: str
    at_ms: int
    worker: str


def remember(headers: dict[str, Any] | None, error: PastError) -> dict[str, Any]:
    """`headers` with one more error, in a new dict; the oldest ones give way."""
    entry = {
        "n": error.attempt,
        "t": clean_text(error.type[:MAX_MESSAGE]),
        "m": clean_text(error.message[:MAX_MESSAGE]),
        "b": clean_text(error.traceback[-MAX_TRACEBACK:]),
        "e": error.at_ms,
        "w": clean_text(error.worker[:MAX_MESSAGE]),
    }
    headers = dict(headers or ())
    known = headers.get("errors")
    headers["errors"] = [*(known if isinstance(known, list) else ()), entry][-KEPT:]
    return headers


def past_errors(headers: dict[str, Any] | None) -> list[PastError]:
    """The errors in these headers, oldest first; what is none is passed over."""
    known = (headers or {}).get("errors")
    entries = known[-KEPT:] if isinstance(known, list) else ()
    return [_past_error(entry) for entry in entries if isinstance(entry, dict)]


def _past_error(entry: dict[str, Any]) -> PastError:
    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else ""

    return PastError(
        in_range(entry.get("n"), MOST_COUNT),
        text("t"),
        text("m"),
        text("b"),
        in_range(entry.get("e"), LAST_MS),
        text("w"),
    )


def count_in(headers: dict[str, Any], name: str) -> int:
    """A count that decides about the end of the job; 0 when it is not there.

    Raises BadEnvelope for what is no count: read as 0, a job that kills its workers would
    get all its chances anew.
    """
    try:
        # rule:15 a count of crashes that is none is not read as a small one
        return read_whole(headers, name)
    except ValueError as error:
        raise BadEnvelope(f"among its headers {error}") from None


def unknown_so_far(headers: dict[str, Any], now_ms: int) -> tuple[int, int]:
    """Since when and how often this job was put back because nobody knew its function.

    A time that lies ahead counts as none: it would keep the job for ever.
    """
    since_ms = in_range(headers.get("first_unknown_at"), now_ms) or now_ms
    return since_ms, in_range(headers.get("unknown_times"), MOST_COUNT - 1)


def spent_by_policy(headers: dict[str, Any] | None) -> dict[str, int]:
    """How many failures each retry policy has counted, by its key; what is none is left out."""
    known = (headers or {}).get("spent")
    if not isinstance(known, dict):
        return {}
    return {
        key: count for key, count in known.items() if type(count) is int and 0 < count <= MOST_COUNT
    }


def revived(letter: bytes, at_ms: int) -> bytes:
    """The envelope with which a dead job starts anew at `at_ms` (epoch): attempt 1, its
    errors kept, and as much time until it expires as it was enqueued with.

    An envelope that cannot be read comes back byte by byte. Raises BadEnvelope when
    `letter` is no dead letter at all.
    """
    outcome, raw = read_dead_letter(letter)
    try:
        fields = read_fields(raw)
    except BadEnvelope:
        return raw
    if "n" not in fields:
        return raw
    attempt, headers = in_range(fields["n"], MOST_COUNT), fields.get("h")
    headers = dict(headers) if isinstance(headers, dict) else {}
    for name in _SPENT:
        headers.pop(name, None)
    headers = remember(headers, end_of(outcome, attempt))
    headers["revived"] = revivals(headers)[0] + 1
    headers["revived_at"] = at_ms
    fields |= {"n": 1, "h": headers}
    expires_ms, enqueued_ms = fields.get("x"), fields.get("e")
    if type(expires_ms) is int and type(enqueued_ms) is int:
        # Its time is over by now, and a worker would only discard it.
        fields["x"] = min(at_ms + max(expires_ms - enqueued_ms, 0), LAST_MS)
    return to_json(fields)


def revivals(headers: dict[str, Any] | None) -> tuple[int, int | None]:
    """How often this job was dead and started anew, and when last (ms since the epoch)."""
    times, at_ms = (headers or {}).get("revived"), (headers or {}).get("revived_at")
    if type(times) is not int or not 1 <= times < MOST_COUNT:
        return 0, None
    return times, in_range(at_ms, LAST_MS) or None


def end_of(outcome: Outcome, attempt: int = 0) -> PastError:
    """The error that a job ended with; its reason where there was no exception."""
    number = outcome.attempt or attempt
    kind = outcome.error_type or outcome.reason
    return PastError(
        number, kind, outcome.message, outcome.traceback, outcome.finished_ms, outcome.worker
    )
