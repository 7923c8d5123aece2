"""The headers of a job: what it carries beside its call, from one attempt to the next.

Only this module knows their keys, and labels.py those of labels. Anyone who can write to the store
may have written them, so each reader checks its own field. Their size is bounded: they keep the
last few errors, each cut to a few thousand characters. A job that fails for days does not grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT, in_range, read_text, read_whole
from asyncjobs.model.codec import BadRecord, clean_text
from asyncjobs.model.gates import gate_header
from asyncjobs.model.labels import Labels, labels_of
from asyncjobs.model.terms import Gate, Unique

__all__ = [
    "ERRORS_MARK",
    "MAX_MESSAGE",
    "NO_HEADERS",
    "NO_META",
    "PUT_BACK_MARK",
    "SENSITIVE_MARK",
    "UNIQUE_MARK",
    "Headers",
    "PastError",
    "PutBack",
    "TickMark",
    "call_headers",
    "fields_of",
    "has_header",
    "new_headers",
    "own_headers",
    "traced",
    "unique_header",
]

KEPT: Final = 5
"""How many errors a job keeps: the newest ones."""
MAX_MESSAGE: Final = 1_000
MAX_TRACEBACK: Final = 4_000
"""Characters. Of a traceback the last ones are kept, where the cause stands."""

_ERRORS: Final = "errors"
_SPENT: Final = "spent"
_CRASHES: Final = "crashes"
_CRASHES_KEPT: Final = "crashes_kept"
_UNKNOWN_SINCE: Final = "first_unknown_at"
_UNKNOWN_TIMES: Final = "unknown_times"
_RESUMED: Final = "resumed"
_REVIVED: Final = "revived"
_REVIVED_AT: Final = "revived_at"
_SENSITIVE: Final = "sensitive"
_UNIQUE: Final = "unique"
_TRACE: Final = "t"
_TICK: Final = "tick"
_FILLS: Final = "fills"
_LOCK: Final = "lock"

_TOWARDS_THE_END: Final = (
    _SPENT,
    _CRASHES,
    _CRASHES_KEPT,
    _UNKNOWN_SINCE,
    _UNKNOWN_TIMES,
    _RESUMED,
)
"""The headers that bring a job closer to its end. A fresh start drops them."""

ERRORS_MARK: Final = b'"errors"'
"""These bytes are in each envelope with errors of failed attempts, and perhaps in others."""
SENSITIVE_MARK: Final = b'"sensitive"'
"""These bytes are in each envelope with a rule of what is sensitive, and perhaps in others. Looking
for them is much cheaper than decoding each envelope."""
UNIQUE_MARK: Final = b'"unique":'
"""The same for envelopes of unique jobs."""
PUT_BACK_MARK: Final = b'"unknown_times":'
"""The same for envelopes of jobs that were put back."""


NO_META: Final[Mapping[str, str]] = MappingProxyType({})
"""The labels of most jobs."""


class PastError(NamedTuple):
    """How one attempt failed. `at_ms` is by the worker's clock, and `worker` is its name."""

    attempt: int
    type: str
    message: str
    traceback: str
    at_ms: int
    worker: str


class PutBack(NamedTuple):
    """How often workers put a job back because they do not have its function, and since when."""

    since_ms: int
    times: int


class TickMark(NamedTuple):
    """The tick of a schedule that a job was made for. `zone` is the IANA name of its time zone."""

    schedule: str
    at_ms: int
    zone: str


