"""Dead letters at the seam: what a store answers, and what it is asked to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.job import Priority
from asyncjobs.model.refs import JobRef

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
"""Dead letters in one page, at the most."""
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of stored letters after which a page ends, so that one trip stays short."""


class LetterKey(NamedTuple):
    """One death of one job: its id may die again later, with another letter.

    `died_ms` by the store's clock.
    """

    ref: JobRef
    died_ms: int


class DeadLetter(NamedTuple):
    """A dead letter as it is stored, perhaps cut; `size` in bytes is that of all of it."""

    key: LetterKey
    priority: Priority
    letter: bytes
    size: int


class LetterQuery(NamedTuple):
    """Which dead letters of a queue, and how much of them.

    Those that died at `since_ms` or later and before `before_ms` (epoch, by the store's
    clock); a page has at most `limit`, and of each envelope `cut` bytes (see `cut_letter`).
    """

    queue: str
    since_ms: int | None = None
    before_ms: int | None = None
    oldest_first: bool = False
    limit: int = 500
    cut: int | None = None


class LetterPage(NamedTuple):
    """Some dead letters of one queue, in the order of their deaths.

    `after`: where the next page begins; None when this was the last one. `total`: how
    many letters of the time asked for there are just now. `now_ms` by the store's clock.
    """

    letters: list[DeadLetter]
    after: LetterKey | None
    total: int
    now_ms: int


class Revival(NamedTuple):
    """A dead job that is to run again, with this envelope."""

    key: LetterKey
    envelope: bytes


class Revived(StrEnum):
    """What a revival came to."""

    READY = "ready"
    GONE = "gone"
    """There is no letter of this death any more: revived, purged or pruned meanwhile."""
    TAKEN = "taken"
    """A living job has the id; the letter stays."""


class DeadLetters(Protocol):
    """Reads, revives and drops dead letters: `store.dead`."""

    async def page(self, query: LetterQuery, after: LetterKey | None = None) -> LetterPage:
        """One page of a queue's dead letters.

        It ends after MAX_PAGE letters or MAX_PAGE_BYTES, and is empty only when it is the
        last. Letters that come and go meanwhile move no others from page to page.
        """
        ...

    async def find(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        """The dead letters of these jobs, None where there is none. Their sizes add up:
        name few at a time, unless `cut` is small."""
        ...

    async def revive(
        self, revivals: Sequence[Revival], *, priority: Priority | None = None
    ) -> list[Revived]:
        """Make dead jobs ready again, in this order, at their old priority or `priority`.

        Each letter goes, with what was known of the job's end; from now on it is a living
        job as any other. No effect on one whose letter is gone or whose id is taken. Also
        when the store has no memory left.
        """
        ...

    async def purge(self, letters: Sequence[LetterKey]) -> list[bool]:
        """Drop dead letters; for each: whether it was there. The job's id and result stay
        known for their times."""
        ...


def cut_letter(letter: bytes, cut: int | None) -> bytes:
    """A dead letter with its first line, which tells how the job ended, and `cut` bytes of
    the envelope behind it. What has no first line is cut as a whole."""
    if cut is None:
        return letter
    line = letter.find(b"\n") + 1
    return letter[: line + cut]
