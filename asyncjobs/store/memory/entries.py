"""The leases that stand in one queue in memory: their fences, their ends and their upkeep."""

from __future__ import annotations

from itertools import islice
from typing import Final

from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import StaleSequence
from asyncjobs.store.control import Order, OrderKind
from asyncjobs.store.inspect import WorkerEntry
from asyncjobs.store.lease import ENTRY_MARK, LeaseSpec
from asyncjobs.store.memory.stored import StoredJob, serial_of

__all__ = ["Entries", "Held"]

CLOCK_STEP_MS: Final = 1000
"""A clock that was set back by less does no harm that anybody would notice."""


class Held:
    """A lease under its entry in one queue, and the jobs it holds, by serial.

    That it is there is the fence. `marked` are those of its jobs, by id, that somebody wants
    to stop. Exchanges up to `fence` are refused; `applied` is the last one that took effect.
    Offers, which are sent behind a wait, are numbered apart, up to `parked`.
    """

    __slots__ = (
        "applied",
        "end_ms",
        "entry",
        "fence",
        "grace_ms",
        "info",
        "jobs",
        "leaves",
        "marked",
        "orders",
        "parked",
    )

    def __init__(self, entry: str) -> None:
        self.entry = entry
        self.end_ms = 0
        self.grace_ms = 0
        self.fence = 0
        self.parked = 0
        self.applied = 0
        self.info = b"{}"
        self.leaves = False
        """Its worker was told to end: its death is no crash."""
        self.orders: dict[OrderKind, Order] = {}
        self.jobs: dict[int, StoredJob] = {}
        self.marked: dict[str, StoredJob] = {}

    def take(self, job: StoredJob, now: int) -> None:
        """The lease holds the job from now on."""
        job.holder = self.entry
        job.taken_ms = now
        self.jobs[job.serial] = job
        if job.is_marked:
            self.marked[job.id] = job

    def release(self, job: StoredJob) -> None:
        """The lease holds the job no more."""
        del self.jobs[job.serial]
        self.marked.pop(job.id, None)
        job.holder = None

    def begin(self, sequence: int, *, is_parked: bool) -> None:
        """An exchange takes effect."""
        if is_parked:
            self.parked = sequence
            return
        self.fence = sequence
        self.applied = sequence

    def refuse(self, sequence: int) -> None:
        """Refuse every exchange and offer up to this number: a resync begins."""
        self.fence = sequence
        self.parked = sequence

    def taken_jobs(self, queue: str) -> list[TakenJob]:
        """Its jobs as its worker sees them."""
        return [job.taken(queue) for job in self.jobs.values()]

    def in_order(self) -> list[StoredJob]:
        """Its jobs, the most urgent and oldest first."""
        return sorted(self.jobs.values(), key=lambda job: (job.priority, job.serial))


