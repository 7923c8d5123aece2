"""What the success of an attempt causes besides: the jobs that it has made for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from asyncjobs.errors import UsageError
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, MOST_EFFECT_JOBS, Effects
from asyncjobs.model.terms import Barrier
from asyncjobs.store.checks import check_effect
from asyncjobs.store.seam import Backend

__all__ = ["AttemptEffects", "FindEffects", "over"]


class AttemptEffects:
    """Jobs that are kept until their attempt succeeds, and barriers that are raised then. They are
    dropped with any other end. On the loop of the worker only.

    `job`: whose attempt it is. `store`: that of its worker.
    """

    def __init__(self, job: JobRef, store: Backend) -> None:
        self._job = job
        self._store = store
        self._jobs: list[NewJob] = []
        self._barriers: list[Barrier] = []
        self._bytes = 0
        self._is_closed = False
        self.names: list[str] = []
        """The job function of each job."""

    def check_store(self, store: Backend) -> None:
        """Raises UsageError for jobs that go to this store, if it is another one."""
        # By value: the store of a test may stand for that of its app.
        if store != self._store:
            raise UsageError(
                f"ctx.enqueue() in the job {self._job} got a call of another app, whose store is "
                f"at {store.address}; its jobs cannot be stored in one step with this one: write "
                "await f.enqueue(...)"
            )

    def keep(
        self, jobs: Sequence[NewJob], names: Sequence[str], barriers: Sequence[Barrier] = ()
    ) -> None:
        """Keep all of these, or none. `names`: the job function of each.

        Raises UsageError when the attempt is over, when they are too many or too large, and for
        what the store cannot keep together with the success; MissingCapability.
        """
        if self._is_closed:
            raise over(self._job)
        # rule:37 what a store cannot keep with a success is refused before that
        for job in jobs:
            check_effect(self._job, job, self._store.capabilities)
        # Nothing is kept before all is checked, so a job may catch the error and go on.
        number = len(self._jobs) + len(jobs)
        size = self._bytes + sum(len(job.envelope) for job in jobs)
        # rule:37 an attempt that would cause too much hears of it while it runs
        if number > MOST_EFFECT_JOBS or size > MOST_EFFECT_BYTES:
            raise UsageError(
                f"ctx.enqueue() in the job {self._job} would keep {number:,} jobs of {size:,} "
                f"bytes, and an attempt may keep {MOST_EFFECT_JOBS:,} of {MOST_EFFECT_BYTES:,} "
                "bytes: keep a job for each part of them, which keeps its own part; or use "
                "app.enqueue_many() with an id for each job, which stores them at once"
            )
        self._jobs += jobs
        self._barriers += barriers
        self._bytes = size
        self.names += names

    def close(self) -> Effects | None:
        """The attempt has succeeded: what is stored with that; None for nothing. Nothing more is
        kept."""
        self._is_closed = True
        if not self._jobs and not self._barriers:
            return None
        return Effects(tuple(self._jobs), tuple(self._barriers))


def over(job: JobRef) -> UsageError:
    """The error of who comes after the end of the attempt."""
    return UsageError(
        f"ctx.enqueue() was called after the end of this attempt of the job {job}, with which its "
        "jobs would have been stored: await it before the job returns, or write "
        "await f.enqueue(...)"
    )


FindEffects: TypeAlias = Callable[[], AttemptEffects]
"""What an attempt keeps for its success. Raises UsageError where it can keep nothing."""
