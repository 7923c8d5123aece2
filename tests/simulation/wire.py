"""The way of calls between simulated processes and the one store, and what befalls them.

A request arrives at the store whatever becomes of its sender: it is carried by the
world, not by the process that waits for the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from operator import attrgetter
from typing import Any, cast

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.figures import Figures
from asyncjobs.model.job import JobRecord, TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import (
    CancelVerdict,
    Enqueued,
    Exchange,
    Heartbeat,
    Parked,
    Reclaimed,
    Registered,
    Resync,
    Signal,
)
from asyncjobs.store.control import Control
from asyncjobs.store.inspect import Inspection, Survey
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.letters import DeadLetters
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Backend, EnqueueBatch, StoreInfo
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, SimLoop, SimTask

__all__ = ["Fate", "Network", "Wire"]

Reply = asyncio.Future[Any]


class Fate(Enum):
    """What becomes of one call."""

    FINE = "fine"
    SLOW = "slow"
    NO_REQUEST = "request lost"
    NO_REPLY = "reply lost"
    LATE = "request late"
    DOUBLE = "done twice"


TROUBLES = (Fate.SLOW, Fate.NO_REQUEST, Fate.NO_REPLY, Fate.NO_REPLY, Fate.LATE, Fate.DOUBLE)

PARKING = frozenset({"park", "listen"})
"""Calls that stay at the store for a while."""
OF_A_LEASE = PARKING | {"enter", "leave", "beat", "exchange", "resync", "note", "notes"}
"""Calls whose first argument is the lease in whose name they are made, as it was then."""

NEVER_AGAIN = frozenset({"enter", "add_figures"})
"""Calls that nobody sends again. Each try to enter has a name of its own: done twice, it would
bring back a lease that has ended in between. And figures would be counted twice."""


class Network:
    """Owns the calls under way and what the seed does to them."""

    def __init__(self, loop: SimLoop, store: MemoryBackend, ledger: Ledger, trouble: float) -> None:
        self._loop = loop
        self._store = store
        self._ledger = ledger
        self._parked: dict[Reply, tuple[Process, SimTask]] = {}
        self._calls = 0
        self.trouble = trouble
        """How many of the calls have a fate other than a fine one."""
        self.forced: list[tuple[int, Fate]] = []
        """The fate of the first exchange from this call on, in the order of the numbers."""
        self.away = False
        """True while the store cannot be reached by anybody."""
        self.counts: dict[Fate, int] = dict.fromkeys(Fate, 0)

    def send(self, process: Process, name: str, args: tuple[Any, ...], reply: Reply) -> None:
        """Carry a call to the store; its answer, or a StoreUnavailable, comes by `reply`."""
        loop, chance = self._loop, self._loop.random.random
        fate = self._fate(name)
        if fate is Fate.FINE:
            loop.after(0.0002 + 0.003 * chance(), self._arrive, process, name, args, reply, fate)
            return
        self.counts[fate] += 1
        self._ledger.trouble(process, name, fate.value)
        if fate is Fate.SLOW:
            loop.after(0.6 * chance(), self._arrive, process, name, args, reply, fate)
            return
        gives_up_s = 0.001 + (0.05 if chance() < 0.5 else 0.8) * chance()
        if fate is Fate.NO_REQUEST:
            loop.after(gives_up_s, self._fail, reply)
        elif fate is Fate.LATE:
            loop.after(gives_up_s, self._fail, reply)
            later_s = gives_up_s + (0.3 if chance() < 0.5 else 4.0) * chance()
            loop.after(later_s, self._arrive, process, name, args, None, fate)
        elif fate is Fate.NO_REPLY:
            loop.after(gives_up_s * chance(), self._arrive, process, name, args, None, fate)
            loop.after(gives_up_s, self._fail, reply)
        else:
            loop.after(0.003 * chance(), self._arrive, process, name, args, reply, fate)
            later_s = (0.01 if chance() < 0.5 else 2.0) * chance()
            loop.after(later_s, self._arrive, process, name, args, None, fate, reply)

    def _fate(self, name: str) -> Fate:
        self._calls += 1
        chance = self._loop.random.random()
        if self.forced and name == "exchange" and self._calls >= self.forced[0][0]:
            return self.forced.pop(0)[1]
        if chance >= self.trouble:
            return Fate.FINE
        fate = TROUBLES[int(chance / self.trouble * len(TROUBLES))]
        if fate is Fate.DOUBLE and name in NEVER_AGAIN:
            return Fate.FINE
        return fate

    def _arrive(
        self,
        process: Process,
        name: str,
        args: tuple[Any, ...],
        reply: Reply | None,
        fate: Fate,
        other: Reply | None = None,
    ) -> None:
        """`other`: of the copy whose answer the sender hears, when this is one that it does not."""
        if self.away:
            self._ledger.trouble(process, name, "store away")
            if reply is not None:
                self._loop.after(0.01, self._fail, reply)
            return
        if name in PARKING:
            self._park(process, name, args, reply, other)
            return
        call = self._call(name, args)
        try:
            call.send(None)
        except StopIteration as end:
            self._ledger.applied(process, name, args, end.value)
            if reply is not None:
                self._loop.after(self._way_back_s(), _set_result, reply, end.value)
        except Exception as error:
            self._ledger.refused(process, name, args, error)
            if reply is not None:
                self._loop.after(self._way_back_s(), _set_exception, reply, error)
        else:
            raise AssertionError(f"{name} must not wait in a store that is one step a call")

    def _call(self, name: str, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        if name not in OF_A_LEASE:
            to_store: Coroutine[Any, Any, Any] = attrgetter(name)(self._store)(*args)
            return to_store
        lease = self._store.attach(args[0])
        if name == "beat":
            return lease.beat(leaves=args[1], info=args[2])
        to_lease: Coroutine[Any, Any, Any] = getattr(lease, name)(*args[1:])
        return to_lease

    def _way_back_s(self) -> float:
        return 0.0002 + 0.003 * self._loop.random.random()

    def _fail(self, reply: Reply) -> None:
        _set_exception(reply, StoreUnavailable("the wire broke"))

    # ── callers that park ──────────────────────────────────────────────────────────────

    def _park(
        self,
        process: Process,
        name: str,
        args: tuple[Any, ...],
        reply: Reply | None,
        other: Reply | None,
    ) -> None:
        if name == "park" and args[2] is not None:
            # On a connection that only its owner knows to be broken it stays, and takes.
            if reply is None:
                reply = self._loop.create_future()
                reply.add_done_callback(_forget)
            call = self._take_on_call(process, other, *args)
        elif reply is None or reply.done() or process.is_dead:
            return
        else:
            call = self._call(name, args)
        parked = self._loop.create_task(call, name="parked")
        self._parked[reply] = process, parked
        parked.add_done_callback(lambda task: self._unpark(reply, task))

    async def _take_on_call(
        self,
        process: Process,
        other: Reply | None,
        spec: LeaseSpec,
        timeout_s: float,
        offer: Offer,
    ) -> Parked:
        answer = await self._store.attach(spec).park(timeout_s, offer)
        if answer.exchange is not None:
            trade = (spec, offer.sequence, (), offer.demand)
            self._ledger.applied(process, "exchange", trade, answer.exchange)
            if other is not None and not other.done():
                self._ledger.unheard(answer.exchange.jobs, other, timeout_s)
        return answer

    def _unpark(self, reply: Reply, task: SimTask) -> None:
        self._parked.pop(reply, None)
        if not task.cancelled():
            self._loop.after(self._way_back_s(), _set_result, reply, task.result())

    def hang_up(self, reply: Reply) -> None:
        """The caller has closed its connection; the store notices at once."""
        if reply in self._parked:
            self._parked.pop(reply)[1].cancel()

    def hang_up_all(self, process: Process) -> None:
        """The caller has died, and its machine says so."""
        for reply, (owner, _) in list(self._parked.items()):
            if owner is process:
                self.hang_up(reply)

    def disconnect(self) -> None:
        """The store goes away: nobody is parked any more."""
        for reply in list(self._parked):
            self.hang_up(reply)
            self._fail(reply)


class _NotAsked:
    """An inspection that leaves the queues that nobody serves to somebody else."""

    @property
    def queues(self) -> _NotAsked:
        return self

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        return Survey(is_turn=False, is_last=False, queues=[])


class Wire:
    """A Backend for one process: everything goes through the network."""

    address = "simulated:"

    def __init__(self, loop: SimLoop, network: Network, process: Process) -> None:
        self._loop = loop
        self._network = network
        self._process = process
        # Nothing here has schedules, or is for another queue. Asking for it would make each seed
        # another run.
        self.capabilities = replace(
            MemoryBackend.capabilities, schedules=False, across_queues=False
        )
        self.inspect = cast(Inspection, _NotAsked())
        self.dead = cast(DeadLetters, None)
        self.control = cast(Control, _NotAsked())

    def call(self, name: str, *args: Any) -> Reply:
        """Send a call; its answer comes by the future."""
        reply: Reply = self._loop.create_future()
        self._network.send(self._process, name, args, reply)
        return reply

    async def open(self) -> StoreInfo:
        return StoreInfo("simulated", "1", self.address)

    async def close(self) -> None:
        pass

    def for_thread(self) -> Backend:
        raise AssertionError("nothing here runs in threads")

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        answer: Enqueued = await self.call("enqueue", batch)
        return answer

    async def lease(self, spec: LeaseSpec) -> WireLease:
        lease = self.attach(spec)
        await lease.enter()
        return lease

    def attach(self, spec: LeaseSpec) -> WireLease:
        return WireLease(self, spec)

    async def reclaim(self, queues: Sequence[str], grace_ms: int, limit: int) -> Reclaimed:
        answer: Reclaimed = await self.call("reclaim", queues, grace_ms, limit)
        return answer

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        dropped: int = await self.call("prune", queues, limit)
        return dropped

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        records: list[JobRecord | None] = await self.call("get", refs)
        return records

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        verdicts: list[CancelVerdict] = await self.call("cancel", refs, outcome, result_ttl_ms)
        return verdicts

    async def add_figures(self, figures: Sequence[Figures]) -> None:
        await self.call("add_figures", figures)

    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        raise AssertionError("no simulated client waits for results")

    async def stay(self, name: str, *args: Any) -> Any:
        """Like `call`, of one that hangs up when it is cancelled."""
        reply = self.call(name, *args)
        try:
            return await reply
        except asyncio.CancelledError:
            self._network.hang_up(reply)
            raise


class WireLease:
    """A Lease of one process: everything goes through the network."""

    def __init__(self, wire: Wire, spec: LeaseSpec) -> None:
        self._wire = wire
        self.spec = spec
        self.entered = Registered(0)

    async def enter(self) -> None:
        self.entered = await self._wire.call("enter", self.spec, None)

    async def rejoin(self, queues: Collection[str]) -> Registered:
        name, queues = new_id(), tuple(queues)
        answer: Registered = await self._wire.call("enter", self.spec.renew(queues, name), queues)
        entered = [queue for queue in queues if queue not in answer.away]
        self.spec = self.spec.renew(entered, name)
        return answer

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        await self._wire.call("leave", self.spec, crashed)

    async def beat(self, *, leaves: bool = False, info: bytes = b"") -> Heartbeat:
        answer: Heartbeat = await self._wire.call("beat", self.spec, leaves, info)
        return answer

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        answer: Exchange = await self._wire.call(
            "exchange", self.spec, sequence, (*settlements,), demand
        )
        return answer

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        answer: Resync = await self._wire.call("resync", self.spec, sequence, holding, queues)
        return answer

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        answer: Parked = await self._wire.stay("park", self.spec, timeout_s, offer)
        return answer

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        signals: Collection[Signal] = await self._wire.stay("listen", self.spec, timeout_s)
        return signals

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        kept: list[bool] = await self._wire.call("note", self.spec, notes)
        return kept

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        found: list[Notes | None] = await self._wire.call("notes", self.spec, jobs)
        return found


def _forget(reply: Reply) -> None:
    """Nobody waits for it: its error is read here."""
    if not reply.cancelled():
        reply.exception()


def _set_result(reply: Reply, value: Any) -> None:
    if not reply.done():
        reply.set_result(value)


def _set_exception(reply: Reply, error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
