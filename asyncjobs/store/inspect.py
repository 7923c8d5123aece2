"""What command line, dashboard and warnings ask of a store: `store.inspect`.

One small protocol a subject; a store has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from asyncjobs.model.job import State

__all__ = [
    "Finding",
    "Inspection",
    "Leftover",
    "QueueCounts",
    "QueueFlow",
    "QueueInspection",
    "Survey",
    "Verdict",
    "WorkerEntry",
]


class QueueCounts(NamedTuple):
    """One queue at one moment."""

    queue: str
    ready: tuple[int, int, int, int]
    """By priority, most urgent first."""
    running: int
    scheduled: int
    dead: int
    workers: int
    """Leases that have not ended."""


class QueueFlow(NamedTuple):
    """What happened in one queue in the last minute, to within a few seconds' worth.

    Numbers of jobs, as floats: part of an older minute is counted in.
    """

    queue: str
    now_ms: int
    oldest_ready_ms: int | None
    """Since when the job is ready that is ready for longest; None without ready jobs."""
    enqueued: float
    """Dead jobs that were revived are counted too."""
    rescheduled: float
    """Attempts that were followed by a retry or a snooze."""
    ended: dict[State, float]
    next_due_ms: int | None = None
    """When the first scheduled job is due; in the past while nobody has promoted it."""


class WorkerEntry(NamedTuple):
    """A lease as it stands in one queue; over when `end_ms` is not after `now_ms`."""

    queue: str
    lease: str
    end_ms: int
    now_ms: int
    info: bytes
    """What the worker said of itself, as JSON; see `LeaseSpec`."""


class Survey(NamedTuple):
    """Some of all queues, for one of all who look through them.

    `is_turn`: False while somebody else looks; `is_last`: these were the last names, and
    the next look begins anew. A name may come twice in a round.
    """

    is_turn: bool
    is_last: bool
    queues: list[str]


class Leftover(NamedTuple):
    """Why a queue is not forgotten: what is left in it. When nothing is, it has been."""

    queue: str
    ready: int = 0
    running: int = 0
    scheduled: int = 0
    dead: int = 0
    workers: int = 0
    """Leases that have not ended."""
    indexed: int = 0
    """Jobs that the index knows; somebody else may have removed some by hand."""
    awaited: int = 0
    """1 when somebody waits for the result of a job."""
    wait_ms: int = 0
    """How long its past is needed yet: ids of jobs that have ended, or that it was used."""

    @property
    def is_forgotten(self) -> bool:
        return not any(self[1:])


class Verdict(StrEnum):
    """What a setting of a store means for its jobs."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, or it could not be read."""
    WARNING = "warning"
    """Something suffers, but no job is lost."""
    PROBLEM = "problem"
    """Jobs are or will be lost."""


class Finding(NamedTuple):
    """One setting of a store: what it is, and what to change."""

    setting: str
    verdict: Verdict
    found: str
    change: tuple[str, ...] = ()
    """Lines to give the store, or to follow; empty when nothing is to be done."""


class QueueInspection(Protocol):
    """Questions about queues, and forgetting them."""

    async def names(self) -> list[str]:
        """Every queue that has had a job or a worker and was not forgotten since, sorted."""
        ...

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        """Drop what queues without jobs and workers have kept, and their names.

        One that is used again is there again. `idle_ms`: only if no worker was heard of for so
        long. Results that are kept stay readable for their time.
        """
        ...

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        """The next names of queues, `about` so many, for one of all who ask: whoever has
        begun goes on, and another one takes over when it has not asked for `turn_ms`."""
        ...

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]: ...

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]: ...

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        """By queue: envelopes of jobs that were put back, since no worker that took them has
        their function. Only the next `limit` due ones are looked at; others may be among
        them, whose arguments look like it."""
        ...


class Inspection(Protocol):
    """Looks at a store and changes no job."""

    @property
    def queues(self) -> QueueInspection: ...

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        """The leases in these queues, also ones that are over; at most 1,000 a queue."""
        ...

    async def diagnose(self) -> list[Finding]:
        """The store's settings that decide whether jobs are lost.

        Also for a store that `open` refuses.
        """
        ...
