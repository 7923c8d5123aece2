"""Who holds the unique keys of a queue in memory, and who waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from asyncjobs.model.job import NewJob, State, held_by
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Unique, Until
from asyncjobs.store.answers import Placed
from asyncjobs.store.locks import LockRef, UniqueLock
from asyncjobs.store.memory.entries import CLOCK_STEP_MS
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.waiting import Waiting

__all__ = ["Lock", "Locks"]

Put: TypeAlias = Callable[[StoredJob, int, int], None]
"""Lets a job wait until `due`, or makes it ready."""


class Lock:
    """A key and the job that holds it. `first_ms` is when that job was enqueued."""

    __slots__ = ("first_ms", "id", "key", "over_ms", "until")

    def __init__(self, key: bytes, until: Until, over_ms: int, first_ms: int, id: str) -> None:
        self.key = key
        self.until: Until = until
        self.over_ms = over_ms
        self.first_ms = first_ms
        self.id = id


class _Next(NamedTuple):
    """The job that gets a key next, for so long, when it is due then."""

    job: StoredJob
    ttl_ms: int
    due_ms: int


class Locks:
    """Owns the keys of one queue, and the jobs that are held until a key is theirs.

    `jobs` are the living jobs of the queue, by id, and `waiting` those of them that wait. `put`
    lets one of them wait for its turn.
    """

    def __init__(
        self, queue: str, jobs: Mapping[str, StoredJob], waiting: Waiting, put: Put
    ) -> None:
        self._queue = queue
        self._jobs = jobs
        self._waiting = waiting
        self._put = put
        self._by_key: dict[bytes, Lock] = {}
        self._of: dict[str, bytes] = {}
        """The key of each living job that holds one, or did so until its time was over."""
        self._next: dict[bytes, _Next] = {}

    @property
    def held(self) -> int:
        """How many jobs are held."""
        return len(self._next)

    def held_jobs(self) -> list[StoredJob]:
        """Those jobs."""
        return [following.job for following in self._next.values()]

    @property
    def windows_until_ms(self) -> int:
        """When the last window is over; 0 when there is none."""
        windows = (lock.over_ms for lock in self._by_key.values() if lock.until == "window")
        return max(windows, default=0)

    def claim(self, id: str, unique: Unique, due: int, now: int) -> Lock | None:
        """Give the key to a new job; the lock of another one that holds it."""
        lock = self._look_up(unique.key, now)
        # Replaced it would go behind all others again and again.
        # rule:21 a debounced job that is ready at its latest time has no key, in memory
        if lock is not None and self._is_late(lock, unique, now):
            self.end(lock.id, now)
            lock = None
        # rule:21 a key has one holder, in memory
        if lock is not None:
            return lock
        # The net of a job includes its delay; a window begins with the call.
        begin = now if unique.until == "window" else max(now, due)
        self._take(Lock(unique.key, unique.until, begin + unique.ttl_ms, now, id))
        return None

    def _is_late(self, lock: Lock, unique: Unique, now: int) -> bool:
        """Whether the job of a lock waits for a worker only, and not for calls any more."""
        if unique.latest_ms is None or lock.until != "started":
            return False
        is_ready = self._jobs[lock.id].state is State.READY
        return is_ready and lock.first_ms + unique.latest_ms <= now

    def has_begun(self, job: StoredJob) -> bool:
        """Whether a job with a key was taken: it goes on until its last attempt has ended."""
        return job.id in self._of and job.has_started

    def lend(self, id: str, unique: Unique, now: int) -> None:
        """Give a key that is free to a job that runs and has none, so that others can wait for its
        end."""
        if id not in self._of and self._look_up(unique.key, now) is None:
            self._take(Lock(unique.key, unique.until, now + unique.ttl_ms, now, id))

    def again(self, id: str, unique: Unique, now: int) -> JobRef | None:
        """Give a dead job its key again; the job that holds it, if there is one."""
        if unique.until == "window":
            return None
        lock = self.claim(id, unique, now, now)
        return None if lock is None else JobRef(self._queue, lock.id)

    def meet(self, lock: Lock, new: NewJob, unique: Unique, due: int, now: int) -> Placed:
        """What becomes of a job that has met this lock. A held one is stored by the caller."""
        # None behind a window whose job has ended: the window goes on.
        holder = self._jobs.get(lock.id)
        there = Placed(JobRef(self._queue, lock.id), "there")
        if holder is None or not (unique.replace or unique.hold):
            return there
        # A window outlasts its job, which may be revived and run, or leave its id to another one.
        # rule:21 only the job that has the key is replaced, in memory
        has_key = self._of.get(lock.id) == lock.key
        # rule:21 who only waits takes no job's place, in memory
        if has_key and not unique.replace and not holder.has_started:
            return there
        # rule:21 what has started keeps its arguments, in memory
        if has_key and not holder.has_started:
            self._replace(lock, holder, new, unique, due, now)
            return Placed(JobRef(self._queue, lock.id), "replaced")
        if not unique.hold or lock.until != "finished":
            return there
        before = self._next.get(lock.key)
        # rule:21 one job at the most waits for a key, in memory
        if before is not None:
            # rule:23 of the jobs that only wait, the first one does, in memory
            if not unique.replace:
                return Placed(JobRef(self._queue, before.job.id), "there")
            before.job.call(new)
            self._next[lock.key] = _Next(before.job, unique.ttl_ms, due)
            return Placed(JobRef(self._queue, before.job.id), "replaced")
        return Placed(new.ref, "held")

    def hold(self, lock: Lock, job: StoredJob, unique: Unique, due: int, now: int) -> None:
        """Let a new job wait until its key is free."""
        job.held_by = held_by(JobRef(self._queue, lock.id))
        job.held_ms = now
        self._next[lock.key] = _Next(job, unique.ttl_ms, due)

    def unhold(self, job: StoredJob) -> None:
        """A held job is taken out: it never gets its key."""
        for key, following in self._next.items():
            if following.job is job:
                del self._next[key]
                return

    def begin(self, id: str, now: int) -> None:
        """A job is taken."""
        key = self._of.get(id)
        if key is None:
            return
        lock = self._by_key.get(key)
        # rule:21 taking a job frees a key that lasts until then, in memory
        if lock is not None and lock.id == id and lock.until == "started":
            self.end(id, now)

    def put_off(self, job: StoredJob, due: int) -> None:
        """A held job is due at another time, once its key is free."""
        for key, following in self._next.items():
            if following.job is job:
                self._next[key] = following._replace(due_ms=due)

    def prolong(self, id: str, ms: int) -> None:
        """A job waits for so much longer than it was to, and so does its lock."""
        lock = self._by_key.get(self._of.get(id, b""))
        if lock is not None and lock.id == id and lock.until != "window":
            lock.over_ms += ms

    def end(self, id: str, now: int) -> bool:
        """A job has ended. Whether another one goes on, with its key."""
        key = self._of.pop(id, None)
        if key is None:
            return False
        lock = self._by_key.get(key)
        # A lock that is over by time may be another job's by now, and a window outlasts its job.
        # rule:21 a job frees only what it holds itself, in memory
        if lock is not None and lock.id == id and lock.until != "window":
            return self._drop(lock, now)
        return False

    def free(self, key: bytes, holder: str, now: int) -> bool:
        """Take the key from this job, if it holds it; whether it did."""
        lock = self._by_key.get(key)
        if lock is None or lock.id != holder:
            return False
        self._drop(lock, now)
        return True

    def listed(self) -> list[UniqueLock]:
        """All locks, in the order of their keys."""
        locks = []
        for key, lock in sorted(self._by_key.items()):
            ref = LockRef(self._queue, key, JobRef(self._queue, lock.id))
            following = self._next.get(key)
            waits = None if following is None else JobRef(self._queue, following.job.id)
            locks.append(UniqueLock(ref, lock.until, lock.first_ms, lock.over_ms, waits))
        return locks

    def prune(self, now: int) -> None:
        """Drop windows that are over."""
        for lock in [*self._by_key.values()]:
            if lock.until == "window" and lock.over_ms <= now:
                self._drop(lock, now)

    def _take(self, lock: Lock) -> None:
        self._by_key[lock.key] = lock
        self._of[lock.id] = lock.key

    def _look_up(self, key: bytes, now: int) -> Lock | None:
        lock = self._by_key.get(key)
        if lock is not None and lock.first_ms > now + CLOCK_STEP_MS:
            # rule:21 after a step back of the clock a lock lasts no longer, in memory
            lock.over_ms -= lock.first_ms - now
            lock.first_ms = now
        # rule:21 a lock is free after its time, in memory
        if lock is not None and lock.over_ms <= now:
            self._drop(lock, now)
            # It may have gone to the job that waited for it.
            return self._by_key.get(key)
        return lock

    def _drop(self, lock: Lock, now: int) -> bool:
        """Take the key from its job, and give it to the one that waits for it, if one does."""
        del self._by_key[lock.key]
        following = self._next.pop(lock.key, None)
        if following is None:
            return False
        job, ttl_ms, due_ms = following
        job.held_by = None
        # rule:21 a held job goes on in the step in which the job before it ends, in memory
        self._put(job, due_ms, now)
        self._take(Lock(lock.key, "finished", max(now, due_ms) + ttl_ms, now, job.id))
        return True

    def _replace(
        self, lock: Lock, holder: StoredJob, new: NewJob, unique: Unique, due: int, now: int
    ) -> None:
        """Put the call of a new job in the place of one that has not started."""
        if unique.latest_ms is not None:
            # rule:21 a debounced job starts at its latest time, in memory
            due = min(due, lock.first_ms + unique.latest_ms)
        # Before its priority changes, by which it is found. It goes behind all others, as on a
        # server, where an entry cannot be changed.
        self._waiting.remove(holder, now)
        holder.call(new)
        self._put(holder, due, now)
        if lock.until != "window":
            lock.over_ms = max(now, due) + unique.ttl_ms