class Entries:
    """Owns the leases of a queue by the names of their entries, and knows when they are over.

    Never moves a job: it says which leases have ended, and the queue gives their jobs back.
    """

    def __init__(self, queue: str) -> None:
        self.leaving: list[Held] = []
        """Leases that have ended and still have jobs, in the order in which they ended."""
        self.seen_ms = 0
        """When a worker of the queue was last heard of."""
        self._queue = queue
        self._held: dict[str, Held] = {}
        self._holds: dict[int, int] = {}
        """By the grace of leases in ms: until when such leases are not reclaimed."""

    def get(self, entry: str | None) -> Held | None:
        """The lease that stands under this name."""
        return None if entry is None else self._held.get(entry)

    def of(self, lease: LeaseSpec) -> Held:
        """The entry of a lease that is known to stand here."""
        return self._held[lease.entry(self._queue)]

    def held(self, lease: LeaseSpec, taken: TakenJob) -> StoredJob | None:
        """The job, when the lease holds it by this very taking.

        A job that was given back keeps its receipt. So what an earlier holder remembers of it
        names the present taking too, but for the holder.
        """
        own = lease.entry(self._queue)
        held = self._held.get(own)
        # rule:5 what was taken under another entry is not settled, in memory
        if held is None or taken.holder != own:
            return None
        job = held.jobs.get(serial_of(taken.receipt))
        return job if job is not None and job.id == taken.id else None

    def mark(self, job: StoredJob) -> str:
        """Somebody wants a running job to stop; the entry of the lease that runs it."""
        assert job.holder is not None
        job.is_marked = True
        # A lease that is over has nobody to hear of it. The next holder does.
        if (held := self._held.get(job.holder)) is not None:
            held.marked[job.id] = job
        return job.holder

    def items(self) -> list[tuple[str, Held]]:
        """Every lease, over or not, with the name of its entry."""
        return [*self._held.items()]

    # Coming, staying, going

    def register(self, lease: LeaseSpec, now: int) -> None:
        """Enter a lease."""
        # From now on a silence is measured by this grace too.
        self._holds.setdefault(lease.grace_ms, 0)
        entry = lease.entry(self._queue)
        held = self._held.setdefault(entry, Held(entry))
        held.end_ms = now + lease.duration_ms
        held.grace_ms = lease.grace_ms
        held.info = lease.info

    def renew(self, lease: LeaseSpec, now: int, *, leaves: bool, info: bytes = b"") -> bool:
        """True when the lease was there, over or not; only reclaim removes it."""
        held = self._held.get(lease.entry(self._queue))
        if held is None:
            return False
        held.end_ms = now + lease.duration_ms
        held.leaves |= leaves
        held.info = info or held.info
        return True

    def order(self, entry: str, kind: OrderKind, value: str, now: int) -> bool:
        """Keep an order for a lease. False when it is not there."""
        held = self._held.get(entry)
        if held is None:
            return False
        number = now
        if kind in held.orders:
            number = max(now, held.orders[kind].number + 1)
        held.orders[kind] = Order(kind, number, value)
        return True

    def orders(self, lease: LeaseSpec) -> list[Order]:
        """What operators have ordered the worker with this lease to do."""
        return [*self.of(lease).orders.values()]

    def remove(self, lease: LeaseSpec) -> Held | None:
        """Take out the entry of a lease that says farewell."""
        return self._held.pop(lease.entry(self._queue), None)

    # Fences

    def check_sequence(self, lease: LeaseSpec, sequence: int, *, is_parked: bool) -> bool:
        """True when the lease is there. Raises StaleSequence; has no effect."""
        held = self._held.get(lease.entry(self._queue))
        if held is None:
            return False
        fence = held.parked if is_parked else held.fence
        if sequence <= fence:
            raise StaleSequence(f"{self._queue}: {sequence} is not above {fence}; resync")
        return True

    # The end of leases

    def touch(self, now: int, grace_ms: int) -> int:
        """Note that a worker was heard of; returns by how many ms the clock was set back.

        After a silence of all workers the store itself was away, or frozen. Then reclaims are
        held back so that live workers can renew first. Each length of grace is held apart:
        after a silence that means nothing to a long lease a short one must be spared, and a
        long one for longer than a short one.
        """
        silence_ms = now - self.seen_ms
        self.seen_ms = now
        for length in {grace_ms, *self._holds}:
            if silence_ms > length:
                self._holds[length] = now + length
        if silence_ms >= -CLOCK_STEP_MS:
            return 0
        # rule:2 after a step back of the clock no hold and no lease lasts as long, in memory
        self._pull_back(now)
        return -silence_ms

    def _pull_back(self, now: int) -> None:
        """The clock has gone back. A time that lies further ahead than its own length was set
        before that: without this the jobs of a dead worker would stay with it for as long as
        the step."""
        for length, until_ms in self._holds.items():
            # Some may not have been heard of since the clock went forward: it stays a hold.
            # rule:2 a step back of the clock ends no hold, in memory
            self._holds[length] = min(until_ms, now + length)
        for held in self._held.values():
            # The grace is two fifths of a lease.
            held.end_ms = min(held.end_ms, now + -(-held.grace_ms * 5 // 2))

    def end_over(self, now: int, dead: str) -> tuple[int, int | None]:
        """Move the leases that are over to `leaving`; how many, and in how many ms to come
        back (None: no lease is left).

        `dead`: the id of a lease that is over whatever its time, for its process has ended; or "".
        """
        over: list[str] = []
        again: list[int] = []
        for name, held in self._held.items():
            # rule:2 each lease is spared for its own grace, in memory
            left_ms = self._holds.get(held.grace_ms, 0) - now
            # rule:2 a lease known to be dead ends under each of its names, in memory
            if dead and (name == dead or name.startswith(dead + ENTRY_MARK)):
                over.append(name)
            elif held.end_ms >= now:
                again.append(max(held.end_ms - now + 1, 1))
            # rule:2 after a silence reclaim waits for live workers, in memory
            elif left_ms > 0:
                # A lone worker that came back only after a whole grace would see this very
                # pause as a silence, and would be held back for ever.
                again.append(max(min(left_ms, held.grace_ms // 2), 1))
            else:
                over.append(name)
        self.leaving.extend(self._held.pop(name) for name in over)
        return len(over), min(again, default=None)

    def release_leaving(self, limit: int) -> list[StoredJob]:
        """Take up to `limit` jobs from the leases that have ended, and charge each of them with a
        crash, unless its worker was told to end."""
        released: list[StoredJob] = []
        while self.leaving and len(released) < limit:
            held = self.leaving[0]
            for job in held.in_order()[: limit - len(released)]:
                # rule:7 a planned death counts no crash, in memory
                job.crashes += not held.leaves
                held.release(job)
                released.append(job)
            if not held.jobs:
                self.leaving.pop(0)
        return released

    def next_end_ms(self, except_for: LeaseSpec) -> int | None:
        """The earliest end of a lease other than `except_for`."""
        own = except_for.entry(self._queue)
        return min((held.end_ms for name, held in self._held.items() if name != own), default=None)

    # Asking

    def cancels(self, lease: LeaseSpec, most: int | None = None) -> list[JobRef]:
        """Jobs of this lease that somebody wants to stop, the newest first."""
        held = self._held.get(lease.entry(self._queue))
        if held is None:
            return []
        return [JobRef(self._queue, id) for id in islice(reversed(held.marked), most)]

    def living(self, now: int) -> int:
        """How many leases are not over."""
        return sum(held.end_ms > now for held in self._held.values())

    def workers(self, now: int) -> list[WorkerEntry]:
        """The leases, over or not, the earliest end first."""
        leases = sorted(self._held.items(), key=lambda item: (item[1].end_ms, item[0]))
        return [
            WorkerEntry(
                self._queue,
                name,
                held.end_ms,
                now,
                held.info,
                len(held.jobs),
                held.leaves,
                held.orders[OrderKind.STATE].value if OrderKind.STATE in held.orders else "",
            )
            for name, held in leases
        ]
