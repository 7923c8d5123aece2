"""The lease at the seam: what it consists of, and what a worker asks of the store in its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.awaiting import Awaited, EventWait
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import (
    Exchange,
    Heartbeat,
    Parked,
    Registered,
    Resync,
    Signal,
)

__all__ = ["ENTRY_MARK", "Lease", "LeaseSpec", "Offer"]

ENTRY_MARK: Final = "."
"""Stands between the id of a lease and what makes a later entry of it new. No id has one."""


@dataclass(frozen=True, slots=True)
class LeaseSpec:
    """A worker's timed right to the jobs it holds. It has one entry in each of its queues.

    `id` is new for each run of a worker, and `worker` is a label. `info` is what inspection
    shows of the worker, as JSON.

    A queue in which the lease was lost is entered again under a new name (`renewed`). The name
    of an entry is never used twice: jobs of the lost one may still be on their way back.
    """

    id: str
    worker: str
    queues: tuple[str, ...]
    duration_ms: int
    info: bytes = b"{}"
    renewed: Mapping[str, str] = field(default_factory=dict)

    def entry(self, queue: str) -> str:
        """The name under which the lease stands in this queue."""
        return self.renewed.get(queue, self.id)

    def within(self, queues: Collection[str]) -> LeaseSpec:
        """This lease, but for these of its queues alone."""
        return replace(self, queues=tuple(queues))

    def renew(self, queues: Collection[str], suffix: str) -> LeaseSpec:
        """This lease with a new entry in `queues`, to be registered there.

        The name of each entry begins with the id of the lease, so whoever knows the id alone can
        find them all. `suffix` must be new.
        """
        # rule:2 a lost queue is entered under a new name
        name = f"{self.id}{ENTRY_MARK}{suffix}"
        return replace(self, renewed={**self.renewed, **dict.fromkeys(queues, name)})

    @property
    def grace_ms(self) -> int:
        """How long all workers of a queue may be silent before the store must have been away.
        Then they get as long again to renew. It is longer than the time between heartbeats."""
        return self.duration_ms * 2 // 5


class Offer(NamedTuple):
    """An exchange that settles nothing, sent behind the wait of `Lease.park`.

    `sequence` comes from the same counter as those of exchanges. Later exchanges do not make it
    stale, for they may go on while the offer waits; `demand` must leave out the slots that they
    ask for. A resync makes it stale.
    """

    sequence: int
    demand: Mapping[str, Demand]


class Lease(Protocol):
    """What a worker asks of the store in the name of its lease.

    `Backend.lease` makes one and enters its queues. `Backend.attach` makes one for entries that
    stand there already. It belongs to one event loop: another loop attaches its own to `spec`,
    on a twin of the store.

    Every method may raise StoreUnavailable. Then it is not known what took effect.
    """

    @property
    def spec(self) -> LeaseSpec:
        """The lease as it stands now. `rejoin` replaces it. Any thread may read it."""
        ...

    @property
    def entered(self) -> Registered:
        """The answer to entering the queues. For an attached lease `away` is empty and `now_ms`
        is 0, for it has entered none."""
        ...

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        """Settle finished jobs and take new ones, in one round trip.

        It covers the queues of `demand` and of `settlements`. In each of them the store checks
        the lease and that `sequence` is above the last one, settles what this lease still
        holds, promotes due jobs, and hands out jobs. Raises StaleSequence without any effect.

        A settlement that waits makes its job due at once when the event has come meanwhile.

        A success stores its `effects` in the same step, and only if it counts. One among
        `not_yours` stores nothing, so a settlement that is sent again stores nothing twice. A
        job whose id is taken is not stored again. Effects are never refused for memory: they
        are bounded, and a settlement must always be possible.

        Raises UsageError before anything is sent when effects belong to anything but a success,
        are for another queue, or are over their bounds. Raises MissingCapability for terms that
        this store cannot keep.
        """
        ...

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        """Block until a queue signals work, at most `timeout_s`.

        Without an offer nothing is taken. A caller that was signalled must exchange on these
        queues, with or without demand: that passes the signal on if there is more work.

        With an offer its exchange follows the wait on the same connection, so new work needs no
        extra round trip. It is fenced apart from other exchanges (see `Offer`). It hands out
        fresh jobs. It never hands out suspects, and may leave jobs that were given back or are
        due to the next exchange: `left_ready` and `next_due_ms` name them. `next_lease_end_ms`
        may be missing. After an error resync, for jobs may have been taken.
        """
        ...

    async def beat(self, *, leaves: bool = False, info: bytes = b"") -> Heartbeat:
        """Renew the entries that still exist, also those that are over.

        `leaves` says that the worker was told to end. After such a beat no crash is counted if
        the lease ends by itself. `info` replaces what inspection shows of the worker; empty: it
        stays. The answer names queues with work: so an idle worker learns of
        it when a signal was lost.
        """
        ...

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        """Find out what a lost reply would have said, in `queues` (None: all of the lease).

        No exchange on these queues may be in flight. `sequence` must be above every one used
        before. Exchanges at or below it have no effect when they arrive later. `holding` are
        the jobs that the caller knows of: they run, or their settlement is not confirmed yet.
        """
        ...

    async def rejoin(self, queues: Collection[str]) -> Registered:
        """Enter queues in which the lease was lost, under a new name.

        Changes `spec` for those that have answered.
        """
        ...

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        """Keep named values of jobs; for each, whether this lease holds its job and it is kept.

        A note is kept for as long as its job lives, whoever runs it, and then with its dead
        letter. So a revived job has its notes again. Never refused for memory: callers bound
        how many notes a job has, and how large they are.
        """
        ...

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        """All notes of these jobs by name. None for a job that this lease does not hold."""
        ...

    async def await_events(self, waits: Sequence[EventWait]) -> list[Awaited | None]:
        """Let jobs wait for events; for each how it stands. None: the lease does not hold the job.

        An event counts that is kept and stands behind `after`; of several the first one. Else the
        job waits from now on: an event that is sent now is written into its note, and makes the
        job ready if it is scheduled. A job waits for one event at a time. The same wait again goes
        on with its old end, whoever asks.

        The wait goes with the job, and a dead letter has none. Its note stays.
        """
        ...

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        """Block until there is a signal about these queues, at most `timeout_s`.

        A signal that comes between two calls is returned by the next one. A signal may be
        missed before the first call has returned, and while the store cannot be reached. So it
        is never the only way to learn of something. Signals may be about other workers.
        """
        ...

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        """Release the jobs that are still held, and remove the entries.

        A crash is counted only for those of `crashed` that the lease still holds.
        """
        ...
