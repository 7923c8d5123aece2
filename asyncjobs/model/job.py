"""The values that pass between the rooms: plain and immutable, without a store's behaviour."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "MOST_EFFECT_BYTES",
    "MOST_EFFECT_JOBS",
    "PROGRESS",
    "Arrival",
    "Barrier",
    "Demand",
    "Effects",
    "Gate",
    "JobRecord",
    "JobRef",
    "NewJob",
    "Note",
    "Notes",
    "Priority",
    "Settlement",
    "SettlementKind",
    "State",
    "TakenJob",
    "Terms",
    "Unique",
    "Until",
]


class State(StrEnum):
    """Where a job is: scheduled → ready → running → one of the final states.

    A running job that is retried becomes scheduled again. The final states are succeeded, dead,
    discarded and cancelled.
    """

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has finished and will not run again."""
        return self not in _LIVE


_LIVE = frozenset({State.SCHEDULED, State.READY, State.RUNNING})


class Priority(IntEnum):
    """The priority of a job. The ready jobs of a queue are taken in this order, `CRITICAL` first.

    One slot in 20 starts with a less urgent priority, so that low priorities always go on.
    """

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class JobRef(NamedTuple):
    """A job's identity: its `queue`, and its `id`, which is unique there.

    `str(ref)` is the public id, `queue/id`.
    """

    queue: str
    id: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.id}"


Until: TypeAlias = Literal["finished", "started", "window"]
"""When a unique key is free again: when the job that holds it has finished, when that job is first
taken, or only when the key's time is over."""


class Unique(NamedTuple):
    """At most one job at a time holds `key` in its queue.

    `until` says when the key is free again. After `ttl_ms` it is free in any case. `replace`: the
    new job takes the place of a holder that has not started. `ttl_ms` then starts again, but ends
    at most `latest_ms` after the first job.
    """

    key: bytes
    until: Until
    ttl_ms: int
    replace: bool = False
    latest_ms: int | None = None


class Gate(NamedTuple):
    """What a job has to pass before it is taken.

    `limits`: pairs of a limit and the key that counts there. `turn`: jobs with different turns
    that wait at the same limit get fair shares of it.
    """

    limits: tuple[tuple[str, str], ...] = ()
    turn: str = ""


class Arrival(NamedTuple):
    """A barrier that the end of a job counts down."""

    queue: str
    barrier: str


class Barrier(NamedTuple):
    """A counter with jobs behind it: they are ready when `arrivals` jobs have ended."""

    queue: str
    id: str
    arrivals: int


class Terms(NamedTuple):
    """What few jobs have: conditions that the store itself keeps.

    `behind` is the id of a barrier of the job's own queue; `arrivals` are the barriers that its
    end counts down. A store that cannot keep one of them refuses the job.
    """

    unique: Unique | None = None
    gate: Gate | None = None
    behind: str | None = None
    arrivals: tuple[Arrival, ...] = ()


class NewJob(NamedTuple):
    """A job to be stored: ready at once, after `delay_ms`, or at `at_ms` (epoch).

    `has_new_id`: the id was made for it, so no store needs to look whether a job with this
    id has finished before. A batch sent again is known by its token.
    """

    queue: str
    id: str
    priority: int
    envelope: bytes
    delay_ms: int = 0
    at_ms: int | None = None
    has_new_id: bool = False
    terms: Terms | None = None

    @property
    def is_plain(self) -> bool:
        """Ready at once, without terms, under an id that was made for it."""
        return self.has_new_id and self.at_ms is None and self.delay_ms <= 0 and self.terms is None

    @property
    def ref(self) -> JobRef:
        return JobRef(self.queue, self.id)


class TakenJob(NamedTuple):
    """A job that an exchange has handed to a lease.

    `receipt` names this taking to the backend and is opaque to everybody else.
    `crashes` counts the workers that died while they ran it since it became ready;
    `ready_ms` is when it became ready, by the store's clock; `holder` is the lease's
    entry under which it was taken.
    """

    queue: str
    id: str
    priority: int
    receipt: bytes
    envelope: bytes
    crashes: int
    ready_ms: int
    holder: str = ""

    @property
    def ref(self) -> JobRef:
        return JobRef(self.queue, self.id)


PROGRESS: Final = "progress"
"""The name of the note that `JobRecord.progress` shows."""


class Note(NamedTuple):
    """A named value of a job that runs: its progress, a cursor, the result of a step."""

    job: TakenJob
    name: str
    value: bytes


Notes: TypeAlias = dict[str, bytes]
"""The notes of one job, by their names."""


