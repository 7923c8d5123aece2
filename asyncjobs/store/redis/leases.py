"""What a worker asks of the server in the name of its lease.

A lease has one connection for exchanges, one for waiting and one for signals. They are shared
with nobody, and none of them sends anything twice by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.awaiting import Awaited, EventWait
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.ids import id_text
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import (
    Exchange,
    Heartbeat,
    Parked,
    Registered,
    Resync,
    Signal,
    StaleSequence,
)
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.control import ControlChannel
from asyncjobs.store.redis.events import EventWaits
from asyncjobs.store.redis.exchange import OfferPlan, crashes_in, taken_job
from asyncjobs.store.redis.faults import is_of_queue
from asyncjobs.store.redis.gates import GATED, slot_of
from asyncjobs.store.redis.link import Command, Link
from asyncjobs.store.redis.listing import announce
from asyncjobs.store.redis.lookups import STEP
from asyncjobs.store.redis.notes import NoteReads, NoteWrites
from asyncjobs.store.redis.operating import read_orders
from asyncjobs.store.redis.scripts import (
    Script,
    by_queue,
    raise_away,
    run,
    run_all,
    run_each,
    script,
)
from asyncjobs.store.redis.trading import trade
from asyncjobs.store.redis.wakes import Wakes

__all__ = ["LeaseLinks", "RedisLease"]

RESYNC_LIMIT: Final = 100_000
"""The most jobs of each priority that a resync asks for, so that its reply stays bounded."""
LEAVE_STEP: Final = 1_000
"""Jobs that one call gives back: in between the server serves others."""


class LeaseLinks:
    """The connections of one lease: one exchanges, one waits, one listens."""

    __slots__ = ("control", "exchange", "wakes")

    def __init__(self, exchange: Link, wakes: Wakes, control: ControlChannel) -> None:
        self.exchange = exchange
        self.wakes = wakes
        self.control = control

    async def close(self) -> None:
        await self.exchange.close()
        await self.wakes.close()
        await self.control.close()


class RedisLease:
    """See `Lease`. Owns its connections, from the first call that needs them until it leaves.

    `opened` is the store's set of such connections. So the store can close those of a lease
    that has not left.
    """

    def __init__(self, access: Access, spec: LeaseSpec, opened: set[LeaseLinks]) -> None:
        self._access = access
        self._keys = access.keys
        self._opened = opened
        self._links: LeaseLinks | None = None
        self.spec = spec
        self.entered = Registered(0)

    @property
    def links(self) -> LeaseLinks:
        """Its connections. They are made when first needed."""
        # rule:14 the exchanges of a worker share one connection
        links = self._links
        if links is None:
            new_link = self._access.new_link
            wakes = Wakes(new_link("wait"), self._keys)
            control = ControlChannel(new_link("control"), self._keys, self.spec.queues)
            links = LeaseLinks(new_link("exchange"), wakes, control)
            self._links = links
            self._opened.add(links)
        return links

    async def close(self) -> None:
        """Close the connections. The entries stay."""
        links = self._links
        self._links = None
        if links is not None:
            self._opened.discard(links)
            await links.close()

    # rule:9 a worker says its queues when its lease keeps them from being forgotten
    async def enter(self) -> None:
        """Enter all queues of a new lease."""
        self.entered = await self._enter(self.spec, self.spec.queues)
        # Not before: until the lease stands there, somebody may forget the queue and take its
        # name off the list.
        await announce(self._access.link, self._keys.queues, self.spec.queues)

    async def rejoin(self, queues: Collection[str]) -> Registered:
        # A new entry: jobs of the lost entry may still be on their way back under the old name.
        suffix = new_id()
        answer = await self._enter(self.spec.renew(queues, suffix), tuple(queues))
        # In a queue that has not answered the entry is still lost, under its old name.
        entered = [queue for queue in queues if queue not in answer.away]
        self.spec = self.spec.renew(entered, suffix)
        await announce(self._access.link, self._keys.queues, self.spec.queues)
        return answer

    async def _enter(self, spec: LeaseSpec, queues: Sequence[str]) -> Registered:
        enter = script("register")
        about = (spec.duration_ms, spec.info)
        commands = tuple(
            enter.command(self._keys.queue(queue), self._access.pinned(), spec.entry(queue), *about)
            for queue in queues
        )
        replies = await run_each(self.links.exchange, enter, commands)
        times, away = by_queue(queues, replies)
        return Registered(max(times.values(), default=0), away)

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        return await trade(
            self._access, self.links.exchange, self.spec, sequence, settlements, demand
        )

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        spec = self.spec
        ask = script("resync")
        queues = spec.queues if queues is None else tuple(queues)
        numbers = (sequence, RESYNC_LIMIT)
        commands = tuple(
            ask.command(self._keys.queue(queue), self._access.pinned(), spec.entry(queue), *numbers)
            for queue in queues
        )
        known = _entries(spec, holding)
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        lost: list[str] = []
        answers, failed = by_queue(queues, await run_each(self.links.exchange, ask, commands))
        away = dict(failed)
        for queue, reply in answers.items():
            if reply[0] == b"lost":
                lost.append(queue)
                continue
            if reply[0] == b"stale":
                raise StaleSequence(f"{queue}: last applied was {reply[1]}")
            unknown = [
                [entry for entry in entries if (queue, priority, entry) not in known]
                for priority, entries in enumerate(reply[2])
            ]
            try:
                missing += await self._held(spec, queue, unknown)
                applied[queue] = reply[1]
            except StoreError as error:
                if not is_of_queue(error):
                    raise
                # Without its jobs the answer of this queue is of no use. The caller asks again.
                away[queue] = error
        return Resync(applied, missing, tuple(lost), away)

    async def _held(
        self, spec: LeaseSpec, queue: str, by_priority: Sequence[Sequence[bytes]]
    ) -> list[TakenJob]:
        """The jobs of these stream entries, which this lease holds."""
        fetch = script("held")
        keys = self._keys.queue(queue)
        holder = spec.entry(queue)
        jobs: list[TakenJob] = []
        for priority, entries in enumerate(by_priority):
            first = 0
            while first < len(entries):
                step = entries[first : first + STEP]
                command = fetch.command(keys, self._access.pinned(), priority, *step)
                # The script stops after 4 MiB, so it may have looked at fewer.
                looked, found = await run(self.links.exchange, fetch, command)
                first += looked
                for entry, crashes, own, since in found:
                    job = taken_job(queue, holder, priority, entry, crashes_in(crashes))
                    if priority == GATED:
                        job = job._replace(priority=own, ready_ms=since)
                    jobs.append(job)
        return jobs

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        queues = self.spec.queues
        wakes = self.links.wakes
        if offer is None:
            return Parked(await wakes.wait(queues, timeout_s), None)
        take = script("offer")
        plan = OfferPlan(take, self._keys, self.spec, self._access.pinned(), *offer)
        signalled, replies = await wakes.wait_and_run(queues, timeout_s, take, plan.commands)
        try:
            return Parked(signalled, plan.read(replies))
        except StaleSequence:
            # A resync came first, or a copy of this offer has taken effect: see `Parked`.
            return Parked(signalled, None)

    async def beat(self, *, leaves: bool = False, info: bytes = b"") -> Heartbeat:
        spec = self.spec
        beat = script("heartbeat")
        about = (spec.duration_ms, int(leaves), info)
        commands = tuple(
            beat.command(self._keys.queue(queue), self._access.pinned(), spec.entry(queue), *about)
            for queue in spec.queues
        )
        # Not on the connection of exchanges: a heartbeat must not wait behind a large one.
        replies = await run_each(self._access.link, beat, commands)
        return _heartbeat(*by_queue(spec.queues, replies))

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        return await self.links.control.listen(timeout_s)

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        write = script("note")
        plan = NoteWrites(write, self._keys, self.spec, self._access.pinned(), notes)
        return plan.read(await self._all(write, plan.commands))

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        read = script("notes")
        plan = NoteReads(read, self._keys, self.spec, self._access.pinned(), jobs)
        return plan.read(await self._all(read, plan.commands))

    async def await_events(self, waits: Sequence[EventWait]) -> list[Awaited | None]:
        ask = script("await_events")
        plan = EventWaits(ask, self._keys, self.spec, self._access.pinned(), waits)
        return plan.read(await self._all(ask, plan.commands))

    async def _all(self, which: Script, commands: tuple[Command, ...]) -> list[Any]:
        """The replies of one script. Without commands the server is not asked."""
        if not commands:
            return []
        return await run_all(self._access.link, which, commands)

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        away: dict[str, StoreError] = {}
        try:
            for queue in self.spec.queues:
                try:
                    await self._leave(queue, crashed)
                except StoreError as error:
                    if not is_of_queue(error):
                        raise
                    away[queue] = error
            raise_away(away)
        finally:
            # Also when the store is away, for this lease will not use them again.
            await self.close()

    async def _leave(self, queue: str, crashed: Collection[TakenJob]) -> None:
        leave = script("deregister")
        entry = self.spec.entry(queue)
        link = self._access.link
        head = (self._keys.queue(queue), self._access.pinned(), entry, LEAVE_STEP)
        charged: list[bytes | str | int] = []
        for job in crashed:
            if job.queue == queue and job.holder == entry:
                charged += (slot_of(job), job.receipt)
        # The crashes are counted by the first call, and by no other.
        is_gone = await run(link, leave, leave.command(*head, *charged))
        while not is_gone:
            is_gone = await run(link, leave, leave.command(*head))


def _heartbeat(answers: Mapping[str, Any], away: Mapping[str, StoreError]) -> Heartbeat:
    """The answers of all queues to one heartbeat, as one."""
    lost: list[str] = []
    cancels: list[JobRef] = []
    ends: list[int] = []
    ready: list[str] = []
    ordered: list[list[bytes | None]] = []
    for queue, (held, _, end, marked, is_ready, orders) in answers.items():
        ordered.append(orders)
        if is_ready:
            ready.append(queue)
        if not held:
            lost.append(queue)
        if end >= 0:
            ends.append(end)
        cancels += [JobRef(queue, id_text(name)) for name in marked]
    now_ms = max((answer[1] for answer in answers.values()), default=0)
    next_end_ms = min(ends, default=None)
    orders_given = read_orders(ordered)
    return Heartbeat(tuple(lost), cancels, next_end_ms, now_ms, tuple(ready), away, orders_given)


def _entries(spec: LeaseSpec, jobs: Collection[TakenJob]) -> set[tuple[str, int, bytes]]:
    """Where these jobs stand in the streams of their queues.

    A job that was taken under a lost entry is left out: this lease may have taken it again since,
    and then it is missing although its old attempt still runs.
    """
    return {
        (job.queue, slot_of(job), job.receipt)
        for job in jobs
        if job.holder == spec.entry(job.queue)
    }
