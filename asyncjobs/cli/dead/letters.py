"""Dead letters as commands see them: a summary of each, filters, and the search for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from asyncjobs.cli.shared.store_command import each_by_itself
from asyncjobs.guard.texts import in_queues
from asyncjobs.jobs.readings import read_job_name
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import name_in
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.store.letters import DeadLetter, LetterKey, LetterQuery
from asyncjobs.store.looking import has_name, has_text
from asyncjobs.store.seam import Backend

__all__ = [
    "SUMMARY_BYTES",
    "Filters",
    "Matches",
    "Summary",
    "find",
    "search",
    "stored_time",
    "summarize",
]

SUMMARY_BYTES: Final = 1024
"""How many bytes of an envelope are read for a summary: the job function is named at the start."""


class Summary(NamedTuple):
    """What a dead letter says, without arguments and history; '' where it says nothing."""

    key: LetterKey
    size: int
    function: str
    reason: str
    error_type: str
    message: str
    attempts: int

    @property
    def error(self) -> str:
        """Type and message on one line."""
        first_line = self.message.strip().partition("\n")[0]
        return ": ".join(filter(None, (self.error_type, first_line)))

    def fields(self) -> dict[str, Any]:
        """The summary for JSON."""
        ref, died_ms = self.key
        error = None
        if self.error:
            error = {"type": self.error_type, "message": self.message}
        return {
            "job": str(ref),
            "queue": ref.queue,
            "id": ref.id,
            "function": self.function or None,
            "reason": self.reason or None,
            "error": error,
            "attempts": self.attempts,
            "died_at": stored_time(died_ms),
            "size": self.size,
        }


def stored_time(ms: int | None) -> datetime | None:
    """A time from the store; None also for a number that another program wrote and no date has."""
    if ms is None:
        return None
    try:
        return from_ms(ms)
    except (OverflowError, ValueError, OSError):
        return None


def summarize(letter: DeadLetter) -> Summary:
    """Read a letter, whole or only its first SUMMARY_BYTES.

    If it cannot be read, the reason is `unreadable`.
    """
    try:
        outcome, envelope = read_dead_letter(letter.letter)
    except BadRecord as error:
        problem = f"what is stored is not a dead letter: {error}"
        outcome = Outcome(State.DEAD, reason="unreadable", message=problem)
        envelope = b""
    return Summary(
        letter.key,
        letter.size,
        outcome.name or name_in(envelope),
        outcome.reason,
        outcome.error_type,
        outcome.message,
        outcome.attempt,
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """Which dead letters a command is about. None accepts every letter.

    `function` may be a pattern, and `reason` must be the whole word. `error` and `message` must be
    part of the type and the text of the error, in upper or lower case. `since_s` and `before_s` are
    seconds before the present, by the clock of the store.
    """

    queues: tuple[str, ...] = ()
    function: str | None = None
    reason: str | None = None
    error: str | None = None
    message: str | None = None
    since_s: float | None = None
    before_s: float | None = None

    @property
    def accept_all(self) -> bool:
        """Whether no filter is given."""
        return self == Filters()

    @property
    def need_contents(self) -> bool:
        """Whether letters must be read to decide. Queue and time are known without."""
        return (self.function, self.reason, self.error, self.message) != (None,) * 4

    def accept(self, letter: Summary) -> bool:
        """Whether the letter passes, apart from queue and time."""
        return (
            (self.function is None or has_name(letter.function, self.function))
            and (self.reason is None or letter.reason == self.reason)
            and (self.error is None or has_text(letter.error_type, self.error))
            and (self.message is None or has_text(letter.message, self.message))
        )


class Matches(NamedTuple):
    """The letters of one page that pass the filters; `total` counts all by queue and time alone."""

    letters: list[Summary]
    total: int


async def search(
    store: Backend, filters: Filters, queue: str, *, limit: int = 500, oldest_first: bool
) -> AsyncIterator[Matches]:
    """The matching letters of one queue, page by page, in the order in which the jobs died."""
    query = LetterQuery(queue, oldest_first=oldest_first, limit=limit, cut=SUMMARY_BYTES)
    if filters.since_s is not None or filters.before_s is not None:
        # Times of death are by the clock of the store. The clock of this machine may differ.
        now_ms = (await store.dead.page(query._replace(limit=1, cut=0))).now_ms
        query = query._replace(
            since_ms=_before(now_ms, filters.since_s), before_ms=_before(now_ms, filters.before_s)
        )
    after = None
    seen = set[LetterKey]()
    while True:
        page = await store.dead.page(query, after)
        letters = [each for each in map(summarize, page.letters) if filters.accept(each)]
        # Page by page, so that a caller with enough letters does not read the rest.
        yield Matches(letters, page.total)
        after = page.after
        # Another program may have written times that lead back to an earlier page. Without this
        # check the search would never end.
        if after is None or after in seen:
            return
        seen.add(after)


def _before(now_ms: int, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    return now_ms - round(seconds * 1000)


async def find(store: Backend, job_id: str, queues: Sequence[str], **read: Any) -> DeadLetter | str:
    """The dead letter of the job that a user named, or the reason why there is none.

    `read`: how much of the letter to read, as for `store.dead.find`.
    """
    known: list[str] = []
    if not queues:
        known = await store.inspect.queues.names()
    readings = read_job_name(job_id, known, only=queues or None)
    found = await readings.find(each_by_itself(partial(store.dead.find, **read)))
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(letter.key.ref) for letter in found)
        return f"job id {job_id!r} stands for several dead jobs: {places}; write queue/id"
    where = "and no queue either"
    if names := queues or [ref.queue for ref in readings.refs]:
        where = in_queues(names)
    return (
        f"no dead job {job_id!r} {where}: it has not died here, or it was retried, purged or "
        f"over dead_max_age; asyncjobs jobs show says what is known of it"
    )
