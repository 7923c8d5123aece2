"""Jobs that are not stored yet: they are kept for the success of the attempt that makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncjobs.client.client import Client
from asyncjobs.jobs.effects import AttemptEffects
from asyncjobs.jobs.handle import Disposition
from asyncjobs.model.job import NewJob
from asyncjobs.model.terms import Barrier
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import Backend

__all__ = ["Keeping"]


class Keeping:
    """Takes the jobs of calls in place of the `Client`. Made anew for each call of a job.

    `find`: what the attempt of that job keeps by now. It raises UsageError where nothing can be
    kept.
    """

    def __init__(self, client: Client, find: Callable[[], AttemptEffects]) -> None:
        """Raises UsageError."""
        self.new: Disposition = "pending"
        self._client = client
        self._effects = find()
        self._effects.check_store(client.backend)

    @property
    def backend(self) -> Backend:
        """The store that they will go to."""
        return self._client.backend

    async def enqueue(self, job: NewJob, name: str) -> Placed | None:
        """See `Client.enqueue`. Sends nothing."""
        (place,) = await self.enqueue_many((job,), (name,))
        return place

    async def enqueue_many(
        self, jobs: Sequence[NewJob], names: Sequence[str]
    ) -> list[Placed | None]:
        """See `Client.enqueue_many`. Sends nothing."""
        self.keep(jobs, names)
        return [None] * len(jobs)

    def keep(
        self, jobs: Sequence[NewJob], names: Sequence[str], barriers: Sequence[Barrier] = ()
    ) -> None:
        """Keep jobs, and the barriers that are raised with them."""
        # As an enqueue does: an error that came with the settlement would fail the whole attempt.
        for job, name in zip(jobs, names, strict=True):
            self._client.check(job, name)
        self._effects.keep(jobs, names, barriers)
