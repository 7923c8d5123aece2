"""The lease at the seam: what it is made of, and what a worker asks of the store in its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

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

__all__ = ["Lease", "LeaseSpec", "Offer"]


@dataclass(frozen=True, slots=True)
class LeaseSpec:
    """A worker's timed right to the jobs it holds, one entry in each of its queues.

    `id` is new for each worker run; `worker` is a label. A queue in which the lease was
    lost is entered again under a name of its own (`renewed`), for an entry's name is
    never reused: the jobs of the lost one may still be on their way back. `info` is
    what inspection shows of the worker, as JSON.
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
        """This lease as far as these of its queues go, to ask about them alone."""
        return replace(self, queues=tuple(queues))

    def renew(self, queues: Collection[str], name: str) -> LeaseSpec:
        """This lease with a new entry in `queues`, to be registered there."""
        # rule:2 a lost queue is entered under a new name
        return replace(self, renewed={**self.renewed, **dict.fromkeys(queues, name)})

    @property
    def grace_ms(self) -> int:
        """A silence of all workers for longer than this means that the store was away;
        then they get as long again to renew. Longer than from one heartbeat to the next."""
        return self.duration_ms * 2 // 5


class Offer(NamedTuple):
    """An exchange that settles nothing, sent behind the wait of `Lease.park`.

    `sequence` is of the same row as those of exchanges, and these do not make it stale:
    others may go on meanwhile, so `demand` must leave out what they ask for. A resync makes
    it stale.
    """

    sequence: int
    demand: Mapping[str, Demand]


class Lease(Protocol):
    """A worker's standing in its queues. Made by `Backend.lease`, which enters them, or by
    `Backend.attach` over entries that stand there.

    Every method may raise StoreUnavailable; then nothing is known. Belongs to one event
    loop; another one attaches a lease of its own to `spec`, on a twin of the store.
    """

    @property
    def spec(self) -> LeaseSpec:
        """The lease as it stands now; `rejoin` replaces it. May be read from any thread."""
        ...

    @property
    def entered(self) -> Registered:
        """What the store said when the queues were entered. One that was attached knows
        nothing of it: nothing is away, and `now_ms` is 0."""
        ...

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        """Settle finished jobs and take new ones, in one round trip.

        Covers the queues of `demand` and of `settlements`. For each: check the lease
        and that `sequence` is above the last applied, settle what this lease still
        owns, promote due jobs, take. Raises StaleSequence without any effect.

        A success stores its `effects` in the same step, and only if it counts: never when it is
        among `not_yours`, so what is sent again stores nothing twice. A job whose id is there
        is not stored again. Effects are never refused for memory: they are bounded, and a
        settlement must always be possible. Raises UsageError, before anything is sent, for effects
        of anything but a success, for another queue or over their bounds; MissingCapability for
        terms that this store cannot keep.
        """
        ...

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        """Block until a queue signals work, at most `timeout_s`.

        Without an offer nothing is taken. Whoever was signalled must exchange on these
        queues, with demand or without: that passes the signal on.

        With an offer its exchange follows on the same connection, so that new work needs no
        trip of its own. It is fenced apart from other exchanges (see `Offer`). It hands out new
        jobs only: suspects never, jobs that were given back or are due perhaps; these are
        told of as `left_ready` and `next_due_ms`, and the next exchange brings them.
        `next_lease_end_ms` may be left out. After an error the jobs may be taken: resync.
        """
        ...

    async def beat(self, *, leaves: bool = False) -> Heartbeat:
        """Renew the entries that still exist, also ones that are over.

        `leaves`: the worker was told to end; once a beat has said so, no crash is counted if
        the lease ends by itself. The answer names queues with work, so that an idle worker
        learns of a signal that was lost.
        """
        ...

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        """After an exchange whose reply was lost, in `queues` (None: all of the lease).

        No exchange on these queues may be in flight. `sequence` must be above every one used
        before; exchanges at or below it that arrive late have no effect any more. `holding`:
        the jobs the caller knows of, running or with a settlement not yet confirmed.
        """
        ...

    async def rejoin(self, queues: Collection[str]) -> Registered:
        """Enter queues in which the lease was lost, under a new name.

        Changes `spec` for those that have answered.
        """
        ...

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        """Keep named values of the jobs that this lease still holds; for each: whether it does.

        Written through: what is True is in the store. A note is kept for as long as its job
        lives, whoever runs it, and with its dead letter; a revived job has its notes again. Never
        refused for memory. Callers bound how many a job has, and how large they are.
        """
        ...

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        """All notes of these jobs by their names; None for a job that this lease does not hold."""
        ...

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        """Block until somebody signals something about these queues, at most `timeout_s`.

        What is said between two calls is heard by the next one; before the first call has
        returned, and while the store cannot be reached, it may be missed, so a signal
        is never the only way to learn of something. Signals may be about other workers.
        """
        ...

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        """Release the jobs still held and remove the entries.

        No crash is counted, but one for each of `crashed` that the lease still holds.
        """
        ...
