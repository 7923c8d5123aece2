"""The same for the store in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator

from asyncjobs.model.terms import LimitKind
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.memory.lineup import _text
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.stored import StoredJob

__all__ = ["audit_memory"]


def audit_memory(backend: MemoryBackend) -> list[str]:
    """What is wrong with the queues of this store, whatever its jobs are doing."""
    waiters = backend._queues.results._waiters
    found = [f"{ref}: nobody waits any more" for ref, futures in waiters.items() if not futures]
    for queue in backend._queues.by_name.values():
        found += [f"{queue.name}: {what}" for what in _audit_queue(queue)]
    return found


def _audit_queue(queue: Queue) -> Iterator[str]:
    places: dict[str, str] = {}
    for job, place in _stored(queue):
        if job.id in places:
            yield f"job {job.id}: stored twice, {places[job.id]} and {place}"
        places[job.id] = place
        if queue._jobs.get(job.id) is not job:
            yield f"job {job.id}: {place}, and not among the jobs"
        if (job.due_ms is not None) != (place == "scheduled"):
            yield f"job {job.id}: {place}, and due at {job.due_ms}"
        if job.holder is not None and place != f"held by {job.holder}":
            yield f"job {job.id}: {place}, and its holder is {job.holder}"
    for id in sorted(queue._jobs.keys() - places.keys()):
        yield f"job {id}: nowhere to be found"
    for name, held in queue.leases.items():
        marked = {id for id, job in queue._jobs.items() if job.is_marked and job.holder == name}
        for id in sorted(marked ^ held.marked.keys()):
            yield f"job {id}: marked to be cancelled, and {name} does not hear of it"

    yield from _audit_locks(queue)
    yield from _audit_gates(queue)
    yield from _audit_barriers(queue)


def _audit_barriers(queue: Queue) -> Iterator[str]:
    barriers = queue.barriers
    for id in sorted((barriers._arrivals.keys() | barriers._nodes.keys()) - queue._jobs.keys()):
        yield f"job {id}: its end has counted nowhere, and it is gone"
    for name, standing in barriers._standing.items():
        if standing.left <= 0:
            yield f"barrier {name}: {standing.left} arrivals are left, and it stands"
        for id in standing.behind:
            if barriers._place.get(id) != name:
                yield f"job {id}: is behind barrier {name}, and does not know"
    if barriers._falling:
        yield f"{len(barriers._falling)} barriers have fallen, and their jobs are held"


def _audit_locks(queue: Queue) -> Iterator[str]:
    locks = queue.locks
    for key, lock in locks._by_key.items():
        if lock.until != "window" and locks._of.get(lock.id) != key:
            yield f"key {key!r}: job {lock.id} holds it, and does not know"
    for id in sorted(locks._of.keys() - queue._jobs.keys()):
        yield f"job {id}: its key is kept, and the job is gone"
    for key, following in locks._next.items():
        if key not in locks._by_key:
            yield f"key {key!r}: job {following.job.id} waits for it, and it is free"


def _audit_gates(queue: Queue) -> Iterator[str]:
    """Permits are of jobs that run, and no lane waits beside room that nobody goes for."""
    gates = queue.waiting.gates
    for key in gates.keys:
        for id, job in key.holders.items():
            if queue._jobs.get(id) is not job or job.holder is None:
                yield f"key {key.name}: job {id} has a permit, and does not run"
            if job.gated is None or job.gated.permits.count(key) != 1:
                yield f"key {key.name}: job {id} has a permit, and does not know"
        rule = gates.keys.rule(key.name)
        is_open = rule.kind is LimitKind.CONCURRENCY and key.running < rule.number
        is_sought = any(lane.is_in_line for lane in key.lanes)
        if key.barred and is_open and not is_sought and not key.closed_ms:
            yield f"key {key.name}: {key.waiting()} jobs wait beside room"
        is_timed = gates.lanes._opening.time_of(_text(key)) is not None
        is_rate = rule.kind is LimitKind.RATE and rule.number > 0
        if is_rate and key.barred and not is_sought and not is_timed:
            yield f"key {key.name}: {key.waiting()} jobs wait, and nothing opens it"
    for lane in gates.lanes:
        if not len(lane):
            yield f"lane {lane.name}: is empty, and stays"
        if lane.has_next() and lane.line is None:
            yield f"lane {lane.name}: has jobs, and stands nowhere"
        if lane.line is not None and not lane.has_next():
            yield f"lane {lane.name}: has no job to give, and stands in line"


def _stored(queue: Queue) -> Iterator[tuple[StoredJob, str]]:
    yield from ((following.job, "held") for following in queue.locks._next.values())
    for standing in queue.barriers._standing.values():
        yield from ((behind.job, "behind a barrier") for behind in standing.behind.values())
    for ready in queue.waiting._ready:
        yield from ((job, "ready") for job in ready)
    for lane in queue.waiting.gates.lanes:
        yield from ((job, "ready") for job in lane)
    yield from ((job, "scheduled") for _, _, job in queue.waiting._scheduled._items.values())
    for name, held in queue.leases.items():
        yield from ((job, f"held by {name}") for job in held.jobs.values())
    for held in queue.leases.leaving:
        yield from ((job, f"held by {job.holder}") for job in held.jobs.values())
