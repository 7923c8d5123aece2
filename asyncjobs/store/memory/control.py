"""Who hears of cancels and other signals in memory: an inbox for each lease that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from asyncjobs.store.answers import Signal
from asyncjobs.store.lease import LeaseSpec

__all__ = ["ControlBoard"]


class _Inbox:
    __slots__ = ("arrived", "queues", "signals")

    def __init__(self, queues: tuple[str, ...]) -> None:
        self.queues = frozenset(queues)
        self.signals: list[Signal] = []
        self.arrived = asyncio.Event()


class ControlBoard:
    """Owns the inbox of each lease, from its first `listen` until it leaves."""

    def __init__(self) -> None:
        self._inboxes: dict[str, _Inbox] = {}

    def tell(self, queue: str, signal: Signal) -> None:
        """Put the signal into the inbox of every lease that listens on this queue."""
        for inbox in self._inboxes.values():
            if queue in inbox.queues:
                inbox.signals.append(signal)
                inbox.arrived.set()

    async def listen(self, lease: LeaseSpec, timeout_s: float) -> Collection[Signal]:
        """See `Lease.listen`."""
        inbox = self._inboxes.get(lease.id)
        if inbox is None:
            inbox = self._inboxes[lease.id] = _Inbox(lease.queues)
        try:
            async with asyncio.timeout(timeout_s):
                await inbox.arrived.wait()
        except TimeoutError:
            return ()
        signals = inbox.signals
        inbox.signals = []
        inbox.arrived.clear()
        return signals

    def close(self) -> None:
        """End all waits."""
        for inbox in self._inboxes.values():
            inbox.arrived.set()

    def drop(self, lease: LeaseSpec) -> None:
        """The lease listens no more."""
        self._inboxes.pop(lease.id, None)