class Headers:
    """The headers of one job. They never change: each `with_...` returns new ones, and keeps the
    headers that this release does not know.

    `fields` are the headers as they are stored, for code that encodes or decodes them.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def of(cls, stored: Any) -> Headers:
        """The headers in an envelope. What is no object counts as no headers."""
        if type(stored) is dict and stored:
            return cls(stored)
        return NO_HEADERS

    def __bool__(self) -> bool:
        return bool(self.fields)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self.fields)}>"

    # -- failed attempts --------------------------------------------------------------

    def errors(self) -> list[PastError]:
        """The errors of failed attempts, oldest first. Entries that are no errors are skipped."""
        known = self.fields.get(_ERRORS)
        # Not our list: the job runs all the same, only its history is missing.
        if not isinstance(known, list):
            return []
        return [_past_error(entry) for entry in known[-KEPT:] if isinstance(entry, dict)]

    def with_error(self, error: PastError) -> Headers:
        """The same with one more error. Only the newest few are kept."""
        entry = {
            "n": error.attempt,
            "t": clean_text(error.type[:MAX_MESSAGE]),
            "m": clean_text(error.message[:MAX_MESSAGE]),
            "b": clean_text(error.traceback[-MAX_TRACEBACK:]),
            "e": error.at_ms,
            "w": clean_text(error.worker[:MAX_MESSAGE]),
        }
        before = self.fields.get(_ERRORS)
        if not isinstance(before, list):
            before = []
        return Headers({**self.fields, _ERRORS: [*before, entry][-KEPT:]})

    def spent(self) -> dict[str, int]:
        """How many failures each retry policy has counted, by its key. Invalid counts are left
        out."""
        known = self.fields.get(_SPENT)
        if not isinstance(known, dict):
            return {}
        return {
            key: count
            for key, count in known.items()
            if type(count) is int and 0 < count <= MOST_COUNT
        }

    def with_spent(self, key: str, failures: int) -> Headers:
        """The same, with this many failures counted by the retry policy with this key."""
        return Headers({**self.fields, _SPENT: {**self.spent(), key: failures}})

    def resumptions(self) -> int:
        """How often the job was resumed after an error, because its attempt had brought it
        forward."""
        return in_range(self.fields.get(_RESUMED), MOST_COUNT)

    def with_resumptions(self, times: int) -> Headers:
        """The same for a job that was resumed so often."""
        return Headers({**self.fields, _RESUMED: times})

    # -- crashes of workers -----------------------------------------------------------

    def crashes(self) -> tuple[int, int] | None:
        """The workers that died with this job, as far as the store does not count them: since the
        end of its last attempt, and before that. None for most jobs.

        Raises BadRecord for what is no count. If it were read as 0, a job that kills its workers
        would get all its chances again.
        """
        fields = self.fields
        if _CRASHES not in fields and _CRASHES_KEPT not in fields:
            return None
        try:
            # rule:15 a count of crashes that is none is not read as a small one
            return read_whole(fields, _CRASHES_KEPT), read_whole(fields, _CRASHES)
        except ValueError as error:
            raise BadRecord(f"among its headers {error}") from None

    def with_crashes(self, crashes: int) -> Headers:
        """The same after the end of an attempt. `crashes` workers have died with this job so far.

        The store counts crashes only as long as the job keeps its place in the queue.
        """
        fields = self.fields
        if not crashes and _CRASHES_KEPT not in fields:
            return self
        # `crashes` has them already: counted again, they would be twice as many.
        fields = {key: value for key, value in fields.items() if key != _CRASHES_KEPT}
        if crashes:
            fields[_CRASHES] = crashes
        return Headers(fields)

    # -- functions that a worker does not have ----------------------------------------

    def put_back(self, now_ms: int) -> PutBack:
        """How often it was put back, and since when. A time after `now_ms` is ignored: it would
        keep the job for ever."""
        since_ms = in_range(self.fields.get(_UNKNOWN_SINCE), now_ms) or now_ms
        return PutBack(since_ms, in_range(self.fields.get(_UNKNOWN_TIMES), MOST_COUNT - 1))

    def with_put_back(self, put_back: PutBack, crashes: int) -> Headers:
        """The same after one more put-back. `crashes`: those that the store has counted here."""
        fields = dict(self.fields)
        if crashes:
            # The job loses its place, and the store forgets the count. Without a copy here, a
            # job that kills each worker that knows it could do so for ever, as long as other
            # workers put it back in between.
            fields[_CRASHES_KEPT] = in_range(fields.get(_CRASHES_KEPT), MOST_COUNT) + crashes
        fields[_UNKNOWN_SINCE] = put_back.since_ms
        fields[_UNKNOWN_TIMES] = put_back.times
        return Headers(fields)

    # -- fresh starts -----------------------------------------------------------------

    def revivals(self) -> tuple[int, int | None]:
        """How often this job was dead and started anew, and when last (epoch milliseconds)."""
        times = self.fields.get(_REVIVED)
        if type(times) is not int or not 1 <= times < MOST_COUNT:
            return 0, None
        return times, in_range(self.fields.get(_REVIVED_AT), LAST_MS) or None

    def with_revival(self, last: PastError, at_ms: int) -> Headers:
        """The same for a job that ended with this error, and starts anew at `at_ms` (epoch)."""
        # The errors stay: whoever looks into the job wants to see why it was dead.
        fields = {key: value for key, value in self.fields.items() if key not in _TOWARDS_THE_END}
        times, _ = self.revivals()
        fields[_REVIVED] = times + 1
        fields[_REVIVED_AT] = at_ms
        return Headers(fields).with_error(last)

    # -- schedules --------------------------------------------------------------------

    @property
    def tick(self) -> TickMark | None:
        """The tick that the job was made for; None for a job that no schedule has made."""
        stored = self.fields.get(_TICK)
        if not isinstance(stored, dict):
            return None
        try:
            schedule = read_text(stored, "s")
            zone = read_text(stored, "z")
            return TickMark(schedule, read_whole(stored, "at", LAST_MS), zone)
        except ValueError:
            # Not ours. The job runs all the same, as one that no schedule has made.
            return None

    def with_tick(self, tick: TickMark) -> Headers:
        """The same for a job that is made for this tick. A retry keeps it."""
        mark = {"s": tick.schedule, "at": tick.at_ms, "z": tick.zone}
        return Headers({**self.fields, _TICK: mark})

    def fills(self) -> list[tuple[int | str, str]]:
        """The placeholders in the call of a schedule: position or keyword, and the word for what
        each tick puts there. Raises BadRecord for what is no placeholder: a job without its
        argument must not run."""
        stored = self.fields.get(_FILLS, [])
        if not isinstance(stored, list):
            raise BadRecord("its placeholders are no list")
        found: list[tuple[int | str, str]] = []
        for entry in stored:
            match entry:
                case [int() | str() as place, str() as word] if place is not True:
                    found.append((place, word))
                case _:
                    raise BadRecord("one of its placeholders cannot be read")
        return found

    def call_key(self) -> tuple[Unique, int] | None:
        """In the call of a schedule: the unique key of its jobs, and how long each of them waits
        first, in ms. None for most. Raises BadRecord: without its key a job must not run."""
        stored = self.fields.get(_LOCK)
        if stored is None:
            return None
        match stored:
            case [
                str(key),
                "finished" | "started" | "window" as until,
                int(ttl_ms),
                bool(replace),
                bool(hold),
                int() | None as latest_ms,
                int(delay_ms),
            ] if key and 0 < ttl_ms <= LAST_MS and 0 <= delay_ms <= LAST_MS:
                if latest_ms is None or 0 < latest_ms <= LAST_MS:
                    raw = key.encode("utf-8", "surrogateescape")
                    return Unique(raw, until, ttl_ms, replace, hold, latest_ms), delay_ms
        raise BadRecord("its unique key cannot be read")

    def of_job(self) -> Headers:
        """Those of a call for one of its jobs, whose placeholders are filled in."""
        fields = {key: value for key, value in self.fields.items() if key not in (_FILLS, _LOCK)}
        found = self.call_key()
        if found is not None:
            fields |= unique_header(found[0])
        return Headers(fields)

    # -- what others write, and read themselves ---------------------------------------

    @property
    def trace(self) -> Any:
        """What telemetry/carrier.py has stored, unchecked; None if there is nothing."""
        return self.fields.get(_TRACE)

    def with_trace(self, carrier: dict[str, Any] | None) -> Headers:
        """The same with this carrier; None: without any."""
        fields = {key: value for key, value in self.fields.items() if key != _TRACE}
        if carrier is not None:
            fields[_TRACE] = carrier
        return Headers(fields)

    @property
    def unique(self) -> Unique | None:
        """The key that the job has to hold; None for most jobs, and for what is no such header."""
        match self.fields.get(_UNIQUE):
            case [str(key), "finished" | "started" | "window" as until, int(ttl_ms)]:
                ttl_ms = in_range(ttl_ms, LAST_MS)
                if key and ttl_ms:
                    return Unique(key.encode("utf-8", "surrogateescape"), until, ttl_ms)
        return None

    @property
    def labels(self) -> Labels:
        """The labels and tags of the job."""
        return Labels.of(self.fields)

    @property
    def is_sensitive(self) -> bool:
        """Whether there is a rule of what is sensitive, readable or not."""
        return _SENSITIVE in self.fields

    @property
    def sensitive(self) -> Any:
        """The rule that policy/redaction.py has stored, unchecked; None if there is none."""
        return self.fields.get(_SENSITIVE)


NO_HEADERS: Final = Headers({})
"""Most jobs have no headers, so they share this object."""


def has_header(headers: Headers, key: str) -> bool:
    """Whether there is a header with this key."""
    return key in headers.fields


def fields_of(headers: Headers) -> dict[str, Any]:
    """A copy of the headers, as they are stored."""
    return dict(headers.fields)


def own_headers(
    sensitive: dict[str, Any] | None, meta: Mapping[str, str], tags: Sequence[str]
) -> dict[str, Any] | None:
    """The headers that all jobs of one template have, as stored: the rule of what must not be shown
    (from policy/redaction.py), the labels and the tags. None for most."""
    own = labels_of(meta, tags)
    if sensitive is not None:
        own[_SENSITIVE] = sensitive
    return own or None


def traced(carrier: dict[str, Any]) -> dict[str, Any]:
    """The header of a job that carries this."""
    return {_TRACE: carrier}


def new_headers(own: dict[str, Any] | None, trace: dict[str, Any] | None) -> dict[str, Any]:
    """The headers of a new job, as stored: those of its template, and the trace (from
    telemetry/carrier.py)."""
    if trace is None:
        return own or {}
    if own is None:
        return {_TRACE: trace}
    return {**own, _TRACE: trace}


def unique_header(unique: Unique) -> dict[str, Any]:
    """The header of a unique job, as stored: a dead one has to take its key again."""
    key = unique.key.decode("utf-8", "surrogateescape")
    return {_UNIQUE: [key, unique.until, unique.ttl_ms]}


def call_headers(
    own: dict[str, Any] | None,
    fills: Sequence[tuple[int | str, str]],
    key: tuple[Unique, int] | None,
    gate: Gate | None = None,
) -> dict[str, Any]:
    """The headers in the call of a schedule, as stored: those of its template, `fills`, the unique
    key of its jobs with the time that each of them waits first, in ms, and their gate."""
    headers = new_headers(own, None)
    if gate is not None:
        headers = {**headers, **gate_header(gate)}
    if key is not None:
        unique, delay_ms = key
        text = unique.key.decode("utf-8", "surrogateescape")
        headers = {**headers, _LOCK: [text, *unique[1:], delay_ms]}
    if fills:
        return {**headers, _FILLS: [list(fill) for fill in fills]}
    return headers


def _past_error(entry: dict[str, Any]) -> PastError:
    def text(key: str) -> str:
        value = entry.get(key)
        if isinstance(value, str):
            return value
        return ""

    return PastError(
        in_range(entry.get("n"), MOST_COUNT),
        text("t"),
        text("m"),
        text("b"),
        in_range(entry.get("e"), LAST_MS),
        text("w"),
    )
