"""Which queues may have work: those that have signalled, and those with due jobs. Does no I/O;
the clock is passed in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from asyncjobs.store.answers import Exchange

__all__ = ["BEATS_WITHIN_S", "Signals"]

# rule:1 a worker whose heartbeats are rare looks by itself
BEATS_WITHIN_S: Final = 6.0
"""Heartbeats this frequent report ready work, so an idle worker does not look by itself.
Leases above 20 s beat too rarely, so it does."""
NEVER_S: Final = float("inf")


class Signals:
    """Remembers hints until an exchange has followed them up. Times are monotonic seconds."""

    __slots__ = (
        "_beat_s",
        "_due_s",
        "_first_due_s",
        "_gap_s",
        "_look_s",
        "always_looks",
        "due",
        "signalled",
        "wake_s",
    )

    def __init__(self) -> None:
        self.signalled: set[str] = set()
        """Queues that have signalled. The next exchange asks them, with or without free slots.
        That passes the signal on to another worker, if work is left."""
        self.due: set[str] = set()
        """Queues in which a scheduled job has become due."""
        self.always_looks = False
        """Whether to look into all queues after each wait, whatever heartbeats report. A worker
        that ends by itself must see for itself that nothing is left."""
        self.wake_s = NEVER_S
        """When `tick` has to be called next."""
        self._due_s: dict[str, float] = {}
        self._first_due_s = NEVER_S
        self._look_s = NEVER_S
        self._beat_s = float("-inf")
        self._gap_s = float("-inf")

    def hear_beat(self, ready: Collection[str], now_s: float) -> None:
        """The store has answered a heartbeat. `ready`: queues that hold work, signalled or not."""
        self._gap_s = now_s - self._beat_s
        self._beat_s = now_s
        # rule:1 a worker that no token reaches looks by itself
        self.signalled.update(ready)

    def hear_wait(self, queues: Collection[str], now_s: float, *, has_failed: bool) -> bool:
        """A wait has ended, by a signal of these queues or by time. True when it is time to look
        into all queues."""
        self.signalled.update(queues)
        # The last heartbeat may be recent although heartbeats are rare, so the gap before it
        # counts, too.
        longest_s = max(now_s - self._beat_s, self._gap_s)
        return bool(queues) or has_failed or self.always_looks or longest_s > BEATS_WITHIN_S

    def note_due(self, exchange: Exchange, now_s: float) -> None:
        """Remember when the next scheduled jobs are due. Both times of the exchange are by the
        store's clock, so this machine's clock does not matter."""
        for queue, due_ms in exchange.next_due_ms.items():
            if due_ms is not None:
                self._due_s[queue] = now_s + max(due_ms - exchange.now_ms, 0) / 1000
                self._set_wake()
            elif queue in self._due_s:
                del self._due_s[queue]
                self._set_wake()

    def look_within(self, limit_s: float | None, now_s: float) -> None:
        """Look into all queues after this time. Another call does not put that off; None
        takes it back."""
        if limit_s is None:
            if self._look_s == NEVER_S:
                return
            self._look_s = NEVER_S
        elif self._look_s == NEVER_S:
            self._look_s = now_s + limit_s
        self._set_wake()

    def tick(self, now_s: float) -> bool:
        """Note which queues have due jobs by now. True when it is time to look into all."""
        is_time_to_look = self._look_s <= now_s
        if is_time_to_look:
            self._look_s = NEVER_S
        over = [queue for queue, due_s in self._due_s.items() if due_s <= now_s]
        self.due.update(over)
        for queue in over:
            del self._due_s[queue]
        self._set_wake()
        return is_time_to_look

    def next_due_in_s(self, now_s: float) -> float | None:
        """Seconds until the first scheduled job is due; None when none is known."""
        if not self._due_s:
            return None
        return self._first_due_s - now_s

    def _set_wake(self) -> None:
        self._first_due_s = min(self._due_s.values(), default=NEVER_S)
        self.wake_s = min(self._first_due_s, self._look_s)
