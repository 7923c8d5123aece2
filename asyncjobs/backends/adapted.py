"""The lease object over the methods of `Backend` that take a lease, until stores have their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from asyncjobs.backends.answers import (
    Exchange,
    Heartbeat,
    Parked,
    Registered,
    Resync,
    Signal,
)
from asyncjobs.backends.lease import LeaseSpec, Offer
from asyncjobs.clock import new_id
from asyncjobs.job import Demand, Note, Notes, Settlement, TakenJob

if TYPE_CHECKING:
    from asyncjobs.backends.base import Backend

__all__ = ["AdaptedLease", "Leasing"]


class AdaptedLease:
    """See `Lease`."""

    def __init__(self, store: Backend, spec: LeaseSpec) -> None:
        self._store = store
        self.spec = spec
        self.entered = Registered(0)

    async def enter(self) -> None:
        self.entered = await self._store.register(self.spec)

    async def exchange(
        self, sequence: int, settlements: Sequence[Settlement], demand: Mapping[str, Demand]
    ) -> Exchange:
        return await self._store.exchange(self.spec, sequence, settlements, demand)

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        if offer is None:
            return Parked(await self._store.wait(self.spec, timeout_s), None)
        return await self._store.wait_and_take(self.spec, timeout_s, *offer)

    async def beat(self, *, leaves: bool = False) -> Heartbeat:
        spec = replace(self.spec, leaves=True) if leaves else self.spec
        return await self._store.heartbeat(spec)

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        spec = self.spec if queues is None else self.spec.within(queues)
        return await self._store.resync(spec, sequence, holding)

    async def rejoin(self, queues: Collection[str]) -> Registered:
        name = new_id()
        answer = await self._store.register(self.spec.renew(queues, name), tuple(queues))
        entered = [queue for queue in queues if queue not in answer.away]
        self.spec = self.spec.renew(entered, name)
        return answer

    async def note(self, notes: Sequence[Note]) -> list[bool]:
        return await self._store.note(self.spec, notes)

    async def notes(self, jobs: Sequence[TakenJob]) -> list[Notes | None]:
        return await self._store.notes(self.spec, jobs)

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        return await self._store.listen(self.spec, timeout_s)

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        await self._store.deregister(self.spec, crashed)


class Leasing:
    """What gives a `Backend` its lease objects."""

    async def lease(self: Backend, spec: LeaseSpec) -> AdaptedLease:
        lease = AdaptedLease(self, spec)
        await lease.enter()
        return lease

    def attach(self: Backend, spec: LeaseSpec) -> AdaptedLease:
        return AdaptedLease(self, spec)
