"""Schedules at the seam: stored rules that make jobs at set times.

A schedule lives with the queue that it feeds. So one atomic step compares its next time, sets
the one after, and stores the jobs: any number of workers may fire it, with clocks that differ,
and each tick has one job. The store never works out a time. The floors above do that, and the
store compares what they have read with what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import LONGEST_S
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap, ScheduleRef
from asyncjobs.model.terms import Unique
from asyncjobs.store.answers import NONE_AWAY, Placed

__all__ = [
    "MOST_REPLACED",
    "MOST_RUNS",
    "MOST_TICKS",
    "DueSchedules",
    "Fire",
    "Fired",
    "NewSchedule",
    "Put",
    "Ran",
    "Resume",
    "ScheduleRecord",
    "ScheduleRun",
    "Schedules",
    "Tick",
    "TickVerdict",
    "key_of_tick",
]

MOST_TICKS: Final = 100
"""The most ticks of one `fire` or `run`."""
MOST_RUNS: Final = 10_000
"""How many ticks that ran a store remembers for each schedule. An older one may run again when
somebody backfills it."""

MOST_REPLACED: Final = 8
"""How many versions before the present one a store knows of a schedule."""

NO_PLACES: Final[Mapping[int, Placed]] = MappingProxyType({})


class NewSchedule(NamedTuple):
    """A schedule to store.

    The store does not read `definition`. `version` is a hash of it: a schedule whose version is
    unchanged keeps its next time. `is_code`: it is declared in code, so workers renew it.
    `next_ms` is its first time, counted from now; None for never. `left` is how many ticks may
    fire, None without a limit. Both are used only when the schedule is new or has changed.
    """

    ref: ScheduleRef
    definition: bytes
    version: str
    next_ms: int | None
    is_code: bool = False
    left: int | None = None


class Put(StrEnum):
    """What became of a schedule that was put."""

    NEW = "new"
    CHANGED = "changed"
    """It had another version, or fed another queue."""
    SAME = "same"
    OLDER = "older"
    """It was left alone. Its version was replaced before, and workers still declare the one that
    replaced it: a rolling deploy runs both versions for a while."""


class ScheduleRecord(NamedTuple):
    """A schedule as the store knows it. Times are in ms since the epoch, by the store's clock."""

    ref: ScheduleRef
    definition: bytes
    version: str
    is_code: bool = False
    paused: str | None = None
    """Why it is paused; None while it is active."""
    is_lapsed: bool = False
    """It is paused because no worker declares it any more. The next worker that does resumes
    it."""
    next_ms: int | None = None
    """The tick that fires next. None while it is paused, and when there is none any more."""
    last_ms: int | None = None
    """The last tick that was used up, with or without a job."""
    declared_ms: int | None = None
    """When a worker last declared it in code."""
    fired: int = 0
    """Jobs that it has made, by hand as well."""
    missed: int = 0
    """Ticks that were too old to be caught up."""
    skipped: int = 0
    """Ticks without a job, for an earlier one lived or another one held their unique key."""
    lag_ms: int = 0
    """How long after its tick the last job was made."""
    left: int | None = None
    """How many ticks may still fire; None without a limit."""


class Tick(NamedTuple):
    """One time of a schedule, and the job that it makes.

    The id of the job is `tick_job_id`, or one of its own when somebody fires the schedule by
    hand. The job is for the queue of its schedule.
    """

    tick_ms: int
    job: NewJob


class Fire(NamedTuple):
    """Use up the ticks of a schedule that are due, and store their jobs.

    `version` and `expected_ms` are those of the record that was read. `ticks` has the oldest one
    first. `missed` is how many ticks are used up without being caught up. `last_ms` is the last
    tick that is used up. `next_ms` is the first one after that, None when there is none.
    """

    ref: ScheduleRef
    version: str
    expected_ms: int
    next_ms: int | None
    last_ms: int
    ticks: Sequence[Tick]
    missed: int = 0
    overlap: Overlap = Overlap.ALLOW


class TickVerdict(StrEnum):
    """What became of a tick."""

    FIRED = "fired"
    """Its job is stored."""
    SKIPPED = "skipped"
    """An earlier job of the schedule lives, or another job holds the unique key of this one."""
    OVER = "over"
    """The limit of the schedule is reached."""
    RAN = "ran"
    """It ran before, or a job has its id. So it is not fired once more."""


class Fired(NamedTuple):
    """The answer to a `Fire`.

    `is_ours` is False, and nothing has happened, when another worker was first, when the schedule
    was changed, paused or deleted meanwhile, or when the tick is not yet due by the store's
    clock. `verdicts` has one for each tick. `cancelled` are the jobs that had to make room; a
    running one was asked to stop. `next_ms` is the next tick, None when there is none. `refused`
    is why the queue has not answered; StoreFull when it has no memory, and then the ticks stay
    due. `places` has what became of unique jobs that did not go their usual way, by the position of
    their ticks: such a tick is SKIPPED if another job is "there", else FIRED.
    """

    ref: ScheduleRef
    is_ours: bool
    verdicts: Sequence[TickVerdict] = ()
    next_ms: int | None = None
    lag_ms: int = 0
    left: int | None = None
    cancelled: Sequence[JobRef] = ()
    refused: StoreError | None = None
    places: Mapping[int, Placed] = NO_PLACES


