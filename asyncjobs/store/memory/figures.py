"""What inspection says of a queue in memory as a whole: how much is in it, and lately went on."""

from __future__ import annotations

from asyncjobs.store.activity import flow_of
from asyncjobs.store.inspect import Leftover, QueueCounts, QueueFlow
from asyncjobs.store.memory.queue import Queue

__all__ = ["counts_of", "left_in", "queue_flow"]


def counts_of(queue: Queue, now: int) -> QueueCounts:
    """How many jobs are in each state, and how many workers there are."""
    ready = queue.waiting.ready
    scheduled = queue.waiting.scheduled
    held = queue.locks.held + queue.barriers.held + queue.waiting.gates.lanes.held
    return QueueCounts(
        queue.name,
        ready,
        running=queue.living - sum(ready) - scheduled - held,
        scheduled=scheduled,
        dead=queue.ended.dead,
        workers=queue.leases.living(now),
        held=held,
    )


def queue_flow(queue: Queue, now: int) -> QueueFlow:
    """What happened in the queue lately."""
    waiting = queue.waiting
    counters = queue.tally.counters
    return flow_of(queue.name, now, waiting.oldest_ready_ms, counters, waiting.next_due_ms)


def left_in(queue: Queue, idle_ms: int, now: int, *, is_awaited: bool, schedules: int) -> Leftover:
    """What keeps a queue from being forgotten; see `QueueInspection.forget`.

    `is_awaited`: somebody waits for a result of the queue. `schedules` is how many feed it.
    """
    counts = counts_of(queue, now)
    ready = sum(counts.ready)
    return Leftover(
        queue.name,
        ready,
        counts.running,
        counts.scheduled,
        counts.dead,
        counts.workers,
        indexed=queue.living,
        awaited=int(is_awaited),
        paused=len(queue.pauses),
        schedules=schedules,
        flows=len(queue.barriers.flows),
        barriers=queue.barriers.standing,
        wait_ms=max(_needed_until(queue, idle_ms, now) - now, 0),
    )


def _needed_until(queue: Queue, idle_ms: int, now: int) -> int:
    """Until when it must be known which ids have ended, and that the queue was in use."""
    known_ms = max(queue.ended.known_until_ms, queue.tally.quiet_from_ms(now))
    # rule:21 a queue is kept for as long as one of its windows, in memory
    known_ms = max(known_ms, queue.locks.windows_until_ms)
    if idle_ms <= 0:
        return known_ms
    # A clock that was set back has seen workers that, by now, are in the future.
    return max(known_ms, min(queue.leases.seen_ms, now) + idle_ms)
