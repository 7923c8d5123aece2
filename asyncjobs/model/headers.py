"""The headers of a job: what travels beside its call, from one attempt to the next.

Their keys are known here and nowhere else. Whoever can write to the store may have written
them, so each reader checks its own field. They are bounded: the last few errors, each cut to
a few thousand characters, so that a job that fails for days does not grow.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT, in_range, read_whole
from asyncjobs.model.codec import BadRecord, clean_text

__all__ = [
    "MAX_MESSAGE",
    "NO_HEADERS",
    "PUT_BACK_MARK",
    "SENSITIVE_MARK",
    "Headers",
    "PastError",
    "PutBack",
    "new_headers",
]

KEPT: Final = 5
"""Errors that stay with a job: the newest ones."""
MAX_MESSAGE: Final = 1_000
MAX_TRACEBACK: Final = 4_000
"""Characters; of a traceback from its end, where the cause stands."""

_ERRORS: Final = "errors"
_SPENT: Final = "spent"
_CRASHES: Final = "crashes"
_CRASHES_KEPT: Final = "crashes_kept"
_UNKNOWN_SINCE: Final = "first_unknown_at"
_UNKNOWN_TIMES: Final = "unknown_times"
_REVIVED: Final = "revived"
_REVIVED_AT: Final = "revived_at"
_SENSITIVE: Final = "sensitive"
_TRACE: Final = "t"

_TOWARDS_THE_END: Final = (_SPENT, _CRASHES, _CRASHES_KEPT, _UNKNOWN_SINCE, _UNKNOWN_TIMES)
"""What counts towards the end of a job: a fresh start is made without it."""

SENSITIVE_MARK: Final = b'"sensitive"'
"""Stands in each envelope that has a rule of what is sensitive, and perhaps in others."""
PUT_BACK_MARK: Final = b'"unknown_times":'
"""Stands in each envelope that was put back, and perhaps in others."""


class PastError(NamedTuple):
    """How one attempt failed. `at_ms` by the worker's clock; `worker` is its name."""

    attempt: int
    type: str
    message: str
    traceback: str
    at_ms: int
    worker: str


class PutBack(NamedTuple):
    """Since when and how often a job was put back because a worker did not have its function."""

    since_ms: int
    times: int


