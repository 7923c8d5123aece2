"""Who hears at once of cancelled jobs, in memory: an inbox for each lease that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from asyncjobs.backends.base import CancelCall, LeaseSpec

__all__ = ["ControlBoard"]


class _Inbox:
    __slots__ = ("arrived", "calls", "queues")

    def __init__(self, queues: tuple[str, ...]) -> None:
        self.queues = frozenset(queues)
        self.calls: list[CancelCall] = []
        self.arrived = asyncio.Event()


class ControlBoard:
    """Owns the inboxes, from the first `listen` of a lease until it leaves."""

    def __init__(self) -> None:
        self._inboxes: dict[str, _Inbox] = {}

    def tell(self, call: CancelCall) -> None:
        """Put the call into the inbox of everybody who listens on its queue."""
        for inbox in self._inboxes.values():
            if call.ref.queue in inbox.queues:
                inbox.calls.append(call)
                inbox.arrived.set()

    async def listen(self, lease: LeaseSpec, timeout_s: float) -> Collection[CancelCall]:
        """See `Backend.listen`."""
        inbox = self._inboxes.get(lease.id)
        if inbox is None:
            inbox = self._inboxes[lease.id] = _Inbox(lease.queues)
        try:
            async with asyncio.timeout(timeout_s):
                await inbox.arrived.wait()
        except TimeoutError:
            return ()
        calls, inbox.calls = inbox.calls, []
        inbox.arrived.clear()
        return calls

    def close(self) -> None:
        """Send everybody home who is parked."""
        for inbox in self._inboxes.values():
            inbox.arrived.set()

    def drop(self, lease: LeaseSpec) -> None:
        """The lease listens no more."""
        self._inboxes.pop(lease.id, None)
