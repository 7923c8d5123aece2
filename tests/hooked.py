"""A store in memory whose leases ask it for each answer, so that a test can play with these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange, Heartbeat, Parked, Resync, Signal
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.store.seam import StoreSettings

__all__ = ["HookedStore"]


class HookedStore(MemoryBackend):
    """Tests override what a lease shall answer."""

    def __init__(self) -> None:
        super().__init__(StoreSettings())

    def attach(self, spec: LeaseSpec) -> HookedLease:
        return HookedLease(self, spec)

    async def exchange(
        self,
        lease: MemoryLease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        return await MemoryLease.exchange(lease, sequence, settlements, demand)

    async def park(self, lease: MemoryLease, timeout_s: float, offer: Offer | None) -> Parked:
        return await MemoryLease.park(lease, timeout_s, offer)

    async def beat(self, lease: MemoryLease, *, leaves: bool, info: bytes = b"") -> Heartbeat:
        return await MemoryLease.beat(lease, leaves=leaves, info=info)

    async def resync(
        self,
        lease: MemoryLease,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None,
    ) -> Resync:
        return await MemoryLease.resync(lease, sequence, holding, queues)

    async def listen(self, lease: MemoryLease, timeout_s: float) -> Collection[Signal]:
        return await MemoryLease.listen(lease, timeout_s)

    async def leave(self, lease: MemoryLease, crashed: Collection[TakenJob]) -> None:
        await MemoryLease.leave(lease, crashed)


class HookedLease(MemoryLease):
    """Passes each question on to its store."""

    def __init__(self, store: HookedStore, spec: LeaseSpec) -> None:
        super().__init__(store._queues, spec)
        self._store = store

    async def exchange(
        self,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        return await self._store.exchange(self, sequence, settlements, demand)

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        return await self._store.park(self, timeout_s, offer)

    async def beat(self, *, leaves: bool = False, info: bytes = b"") -> Heartbeat:
        return await self._store.beat(self, leaves=leaves, info=info)

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        return await self._store.resync(self, sequence, holding, queues)

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        return await self._store.listen(self, timeout_s)

    async def leave(self, crashed: Collection[TakenJob] = ()) -> None:
        await self._store.leave(self, crashed)
