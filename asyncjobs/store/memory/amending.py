"""Changes of jobs in memory that have not started."""

from __future__ import annotations

from collections.abc import Callable

from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.memory.barriers import Barriers
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.unique import Locks
from asyncjobs.store.memory.waiting import Waiting

__all__ = ["Amending"]


class Amending:
    """Deletes, hastens and changes jobs that wait in a queue, and frees unique keys.

    It works on parts that belong to the queue: `jobs` are those that have not ended. It calls
    `tell_gone` with each job that is deleted.
    """

    def __init__(
        self,
        jobs: dict[str, StoredJob],
        waiting: Waiting,
        locks: Locks,
        barriers: Barriers,
        news: News,
        tell_gone: Callable[[JobRef], None],
    ) -> None:
        self._jobs = jobs
        self._waiting = waiting
        self._locks = locks
        self._barriers = barriers
        self._news = news
        self._tell_gone = tell_gone

    def signal_news(self) -> None:
        """Signal once for all work that has come in this call."""
        self._news.tell_all()

    def free(self, key: bytes, holder: str, now: int) -> bool:
        """Free a key that this job holds; whether it did."""
        was_held = self._locks.free(key, holder, now)
        self._news.tell_all()
        return was_held

    def delete(self, target: Target, now: int) -> Changed:
        """See `JobChanges.delete`."""
        job = self._chosen(target)
        if isinstance(job, Changed):
            return job
        if job.state is not State.HELD:
            self._waiting.remove(job, now)
        elif not self._barriers.unhold(job):
            self._locks.unhold(job)
        del self._jobs[job.id]
        # rule:21 a delete frees the key of a job, in memory
        self._news.has_work |= self._locks.end(job.id, now)
        # rule:36 a job that is deleted counts as cancelled, in memory
        self._barriers.end(job.id, State.CANCELLED, now)
        self._news.has_work |= self._news.is_ready
        self._tell_gone(target.ref)
        return Changed.DONE

    def run_now(self, target: Target, now: int) -> Changed:
        """See `JobChanges.run_now`."""
        job = self._chosen(target)
        if isinstance(job, Changed):
            return job
        if job.state is State.HELD:
            return Changed.HELD
        if job.due_ms is None:
            return Changed.READY if job.barred_at is None else Changed.HELD
        self._waiting.remove(job, now)
        self._news.has_work |= self._waiting.append(job, now)
        return Changed.DONE

    def change(self, change: Change, now: int) -> Changed:
        """See `JobChanges.change`."""
        job = self._chosen(Target(change.ref))
        if isinstance(job, Changed):
            return job
        # rule:20 a job that was changed meanwhile is not changed, in memory
        if job.envelope != change.expected:
            return Changed.MOVED
        # rule:8 a job that somebody wants to stop is not stored anew, in memory
        if job.is_marked:
            return Changed.MOVED
        # Nothing can fail from here on, so the job is changed in all or in nothing.
        job.envelope = change.envelope
        due_ms = change.at_ms
        if job.state is State.HELD:
            if due_ms is not None and not self._barriers.put_off(job, due_ms):
                self._locks.put_off(job, due_ms)
            return Changed.DONE
        if due_ms is None and job.due_ms is not None:
            return Changed.DONE
        earliest = self._waiting.next_due_ms
        self._waiting.remove(job, now)
        if due_ms is None or due_ms <= now:
            self._news.has_work |= self._waiting.append(job, now)
        else:
            # rule:21 a lock lasts for longer when its job is put off, in memory
            self._locks.prolong(job.id, due_ms - max(job.due_ms or now, now))
            self._waiting.schedule(job, due_ms)
            # A sleeping worker must learn of a new earliest time, or it sleeps past it.
            self._news.has_work |= self._waiting.next_due_ms != earliest
        return Changed.DONE

    def _chosen(self, target: Target) -> StoredJob | Changed:
        """The job, or what keeps an action from it."""
        job = self._jobs.get(target.ref.id)
        if job is None:
            return Changed.GONE
        # rule:20 an action changes no job that runs, in memory
        if job.holder is not None:
            return Changed.RUNNING
        # rule:20 an action changes no job that has moved since it was chosen, in memory
        if target.seen and target.seen != job.seen:
            return Changed.MOVED
        return job
