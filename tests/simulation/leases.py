"""Which leases nobody may take anything from, as docs/explanation/guarantees.md promises it.

Two clocks count: time as it really passes, and the store's clock, which may be set.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from asyncjobs.store.lease import LeaseSpec
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
        self._over: set[Entry] = set()
        """Those that a reclaim found over: it may have taken them, whatever the clock does next."""
        self._gone: set[Entry] = set()
        """Those of them that it has surely taken: they cannot end a second time."""

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
        entry = queue, lease.entry(queue)
        self._renewals[entry] = renewal
        self._over.discard(entry)
        self._gone.discard(entry)

    def forget(self, entry: Entry) -> None:
        """Its worker has said farewell."""
        self._renewals.pop(entry, None)

    def end(self, queues: Collection[str], count: int) -> int:
        """A reclaim, just heard of in these queues, has ended `count` leases.

        Those that are over at this moment, for only now it can be told: what the clock does
        afterwards gives nothing back. Returns how many of them were not over.
        """
        over = {
            entry
            for entry in self._renewals
            if entry[0] in queues and entry not in self._gone and self._is_over(entry)
        }
        if count:
            self._over |= over
        if count >= len(over):
            self._gone |= over
        return max(count - len(over), 0)

    def may_be_trusted(self, entry: Entry) -> bool:
        """Whether its worker, which knows only how time passes, may count on it."""
        renewal = self._renewals.get(entry)
        if renewal is None:
            return False
        return self._loop.steady_ms() <= renewal.steady_ms + renewal.lease.duration_ms

    def lives(self, entry: Entry) -> bool:
        """Whether nobody may take anything from it.

        Once a reclaim may have taken it, it does not live again without a renewal.
        """
        return self.may_be_trusted(entry) and entry not in self._over and not self._is_over(entry)

    def _is_over(self, entry: Entry) -> bool:
        """Whether a reclaim that is carried out now may end it.

        A step forward ends it early, but only after a grace in which it could be renewed; one
        that is shorter than the grace cannot be noticed, and takes as much from the lease.
        """
        now_ms, renewal = self._loop.store_ms(), self._renewals[entry]
        if now_ms <= renewal.store_ms + renewal.lease.duration_ms:
            return False
        queue = entry[0]
        if now_ms < self._held_ms[queue]:
            return False
        # Nobody has called since: whoever is the first makes reclaims wait.
        return now_ms - self._heard_ms[queue] <= renewal.lease.grace_ms
