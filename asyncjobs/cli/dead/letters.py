"""Dead letters as commands see them: what each tells, which are meant, how to find them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from asyncjobs.cli.shared.store_command import each_by_itself
from asyncjobs.guard.texts import in_queues
from asyncjobs.jobs.readings import read_job_name
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import name_in
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.store.letters import DeadLetter, LetterKey, LetterQuery
from asyncjobs.store.seam import Backend

__all__ = ["HEAD", "Finding", "Told", "Wanted", "find", "look_for", "tell"]

HEAD: Final = 1024
"""Bytes of an envelope that are read to list it: its function stands at the start."""


class Told(NamedTuple):
    """What a dead letter says, without arguments and history; '' for what it does not."""

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


def tell(letter: DeadLetter) -> Told:
    """Read a letter, whole or cut at HEAD. One that is none is told as `unreadable`."""
    try:
        outcome, envelope = read_dead_letter(letter.letter)
    except BadRecord as error:
        problem = f"what is stored is not a dead letter: {error}"
        outcome = Outcome(State.DEAD, reason="unreadable", message=problem)
        envelope = b""
    return Told(
        letter.key,
        letter.size,
        outcome.name or name_in(envelope),
        outcome.reason,
        outcome.error_type,
        outcome.message,
        outcome.attempt,
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters a command is about; None asks for nothing.

    `function` and `reason` are the whole word, `error` and `message` a part of the error's
    type and text, in capitals or not. `since_s` and `before_s` count back from the store's
    present.
    """

    queues: tuple[str, ...] = ()
    function: str | None = None
    reason: str | None = None
    error: str | None = None
    message: str | None = None
    since_s: float | None = None
    before_s: float | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is asked for."""
        return self == Wanted()

    @property
    def reads(self) -> bool:
        """Whether letters have to be read to know."""
        return (self.function, self.reason, self.error, self.message) != (None,) * 4

    def matches(self, told: Told) -> bool:
        """Whether it is one of those, apart from queue and time."""
        return (
            (self.function is None or told.function == self.function)
            and (self.reason is None or told.reason == self.reason)
            and _has(told.error_type, self.error)
            and _has(told.message, self.message)
        )


def _has(text: str, part: str | None) -> bool:
    return part is None or part.casefold() in text.casefold()


class Finding(NamedTuple):
    """One page's letters that are wanted; `total` counts those of queue and time."""

    told: list[Told]
    total: int


async def look_for(
    store: Backend, wanted: Wanted, queue: str, *, limit: int = 500, oldest_first: bool
) -> AsyncIterator[Finding]:
    """The wanted letters of one queue, page by page, in the order of their deaths."""
    query = LetterQuery(queue, oldest_first=oldest_first, limit=limit, cut=HEAD)
    if wanted.since_s is not None or wanted.before_s is not None:
        # The store's time is that of the deaths; ours may be off.
        now_ms = (await store.dead.page(query._replace(limit=1, cut=0))).now_ms
        query = query._replace(
            since_ms=_before(now_ms, wanted.since_s), before_ms=_before(now_ms, wanted.before_s)
        )
    after = None
    seen = set[LetterKey]()
    while True:
        page = await store.dead.page(query, after)
        told = [each for each in map(tell, page.letters) if wanted.matches(each)]
        yield Finding(told, page.total)
        after = page.after
        # Times that a foreign writer has put there may lead back to where a page began.
        if after is None or after in seen:
            return
        seen.add(after)


def _before(now_ms: int, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    return now_ms - round(seconds * 1000)


async def find(store: Backend, job_id: str, queues: Sequence[str], **read: Any) -> DeadLetter | str:
    """The dead letter of a job that somebody named, or why there is none.

    `read`: how much of it, as `find_letters` takes it.
    """
    known = [] if queues else await store.inspect.queues.names()
    readings = read_job_name(job_id, known, only=queues or None)
    found = await readings.find(each_by_itself(partial(store.dead.find, **read)))
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(letter.key.ref) for letter in found)
        return f"job id {job_id!r} stands for several dead jobs: {places}; write queue/id"
    names = queues or [ref.queue for ref in readings.refs]
    where = in_queues(names) if names else "and no queue either"
    return (
        f"no dead job {job_id!r} {where}: it has not died here, or it was retried, purged or "
        f"over dead_max_age; asyncjobs jobs show says what is known of it"
    )
