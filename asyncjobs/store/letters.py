"""Dead letters at the seam: what a store does with them, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

from asyncjobs.model.job import Priority
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Gate, Unique

__all__ = [
    "MAX_PAGE",
    "MAX_PAGE_BYTES",
    "DeadLetter",
    "DeadLetters",
    "LetterKey",
    "LetterPage",
    "LetterQuery",
    "Revival",
    "Revived",
    "cut_letter",
]

MAX_PAGE: Final = 1_000
"""The most dead letters of one page."""
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of stored letters after which a page ends, so that one trip stays short."""


class LetterKey(NamedTuple):
    """One death of one job. A revived job may die again, and then it has another letter.

    `died_ms` is by the store's clock.
    """

    ref: JobRef
    died_ms: int


class DeadLetter(NamedTuple):
    """A dead letter as it is stored, perhaps cut. `size` is that of the whole one, in bytes."""

    key: LetterKey
    priority: Priority
    letter: bytes
    size: int


class LetterQuery(NamedTuple):
    """Which dead letters of a queue, and how much of them.

    They died at `since_ms` or later and before `before_ms`, by the store's clock. A page has at
    most `limit` of them, and of each envelope at most `cut` bytes (see `cut_letter`).
    """

    queue: str
    since_ms: int | None = None
    before_ms: int | None = None
    oldest_first: bool = False
    limit: int = 500
    cut: int | None = None


class LetterPage(NamedTuple):
    """Some dead letters of one queue, in the order of their deaths.

    The next page begins `after` this key; None when this was the last one. `total` is how many
    letters of the time asked for there are now. `now_ms` is by the store's clock.
    """

    letters: list[DeadLetter]
    after: LetterKey | None
    total: int
    now_ms: int


class Revival(NamedTuple):
    """A dead job that is to run again, with this envelope.

    `unique` is the key that it has to hold again. A window is none: it only bounds enqueues.
    `gate` is what it has to pass again.
    """

    key: LetterKey
    envelope: bytes
    unique: Unique | None = None
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Revived:
    """What became of a revival: one of the three below.

    `holder` is the job that holds its unique key, if that is why it is taken.
    """

    how: Literal["ready", "gone", "taken"]
    holder: JobRef | None = None

    READY: ClassVar[Revived]
    GONE: ClassVar[Revived]
    """There is no letter of this death any more: revived, purged or pruned meanwhile."""
    TAKEN: ClassVar[Revived]
    """A living job has the id; the letter stays."""


Revived.READY = Revived("ready")
Revived.GONE = Revived("gone")
Revived.TAKEN = Revived("taken")


class DeadLetters(Protocol):
    """Reads, revives and drops dead letters: `store.dead`."""

    async def page(self, query: LetterQuery, after: LetterKey | None = None) -> LetterPage:
        """One page of a queue's dead letters.

        It ends after MAX_PAGE letters or MAX_PAGE_BYTES. Only the last one may be empty.
        Letters that come and go meanwhile move no other letter to another page.
        """
        ...

    async def find(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        """The dead letters of these jobs, None where there is none.

        All of them come in one answer. So ask for few at a time, unless `cut` is small.
        """
        ...

    async def revive(
        self, revivals: Sequence[Revival], *, priority: Priority | None = None
    ) -> list[Revived]:
        """Make dead jobs ready again, in this order, at their old priority or `priority`.

        The letter and the result of its death are dropped: from now on it is a job like any
        other. A job whose letter is gone or whose id or unique key is taken is left alone. Never
        refused for memory.
        """
        ...

    async def purge(self, letters: Sequence[LetterKey]) -> list[bool]:
        """Drop dead letters; for each, whether it was there. The id and the result of its job
        stay known for their times."""
        ...


def cut_letter(letter: bytes, cut: int | None) -> bytes:
    """A dead letter with at most `cut` bytes of the envelope.

    The first line, which says how the job ended, stays whole. A text of one line is cut as an
    envelope.
    """
    if cut is None:
        return letter
    line = letter.find(b"\n") + 1
    return letter[: line + cut]
