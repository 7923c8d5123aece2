"""Lists of jobs at the seam: what is asked for, what a page has, and where the next one begins.

A page is in the order of times. What the time of a job is depends on its state: since when it is
ready or held, when it is due, or when it ended. Running jobs are in the order in which they became
ready. Jobs of one time are in the order of their queues, then of their priorities, then of their
places.

Dead jobs are listed as long as their letters are kept, and others that have ended as far as the
history of their queue goes.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, Self

import orjson

from asyncjobs.errors import StoreError, UsageError
from asyncjobs.model.history import FinishedJob
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import NONE_AWAY

__all__ = [
    "ENDED_STATES",
    "LISTED_STATES",
    "MOST_LISTED",
    "MOST_LOOKS",
    "MOST_LOOK_BYTES",
    "JobCursor",
    "JobListing",
    "JobPage",
    "JobQuery",
    "ListedJob",
]

ENDED_STATES: Final = (State.SUCCEEDED, State.DISCARDED, State.CANCELLED)
"""The states whose jobs are listed from the history."""
LISTED_STATES: Final = (
    State.READY,
    State.SCHEDULED,
    State.HELD,
    State.RUNNING,
    State.DEAD,
    *ENDED_STATES,
)
"""The states whose jobs a store can list."""
MOST_LISTED: Final = 1_000
"""The most jobs of one page."""
MOST_LOOKS: Final = 3_000
"""The most jobs that are looked at for one page."""
MOST_LOOK_BYTES: Final = 4 * 1024 * 1024
"""Bytes of stored jobs after which a page ends, so that one call stays short."""
_FARTHEST_MS: Final = 9 * 10**15
"""A foreign writer may have given a job any time. Those further away count as so far away."""


class JobQuery(NamedTuple):
    """Which jobs, and how long to look for them. None accepts every job.

    queues: only these; none of them means all.
    function: the name of its job function, or a pattern with `*`, `?` and `[...]`.
    since_ms, before_ms: its time is `since_ms` or later, and before `before_ms`, by the clock of
    the store. The time of a running job is here the one when its worker took it.
    error, message: part of the type and of the text of its last error, in upper or lower case.
    meta, tags: labels and tags that it has, all of them.
    limit: the most jobs of the page, up to MOST_LISTED.
    cut: of each envelope at most so many bytes (see `cut_letter` for dead jobs). A job that was
    cut is found by its function all the same.
    most_looks, most_bytes: how many jobs are looked at, and of about how many bytes together.
    """

    state: State
    queues: tuple[str, ...] = ()
    function: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None
    error: str | None = None
    message: str | None = None
    oldest_first: bool = False
    limit: int = 50
    cut: int | None = None
    meta: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    most_looks: int = MOST_LOOKS
    most_bytes: int = MOST_LOOK_BYTES

    @property
    def needs_error(self) -> bool:
        """Whether the last error of a job decides, so that all of it has to be read."""
        return self.error is not None or self.message is not None

    @property
    def needs_labels(self) -> bool:
        """Whether its labels or tags decide: all of it has to be read, too."""
        return bool(self.meta or self.tags)


class JobCursor(NamedTuple):
    """A place in a list of jobs: the next page begins behind it, whatever has come or gone.

    `part` is the priority of ready and running jobs, 4 for those at gates where a store keeps them
    apart, else 0. `tie` orders jobs of one time: a
    number or an id, as the store says.
    """

    ms: int
    queue: str
    part: int
    tie: int | bytes

    def text(self) -> str:
        """The cursor in letters, digits, `-` and `_`, for command lines and addresses of pages."""
        tie: Any = self.tie
        # An id may have bytes that are no text.
        if isinstance(tie, bytes):
            tie = tie.hex()
        fields = orjson.dumps([self.ms, self.queue, self.part, tie])
        return urlsafe_b64encode(fields).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """The cursor in a text that `text()` has made. Raises UsageError for any other one."""
        try:
            # Padding would have to be quoted in an address.
            padded = text.encode() + b"=" * (-len(text) % 4)
            ms, queue, part, tie = orjson.loads(urlsafe_b64decode(padded))
            if isinstance(tie, str):
                tie = bytes.fromhex(tie)
            # `type`, not `isinstance`: True would pass as a number.
            is_sound = type(ms) is int and type(queue) is str and type(part) is int
            if not is_sound or abs(ms) > _FARTHEST_MS or not 0 <= part <= 4:
                raise ValueError("a field is out of range")
            if not isinstance(tie, bytes) and not (type(tie) is int and 0 <= tie < 2**64):
                raise ValueError("a field is out of range")
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{text[:80]!r} is no cursor: give the one that the page before has ended with"
            ) from error
        return cls(ms, queue, part, tie)


class ListedJob(NamedTuple):
    """A job on a page.

    `record` is what `Backend.get` says of it, apart from a result, and from progress of a job that
    does not run. `time_ms` is its time, as
    `JobQuery` counts it. `seen` names this very stay in its state, for the actions on it. `size`
    is that of the envelope or the letter in bytes, before it was cut. `worker` is what the worker
    of a running job has said about itself, as JSON. `ended` is all that is known of a job whose
    list comes from the history.
    """

    record: JobRecord
    time_ms: int
    seen: bytes
    size: int
    worker: bytes = b""
    ended: FinishedJob | None = None

    @property
    def ref(self) -> JobRef:
        return self.record.ref

    @property
    def stored(self) -> bytes:
        """Its envelope or its letter, perhaps cut."""
        return self.record.dead_letter or self.record.envelope or b""


class JobPage(NamedTuple):
    """Some jobs of one state.

    The next page begins behind `after`; None when this was the last one. `is_bounded` says that
    the store stopped looking before the page was full, so that a page without any job need not
    be the last one. `looked` is how many jobs were looked at. `refused` has the queues that
    could not be read: some or all of their jobs are missing.
    """

    jobs: list[ListedJob]
    after: JobCursor | None
    now_ms: int
    looked: int
    is_bounded: bool = False
    refused: Mapping[str, StoreError] = NONE_AWAY


class JobListing(Protocol):
    """Questions about many jobs: `store.inspect.jobs`."""

    async def page(self, query: JobQuery, after: JobCursor | None = None) -> JobPage:
        """One page of jobs in a state, from `after` on.

        Jobs that come and go between two pages move no other job to another page: one that stays
        where it is, is on exactly one of them. Looking is bounded by `most_looks` and
        `most_bytes`. Raises UsageError for a state that has no list, and for a cursor of a list of
        another state.
        """
        ...