class Headers:
    """The headers of one job. Never changed: each `with_...` returns other ones, in which
    whatever it does not know stays as it is.

    `fields` are the headers as they are stored. Only what stores and reads them looks there.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def of(cls, stored: Any) -> Headers:
        """What is stored where headers should be; none when it is something else."""
        return cls(stored) if type(stored) is dict and stored else NO_HEADERS

    def __bool__(self) -> bool:
        return bool(self.fields)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self.fields)}>"

    # -- failed attempts --------------------------------------------------------------

    def errors(self) -> list[PastError]:
        """The errors of failed attempts, oldest first; what is none is passed over."""
        known = self.fields.get(_ERRORS)
        if not isinstance(known, list):
            return []
        return [_past_error(entry) for entry in known[-KEPT:] if isinstance(entry, dict)]

    def with_error(self, error: PastError) -> Headers:
        """One more error; the oldest ones give way."""
        entry = {
            "n": error.attempt,
            "t": clean_text(error.type[:MAX_MESSAGE]),
            "m": clean_text(error.message[:MAX_MESSAGE]),
            "b": clean_text(error.traceback[-MAX_TRACEBACK:]),
            "e": error.at_ms,
            "w": clean_text(error.worker[:MAX_MESSAGE]),
        }
        known = self.fields.get(_ERRORS)
        before = known if isinstance(known, list) else []
        return Headers({**self.fields, _ERRORS: [*before, entry][-KEPT:]})

    def spent(self) -> dict[str, int]:
        """The failures that each retry policy has counted, by its key; what is no such number
        is left out."""
        known = self.fields.get(_SPENT)
        if not isinstance(known, dict):
            return {}
        return {
            key: count
            for key, count in known.items()
            if type(count) is int and 0 < count <= MOST_COUNT
        }

    def with_spent(self, key: str, failures: int) -> Headers:
        """The retry policy with this key has now counted so many failures."""
        return Headers({**self.fields, _SPENT: {**self.spent(), key: failures}})

    # -- crashes of workers -----------------------------------------------------------

    def crashes(self) -> tuple[int, int] | None:
        """The workers that died with this job, beside those that the store counts: since its
        last attempt came to an end, and before that; None for most jobs.

        Raises BadRecord for what is no count: read as 0, a job that kills its workers would
        get all its chances anew.
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
        """An attempt came to an end, and so many workers have died with this job until now.

        The store counts crashes for one place in the queue; a new place starts at none.
        """
        fields = self.fields
        if not crashes and _CRASHES_KEPT not in fields:
            return self
        fields = {key: value for key, value in fields.items() if key != _CRASHES_KEPT}
        if crashes:
            fields[_CRASHES] = crashes
        return Headers(fields)

    # -- functions that a worker does not have ----------------------------------------

    def put_back(self, now_ms: int) -> PutBack:
        """Since when and how often it was put back. A time that lies ahead of `now_ms` counts
        as none: it would keep the job for ever."""
        since_ms = in_range(self.fields.get(_UNKNOWN_SINCE), now_ms) or now_ms
        return PutBack(since_ms, in_range(self.fields.get(_UNKNOWN_TIMES), MOST_COUNT - 1))

    def with_put_back(self, put_back: PutBack, crashes: int) -> Headers:
        """It is put back; `crashes` are those that the store has counted at this place."""
        fields = dict(self.fields)
        if crashes:
            # The store counts for one place in the queue. Forgotten here, a job that kills
            # each worker that knows it would do so for ever beside workers that do not.
            fields[_CRASHES_KEPT] = in_range(fields.get(_CRASHES_KEPT), MOST_COUNT) + crashes
        fields[_UNKNOWN_SINCE] = put_back.since_ms
        fields[_UNKNOWN_TIMES] = put_back.times
        return Headers(fields)

    # -- fresh starts -----------------------------------------------------------------

    def revivals(self) -> tuple[int, int | None]:
        """How often this job was dead and started anew, and when last (ms since the epoch)."""
        times = self.fields.get(_REVIVED)
        if type(times) is not int or not 1 <= times < MOST_COUNT:
            return 0, None
        return times, in_range(self.fields.get(_REVIVED_AT), LAST_MS) or None

    def with_revival(self, last: PastError, at_ms: int) -> Headers:
        """It starts anew at `at_ms` (epoch) after it has ended with this error."""
        fields = {key: value for key, value in self.fields.items() if key not in _TOWARDS_THE_END}
        times, _ = self.revivals()
        fields[_REVIVED] = times + 1
        fields[_REVIVED_AT] = at_ms
        return Headers(fields).with_error(last)

    # -- what others write, and read themselves ---------------------------------------

    @property
    def trace(self) -> Any:
        """What telemetry/carrier.py has stored, unchecked; None without it."""
        return self.fields.get(_TRACE)

    def with_trace(self, carrier: dict[str, Any]) -> Headers:
        """It carries this from now on."""
        return Headers({**self.fields, _TRACE: carrier})

    @property
    def is_sensitive(self) -> bool:
        """Whether there is a rule of what is sensitive, even one that cannot be read."""
        return _SENSITIVE in self.fields

    @property
    def sensitive(self) -> Any:
        """The rule that policy/redaction.py has stored, unchecked; None without one."""
        return self.fields.get(_SENSITIVE)


NO_HEADERS: Final = Headers({})
"""Those of most jobs: one for all."""


def new_headers(sensitive: dict[str, Any] | None, trace: dict[str, Any] | None) -> dict[str, Any]:
    """The headers of a new job, as stored: the rule of what must not be shown, as
    policy/redaction.py gives it, and what telemetry/carrier.py sends along."""
    if trace is None:
        return {} if sensitive is None else {_SENSITIVE: sensitive}
    if sensitive is None:
        return {_TRACE: trace}
    return {_SENSITIVE: sensitive, _TRACE: trace}


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