class Ran(NamedTuple):
    """What became of ticks beside the plan: a verdict for each. `places` is as in `Fired`."""

    verdicts: Sequence[TickVerdict]
    places: Mapping[int, Placed] = NO_PLACES


def key_of_tick(ref: ScheduleRef, tick: Tick, overlap: Overlap) -> Unique | None:
    """The unique key that the job of a tick has to hold; None for most jobs.

    With QUEUE_ONE it is a key of the schedule's own: one job holds it, and one is held behind it
    until that one has ended.
    """
    if overlap is Overlap.QUEUE_ONE:
        return Unique(f"cron:{ref.id}".encode(), "finished", round(LONGEST_S * 1000), hold=True)
    if tick.job.terms is None:
        return None
    return tick.job.terms.unique


class DueSchedules(NamedTuple):
    """Schedules whose next tick has come, and when to ask again.

    `next_ms` has, for each queue with a schedule, the earliest tick that is not in `records`. It
    is in the past when more are due than were asked for. `away` has the queues that have not
    answered.
    """

    now_ms: int
    records: list[ScheduleRecord]
    next_ms: Mapping[str, int]
    away: Mapping[str, StoreError] = NONE_AWAY


class Resume(NamedTuple):
    """A paused schedule that goes on, from `next_ms`. It must still have this version."""

    id: str
    version: str
    next_ms: int | None


class ScheduleRun(NamedTuple):
    """A job that a schedule has made. `tick_ms` is its planned time."""

    tick_ms: int
    job_id: str


class Schedules(Protocol):
    """Keeps and fires schedules: `store.schedules`. Needs `capabilities.schedules`.

    An id that nobody knows is no error. Each method answers in the order of the question, and
    raises StoreError when one of its queues does not answer, unless its answer has `away` or
    `refused`.
    """

    async def put(self, schedules: Sequence[NewSchedule], *, fresh_ms: int = 0) -> list[Put]:
        """Store schedules, or bring them up to date.

        Counters, runs and a pause by hand stay. A schedule that has changed goes on from its new
        `next_ms`, so that it makes up for nothing. One that moves to another queue takes
        everything with it. A lapsed one goes on: with the tick that was next if it is the same,
        however long ago that was.

        A schedule that `is_code` is marked as declared now. It is left alone when a newer version
        was declared in the last `fresh_ms`.
        """
        ...

    async def declare(self, declared: Sequence[tuple[ScheduleRef, str]]) -> list[bool]:
        """Mark schedules in code, with their versions, as declared now.

        False, and no effect, for one that is gone, has lapsed, feeds another queue or has
        another version: put it.
        """
        ...

    async def lapse(self, queues: Sequence[str], age_ms: int, reason: str) -> list[ScheduleRef]:
        """Pause the schedules in code that nobody has declared for `age_ms`; returns which."""
        ...

    async def get(self, ids: Sequence[str]) -> list[ScheduleRecord | None]:
        """What is known of these schedules; None for an unknown one."""
        ...

    async def queues(self) -> list[str]:
        """The queues that schedules feed, sorted. Some of them may have none any more."""
        ...

    async def page(
        self, queues: Sequence[str], *, after: ScheduleRef | None = None, limit: int = 100
    ) -> list[ScheduleRecord]:
        """One page of the schedules of these queues, sorted by queue and id.

        It begins behind `after`. It is the last one when it has fewer than `limit`.
        """
        ...

    async def due(self, queues: Sequence[str], limit: int) -> DueSchedules:
        """Schedules whose next tick has come, at most `limit` in each queue, earliest first."""
        ...

    async def fire(self, fires: Sequence[Fire]) -> list[Fired]:
        """Use up ticks and store their jobs, each schedule in one atomic step.

        A tick is used up once, whoever fires it. Its job is stored as `enqueue` does it. At most
        `left` jobs are stored, and after the last one there is no next tick. For the overlap the
        last 100 jobs of the schedule are looked at. Unless it is ALLOW, of several ticks at once
        one fires: the last one if that cancels earlier jobs, else the first. A queue that does not
        answer is `refused`, and the others fire.

        With QUEUE_ONE a job is held while an earlier one runs. It becomes ready when the last
        attempt of that one has ended, whatever the end is. While one waits, no tick fires.

        Raises UsageError for more than MOST_TICKS, for a job of another queue, and for a unique job
        with QUEUE_ONE.
        """
        ...

    async def run(self, id: str, ticks: Sequence[Tick]) -> Ran | None:
        """Store the jobs of these ticks in one atomic step, whatever the next tick is.

        A tick that ran before is answered RAN, as far back as MOST_RUNS. A job with an id of its
        own is always stored, unless another job holds its unique key. Pause, overlap and limit do
        not count here. None for an unknown schedule.
        """
        ...

    async def runs(self, id: str, limit: int = MOST_RUNS) -> list[ScheduleRun]:
        """The last jobs that this schedule has made, newest first."""
        ...

    async def pause(self, ids: Sequence[str], reason: str) -> list[bool]:
        """Let schedules fire no more until they are resumed; for each, whether this changed it.

        A lapsed one stays paused when a worker declares it again. One that was paused by hand
        keeps its reason.
        """
        ...

    async def resume(self, resumes: Sequence[Resume]) -> list[bool]:
        """Let paused schedules go on; False for one that is gone, active or of another
        version."""
        ...

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        """Drop schedules with all that is known of them; for each, whether it was there. Their
        jobs stay."""
        ...