class Demand(NamedTuple):
    """How much one queue may hand out in an exchange.

    Up to `slots` jobs, most urgent priority first, except that the first `guard` of them
    come from priority `guard_from`, then from the least urgent upwards: that keeps the
    others moving under load.

    A job that was running when a worker died is a suspect. `suspects` is the room for them,
    by the crashes they have been through: a number for one crash, for two and so on, the
    last one for all above; it falls. No more of them are handed out together than the one
    with the most crashes has room for. Those with the fewest come first.
    """

    slots: int
    guard: int = 0
    guard_from: int = 3
    suspects: tuple[int, ...] = ()


MOST_EFFECT_JOBS: Final = 1_000
"""New jobs that one settlement may carry."""
MOST_EFFECT_BYTES: Final = 4 << 20
"""Bytes of their envelopes, together."""


class Effects(NamedTuple):
    """What a success causes besides: new jobs, and barriers for them.

    At most MOST_EFFECT_JOBS, MOST_EFFECT_BYTES together. They are stored in the step that
    records the success, or not at all.
    """

    jobs: tuple[NewJob, ...] = ()
    barriers: tuple[Barrier, ...] = ()


class SettlementKind(StrEnum):
    """What a settlement does to the stored job."""

    FINISH = "finish"
    RESCHEDULE = "reschedule"
    RELEASE = "release"


# Named once: looking a member up in its enumeration is slow before Python 3.12.
_FINISH, _SUCCEEDED = SettlementKind.FINISH, State.SUCCEEDED


class Settlement(NamedTuple):
    """How an attempt ended; made by the named constructors only.

    `outcome` is the encoded record that waiters read, kept for `result_ttl_ms`
    (0 keeps none); `dead_letter` is what inspection shows of a dead job; `effects` is what
    the store does in the same step, only with a success.
    """

    job: TakenJob
    kind: SettlementKind
    state: State
    outcome: bytes | None = None
    result_ttl_ms: int = 0
    dead_letter: bytes | None = None
    envelope: bytes = b""
    delay_ms: int = 0
    effects: Effects | None = None

    @classmethod
    def succeeded(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """The attempt returned a value."""
        return cls(job, _FINISH, _SUCCEEDED, outcome, result_ttl_ms)

    def causing(self, effects: Effects) -> Settlement:
        """This success, which stores `effects` if it counts.

        They are dropped where the success is not recorded: the lease was lost, or it has been
        recorded before. Any other settlement with effects is refused by the store.
        """
        return self._replace(effects=effects)

    @classmethod
    def discarded(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """The job asked for its end, or raised what its `discard_on` names."""
        return cls(job, SettlementKind.FINISH, State.DISCARDED, outcome, result_ttl_ms)

    @classmethod
    def cancelled(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """A user cancelled the job."""
        return cls(job, SettlementKind.FINISH, State.CANCELLED, outcome, result_ttl_ms)

    @classmethod
    def dead(
        cls,
        job: TakenJob,
        dead_letter: bytes,
        outcome: bytes | None = None,
        result_ttl_ms: int = 0,
    ) -> Settlement:
        """No attempt is left, or the job cannot be run at all."""
        return cls(job, SettlementKind.FINISH, State.DEAD, outcome, result_ttl_ms, dead_letter)

    @classmethod
    def reschedule(cls, job: TakenJob, envelope: bytes, delay_ms: int) -> Settlement:
        """Run again `delay_ms` from now with this envelope: a retry or a snooze."""
        return cls(
            job, SettlementKind.RESCHEDULE, State.SCHEDULED, envelope=envelope, delay_ms=delay_ms
        )

    @classmethod
    def release(cls, job: TakenJob) -> Settlement:
        """Give the job back unharmed: it keeps its place and spends no attempt."""
        return cls(job, SettlementKind.RELEASE, State.READY)


class JobRecord(NamedTuple):
    """What the store knows of a job.

    `envelope` while it is queued or running; `outcome` once it has finished and while
    its result is kept; `dead_letter` while that is kept; `due_ms` while scheduled;
    `holder` is the lease id of the worker that runs it, since `taken_ms` by the store's
    clock; `is_cancelled`: it has been asked to stop.
    """

    ref: JobRef
    state: State
    priority: int | None = None
    due_ms: int | None = None
    envelope: bytes | None = None
    outcome: bytes | None = None
    progress: bytes | None = None
    holder: str | None = None
    dead_letter: bytes | None = None
    taken_ms: int | None = None
    is_cancelled: bool = False
