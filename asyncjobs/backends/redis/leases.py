"""What a worker asks of the store for its lease: its entry, its jobs, its calls.

One connection of a registration exchanges, one waits and one listens; none is shared
and none repeats anything by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from asyncjobs.backends.base import (
    CancelCall,
    Demand,
    Exchange,
    Heartbeat,
    LeaseSpec,
    Parked,
    Registered,
    Resync,
    StaleSequence,
)
from asyncjobs.backends.redis.control import ControlChannel
from asyncjobs.backends.redis.exchange import ExchangePlan, OfferPlan, crashes_in, id_of, taken_job
from asyncjobs.backends.redis.faults import NoScript, is_of_queue
from asyncjobs.backends.redis.keys import StoreKeys
from asyncjobs.backends.redis.link import Command, Link
from asyncjobs.backends.redis.lookups import STEP
from asyncjobs.backends.redis.notes import place_of, read_notes, steps_of
from asyncjobs.backends.redis.scripts import by_queue, raise_away, run, run_all, run_each, script
from asyncjobs.errors import StoreError
from asyncjobs.guarded import GuardedLog
from asyncjobs.job import JobRef, Note, Notes, Settlement, TakenJob

__all__ = ["LeaseCalls"]

logger = GuardedLog("asyncjobs.redis")

RESYNC_LIMIT: Final = 100_000


class _LeaseLinks:
    """The connections of one registration: one exchanges, one waits, one listens."""

    __slots__ = ("control", "exchange", "silent", "wait")

    def __init__(self, exchange: Link, wait: Link, control: ControlChannel) -> None:
        self.exchange = exchange
        self.wait = wait
        self.control = control
        self.silent: frozenset[str] = frozenset()
        """Queues that could not be waited for when that was last looked into."""

    async def close(self) -> None:
        await self.exchange.close()
        await self.wait.close()
        await self.control.close()


class LeaseCalls:
    """The part of `Backend` that takes a lease; owns three connections for each."""

    def __init__(
        self,
        link: Link,
        new_link: Callable[[str], Link],
        keys: StoreKeys,
        pinned: Callable[[], bytes],
        id_ttl_ms: int,
    ) -> None:
        self._link = link
        self._new_link = new_link
        self._keys = keys
        self._pinned = pinned
        self._id_ttl_ms = id_ttl_ms
        self._leases: dict[str, _LeaseLinks] = {}

    async def register(self, lease: LeaseSpec, queues: Sequence[str] | None = None) -> Registered:
        links = self._links(lease)
        queues = lease.queues if queues is None else queues
        enter = script("register")
        about = (lease.duration_ms, lease.info)
        commands = tuple(
            enter.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), *about)
            for queue in queues
        )
        replies = await run_each(links.exchange, enter, commands)
        times, away = by_queue(queues, replies)
        return Registered(max(times.values(), default=0), away)

    async def deregister(self, lease: LeaseSpec, crashed: Collection[TakenJob] = ()) -> None:
        away: dict[str, StoreError] = {}
        try:
            for queue in lease.queues:
                try:
                    await self._leave(lease, queue, crashed)
                except StoreError as error:
                    if not is_of_queue(error):
                        raise
                    away[queue] = error
            raise_away(away)
        finally:
            links = self._leases.pop(lease.id, None)
            if links is not None:
                await links.close()

    async def _leave(self, lease: LeaseSpec, queue: str, crashed: Collection[TakenJob]) -> None:
        leave = script("deregister")
        head = (self._keys.queue(queue), self._pinned(), lease.entry(queue), 1000)
        charged: list[bytes | str | int] = []
        for job in crashed:
            if job.queue == queue and job.holder == lease.entry(queue):
                charged += (job.priority, job.receipt)
        # 1,000 jobs a call, so that the server stays free in between; charged once.
        is_gone = await run(self._link, leave, leave.command(*head, *charged))
        while not is_gone:
            is_gone = await run(self._link, leave, leave.command(*head))

    async def heartbeat(self, lease: LeaseSpec) -> Heartbeat:
        beat, about = script("heartbeat"), (lease.duration_ms, int(lease.leaves))
        commands = tuple(
            beat.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), *about)
            for queue in lease.queues
        )
        lost: list[str] = []
        cancels: list[JobRef] = []
        ends: list[int] = []
        replies = await run_each(self._link, beat, commands)
        answers, away = by_queue(lease.queues, replies)
        ready: list[str] = []
        for queue, (held, _, end, marked, is_ready) in answers.items():
            if is_ready:
                ready.append(queue)
            if not held:
                lost.append(queue)
            if end >= 0:
                ends.append(end)
            cancels += [JobRef(queue, id_of(name)) for name in marked]
        now_ms = max((answer[1] for answer in answers.values()), default=0)
        next_end_ms = min(ends, default=None)
        return Heartbeat(tuple(lost), cancels, next_end_ms, now_ms, tuple(ready), away)

    async def exchange(
        self,
        lease: LeaseSpec,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        trade = script("exchange")
        plan = ExchangePlan(
            trade,
            self._keys,
            lease,
            self._pinned(),
            self._id_ttl_ms,
            sequence,
            settlements,
            demand,
        )
        replies = await run_each(self._links(lease).exchange, trade, plan.commands)
        return plan.read(replies)

    async def resync(
        self, lease: LeaseSpec, sequence: int, holding: Collection[TakenJob]
    ) -> Resync:
        ask = script("resync")
        link = self._links(lease).exchange
        numbers = (sequence, RESYNC_LIMIT)
        commands = tuple(
            ask.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), *numbers)
            for queue in lease.queues
        )
        # A run left over from a lost entry is not the job that was taken again since.
        known = {
            (job.queue, job.priority, job.receipt)
            for job in holding
            if job.holder == lease.entry(job.queue)
        }
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        lost: list[str] = []
        answers, failed = by_queue(lease.queues, await run_each(link, ask, commands))
        away = dict(failed)
        for queue, reply in answers.items():
            if reply[0] == b"lost":
                lost.append(queue)
                continue
            if reply[0] == b"stale":
                raise StaleSequence(f"{queue}: last applied was {reply[1]}")
            found: list[TakenJob] = []
            try:
                for priority, entries in enumerate(reply[2]):
                    unknown = [entry for entry in entries if (queue, priority, entry) not in known]
                    found += await self._held(link, lease, queue, priority, unknown)
            except StoreError as error:
                if not is_of_queue(error):
                    raise
                away[queue] = error
                continue
            applied[queue] = reply[1]
            missing += found
        return Resync(applied, missing, tuple(lost), away)

    async def _held(
        self, link: Link, lease: LeaseSpec, queue: str, priority: int, entries: list[bytes]
    ) -> list[TakenJob]:
        fetch, holder = script("held"), lease.entry(queue)
        jobs: list[TakenJob] = []
        first = 0
        while first < len(entries):
            step = entries[first : first + STEP]
            command = fetch.command(self._keys.queue(queue), self._pinned(), priority, *step)
            # Fewer where they are large: the script stops after 4 MiB.
            looked, found = await run(link, fetch, command)
            first += looked
            for entry, crashes in found:
                jobs.append(taken_job(queue, holder, priority, entry, crashes_in(crashes)))
        return jobs

    async def wait(self, lease: LeaseSpec, timeout_s: float) -> Collection[str]:
        try:
            called, _ = await self._wait(lease, timeout_s, ())
        except StoreError as error:
            if not is_of_queue(error):
                raise
            sound = await self._sound_wakes(lease)
            # One key of a wrong type fails the whole command.
            # rule:1 a queue that wakes nobody keeps no other one from waking
            if not sound or len(sound) == len(lease.queues):
                raise
            called, _ = await self._wait(lease.within(sound), timeout_s, ())
        return called

    async def _sound_wakes(self, lease: LeaseSpec) -> list[str]:
        """The queues of the lease that can be waited for; others are told of once."""
        links = self._links(lease)
        commands = [(b"LLEN", self._keys.queue(queue).wake) for queue in lease.queues]
        answers, away = by_queue(lease.queues, await links.wait.calls(commands))
        for queue in away.keys() - links.silent:
            logger.error("queue %r wakes nobody, the others do: %s", queue, away[queue])
        links.silent = frozenset(away)
        return list(answers)

    async def wait_and_take(
        self, lease: LeaseSpec, timeout_s: float, sequence: int, demand: Mapping[str, Demand]
    ) -> Parked:
        # What a connection has sent behind a blocking command is kept by the server, and
        # executed as soon as that one has been answered: the exchange needs no trip of its
        # own, and it is checked then like any other.
        offer = script("offer")
        plan = OfferPlan(offer, self._keys, lease, self._pinned(), sequence, demand)
        called, replies = await self._wait(lease, timeout_s, plan.commands)
        if any(isinstance(reply, NoScript) for reply in replies):
            replies = await run_all(self._links(lease).wait, offer, plan.commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        try:
            return Parked(called, plan.read(replies))
        except StaleSequence:
            return Parked(called, None)

    async def _wait(
        self, lease: LeaseSpec, timeout_s: float, behind: Sequence[Command]
    ) -> tuple[Collection[str], list[Any]]:
        """The queues that called, and the replies to what was sent behind the wait."""
        wakes = {self._keys.queue(queue).wake: queue for queue in lease.queues}
        wait: Command = (b"BLPOP", *wakes, f"{max(timeout_s, 0.001):.3f}")  # 0 would be for ever
        # A half-open connection never answers: give the server a margin, no more.
        reply, *replies = await self._links(lease).wait.calls(
            (wait, *behind), timeout_s=timeout_s + 5
        )
        if isinstance(reply, Exception):
            raise reply
        return (() if reply is None else (wakes[reply[0]],)), replies

    async def listen(self, lease: LeaseSpec, timeout_s: float) -> Collection[CancelCall]:
        return await self._links(lease).control.listen(timeout_s)

    async def note(self, lease: LeaseSpec, notes: Sequence[Note]) -> list[bool]:
        write, kept = script("note"), [False] * len(notes)
        steps = steps_of(lease, [note.job for note in notes])
        commands = []
        for queue, places in steps:
            keys = self._keys.queue(queue)
            args: list[bytes | str | int] = [self._pinned(), lease.entry(queue)]
            for place in places:
                job, name, value = notes[place]
                args += (job.id, place_of(job), name, value)
            more_keys = tuple(keys.notes(notes[place].job.id) for place in places)
            commands.append(write.command(keys, *args, more_keys=more_keys))
        replies = await run_all(self._link, write, tuple(commands)) if commands else []
        for (_, places), reply in zip(steps, replies, strict=True):
            for place, letter in zip(places, reply, strict=True):
                kept[place] = letter == ord("1")
        return kept

    async def notes(self, lease: LeaseSpec, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        read = script("notes")
        found: list[Notes | None] = [None] * len(jobs)
        steps = steps_of(lease, jobs)
        commands = []
        for queue, places in steps:
            keys = self._keys.queue(queue)
            args: list[bytes | str | int] = [self._pinned(), lease.entry(queue)]
            args += [place_of(jobs[place]) for place in places]
            more_keys = tuple(keys.notes(jobs[place].id) for place in places)
            commands.append(read.command(keys, *args, more_keys=more_keys))
        replies = await run_all(self._link, read, tuple(commands)) if commands else []
        for (_, places), reply in zip(steps, replies, strict=True):
            for place, answer in zip(places, reply, strict=True):
                if isinstance(answer, list):
                    found[place] = read_notes(answer)
        return found

    def _links(self, lease: LeaseSpec) -> _LeaseLinks:
        # rule:14 the exchanges of a worker share one connection
        links = self._leases.get(lease.id)
        if links is None:
            control = ControlChannel(self._new_link("control"), self._keys, lease.queues)
            links = _LeaseLinks(self._new_link("exchange"), self._new_link("wait"), control)
            self._leases[lease.id] = links
        return links

    async def close(self) -> None:
        """Close the connections of all leases."""
        for links in self._leases.values():
            await links.close()
        self._leases.clear()
