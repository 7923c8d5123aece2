"""Which leases nobody may take anything from, as docs/explanation/guarantees.md promises it.

Two clocks count: time as it really passes, and the store's clock, which may be set.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.backends.base import LeaseSpec
from tests.simulation.loop import SimLoop

__all__ = ["Entry", "Leases"]

Entry = tuple[str, str]
"""A queue, and the name of a lease in it."""
LONG_AGO_MS: Final = -(10**15)


class Renewal(NamedTuple):
    """The last one of a lease, by both clocks."""

    steady_ms: int
    store_ms: int
    lease: LeaseSpec


class Leases:
    """Owns the renewals of all leases, and when each queue was last heard of."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._renewals: dict[Entry, Renewal] = {}
        self._heard_ms: dict[str, int] = {}
        self._held_ms: dict[str, int] = {}
        """By queue: until when reclaims wait, by the store's clock."""

    def hear(self, queue: str, grace_ms: int) -> None:
        """The store was called: after a silence, or a step that looks like one, it waits."""
        now_ms = self._loop.store_ms()
        if now_ms - self._heard_ms.get(queue, LONG_AGO_MS) > grace_ms:
            self._held_ms[queue] = now_ms + grace_ms
        # Set by a clock that was ahead, it waits for no longer than a grace all the same.
        self._held_ms[queue] = min(self._held_ms[queue], now_ms + grace_ms)
        # Likewise a lease that was renewed by such a clock counts as renewed now.
        for entry, renewal in self._renewals.items():
            if entry[0] == queue and renewal.store_ms > now_ms:
                self._renewals[entry] = renewal._replace(store_ms=now_ms)
        self._heard_ms[queue] = now_ms

    def renew(self, queue: str, lease: LeaseSpec) -> None:
        """The store has renewed it there."""
        renewal = Renewal(self._loop.steady_ms(), self._loop.store_ms(), lease)
        self._renewals[queue, lease.entry(queue)] = renewal

    def forget(self, entry: Entry) -> None:
        """Its worker has said farewell."""
        self._renewals.pop(entry, None)

    def may_be_trusted(self, entry: Entry) -> bool:
        """Whether its worker, which knows only how time passes, may count on it."""
        renewal = self._renewals.get(entry)
        if renewal is None:
            return False
        return self._loop.steady_ms() <= renewal.steady_ms + renewal.lease.duration_ms

    def lives(self, entry: Entry) -> bool:
        """Whether nobody may take anything from it.

        A step forward ends it early, but only after a grace in which it could be renewed; one
        that is shorter than the grace cannot be noticed, and takes as much from the lease.
        """
        if not self.may_be_trusted(entry):
            return False
        now_ms, renewal = self._loop.store_ms(), self._renewals[entry]
        if now_ms <= renewal.store_ms + renewal.lease.duration_ms:
            return True
        queue = entry[0]
        if now_ms <= self._held_ms[queue]:
            return True
        # Nobody has called since: whoever is the first makes reclaims wait.
        return now_ms - self._heard_ms[queue] > renewal.lease.grace_ms
