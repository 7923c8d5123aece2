"""What is left in a queue in memory, and keeps it from being forgotten."""

from __future__ import annotations

from asyncjobs.store.inspect import Leftover
from asyncjobs.store.memory.queue import Queue

__all__ = ["left_in"]


def left_in(queue: Queue, idle_ms: int, now: int, *, is_awaited: bool) -> Leftover:
    """See `QueueInspection.forget`. `is_awaited`: somebody waits for a result of the queue."""
    counts = queue.counts(now)
    ready = sum(counts.ready)
    return Leftover(
        queue.name,
        ready,
        counts.running,
        counts.scheduled,
        counts.dead,
        counts.workers,
        indexed=ready + counts.running + counts.scheduled,
        awaited=int(is_awaited),
        wait_ms=max(queue.needed_until(idle_ms, now) - now, 0),
    )
