"""The client: the way from new jobs to one store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context

from asyncjobs.client.alarm import Alarm
from asyncjobs.client.batcher import Batcher
from asyncjobs.client.delivery import Delivery
from asyncjobs.client.lone import LoneSender
from asyncjobs.client.waiters import Part, by_queue, in_chunks, partly_stored_error
from asyncjobs.errors import MissingCapability, PayloadTooLarge, StoreError, StoreUnavailable
from asyncjobs.jobs.handle import Disposition
from asyncjobs.model.clock import new_id
from asyncjobs.model.events import Events, JobEnqueued, tell_failed, tell_stored
from asyncjobs.model.job import NewJob
from asyncjobs.model.terms import Barrier
from asyncjobs.options.app import AppSettings
from asyncjobs.store.answers import Placed
from asyncjobs.store.checks import check_terms
from asyncjobs.store.seam import Backend, EnqueueBatch

__all__ = ["Client"]


class Client:
    """Stores new jobs in one store, on one event loop.

    Decides who sends a job, its caller or the batcher, and emits the events of enqueues. Never
    owns the backend.
    """

    def __init__(self, backend: Backend, settings: AppSettings, events: Events) -> None:
        """Must be made on the loop that it runs on."""
        self.backend = backend
        self.new: Disposition = "new"
        self.loop = loop = asyncio.get_running_loop()
        self._max_payload = settings.max_payload
        self._timeout_s = settings.connect_timeout_s
        self._events = events
        self._delivery = Delivery(backend, self._timeout_s)
        self._alarm = Alarm(loop, Context())
        self._batcher = Batcher(loop, self._delivery, self._alarm, self._timeout_s)
        self._lone = LoneSender(loop, self._delivery, self._batcher, self._alarm)
        self._alarm.checks = (self._lone.expire, self._batcher.expire)

    @property
    def queues(self) -> set[str]:
        """The queues in which jobs were stored."""
        return self._delivery.queues

    async def enqueue(self, job: NewJob, name: str) -> Placed | None:
        """Store one job of the job function `name`.

        Returns None if the job is new, else which job stands in its place. Raises
        PayloadTooLarge, MissingCapability, StoreFull, StoreUnavailable, and NotOpen after close().
        """
        size = len(job.envelope)
        if size > self._max_payload or job.terms is not None:
            self.check(job, name)
        deadline_s = self.loop.time() + self._timeout_s
        try:
            batcher = self._batcher
            # Nobody else sends now, so the caller sends its job itself.
            if batcher.flusher is None and not (batcher.is_held or batcher.is_closed):
                (place,) = await self._lone.send(job, size, deadline_s)
            else:
                if batcher.space.is_full():
                    await batcher.space.wait(deadline_s)
                (place,) = await batcher.put((job,), size, deadline_s)
        except Exception as error:
            waited_s = self.loop.time() - deadline_s + self._timeout_s
            tell_failed(self._events, (job,), (name,), error, waited_s)
            raise
        if self._events.active:
            duration_s = self.loop.time() - (deadline_s - self._timeout_s)
            # Of a job that was not stored nobody would find anything.
            ref = job.ref if place is None else place.ref
            is_new = place is None or place.is_new
            self._events.emit(JobEnqueued(ref, name, is_new, size, duration_s))
        return place

    async def enqueue_many(
        self, jobs: Sequence[NewJob], names: Sequence[str]
    ) -> list[Placed | None]:
        """Store many jobs in batches.

        Returns for each: None if it is new, else which job stands in its place. If one job is too
        large, nothing is stored. Raises like `enqueue`, but StoreFull only if none of the jobs is
        stored. If some are, StoreUnavailable says how many.
        """
        # All of them, before the first batch is sent.
        for job, name in zip(jobs, names, strict=True):
            if len(job.envelope) > self._max_payload or job.terms is not None:
                self.check(job, name)
        answers: list[Placed | None] = []
        batcher = self._batcher
        stored = 0
        began_s = self.loop.time()
        for chunk, size in in_chunks(jobs):
            deadline_s = self.loop.time() + self._timeout_s
            own_names = names[len(answers) : len(answers) + len(chunk)]
            try:
                if batcher.space.is_full():
                    await batcher.space.wait(deadline_s)
                parts = by_queue(chunk, size)
                sent = [batcher.put(part.jobs, part.size, deadline_s) for part in parts]
            except Exception as error:
                tell_failed(self._events, chunk, own_names, error, self.loop.time() - began_s)
                raise
            found, failure = await self._gather(own_names, parts, sent, began_s)
            stored += len(found)
            if failure is not None:
                # The other failures say themselves that jobs may be stored.
                is_refusal = isinstance(failure, StoreError)
                if stored and is_refusal and not isinstance(failure, StoreUnavailable):
                    raise partly_stored_error(stored, len(jobs), failure) from failure
                raise failure
            answers += [found[place] for place in range(len(chunk))]
        return answers

    async def store(
        self, jobs: Sequence[NewJob], names: Sequence[str], barriers: Sequence[Barrier] = ()
    ) -> None:
        """Store jobs of one queue and their barriers in one step. No more jobs than a batch has.

        Raises like `enqueue`. After StoreUnavailable they may be stored.
        """
        for job, name in zip(jobs, names, strict=True):
            if len(job.envelope) > self._max_payload or job.terms is not None:
                self.check(job, name)
        began_s = self.loop.time()
        ends_s = began_s + self._timeout_s
        batch = EnqueueBatch(new_id(), jobs, barriers)
        # Not through the batcher: the jobs of others need no barriers, and these are a batch.
        enqueued = await self._delivery.send(batch, lambda: self.loop.time() >= ends_s)
        error: Exception | None = None
        if enqueued is None:
            error = self._delivery.unavailable()
        else:
            error = next(iter(enqueued.refused.values()), None)
        waited_s = self.loop.time() - began_s
        if error is not None:
            tell_failed(self._events, jobs, names, error, waited_s)
            raise error
        if self._events.active:
            stored = [(job.ref, True) for job in jobs]
            tell_stored(self._events, jobs, names, stored, waited_s)

    async def _gather(
        self,
        names: Sequence[str],
        parts: Sequence[Part],
        sent: Sequence[asyncio.Future[Sequence[Placed | None]]],
        began_s: float,
    ) -> tuple[dict[int, Placed | None], Exception | None]:
        """Wait for the parts of a chunk. Returns the answers by place in the chunk, and the first
        error.

        Emits the events of each part by itself, because one part may be stored and the next one
        refused.
        """
        found: dict[int, Placed | None] = {}
        failure: Exception | None = None
        # A refused part must not hide that other parts are stored.
        answers = await asyncio.gather(*sent, return_exceptions=True)
        for part, answer in zip(parts, answers, strict=True):
            own_names = [names[place] for place in part.places]
            waited_s = self.loop.time() - began_s
            if isinstance(answer, Exception):
                failure = failure or answer
                tell_failed(self._events, part.jobs, own_names, answer, waited_s)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.update(zip(part.places, answer, strict=True))
                if self._events.active:
                    stored = [
                        (job.ref, True) if place is None else (place.ref, place.is_new)
                        for job, place in zip(part.jobs, answer, strict=True)
                    ]
                    tell_stored(self._events, part.jobs, own_names, stored, waited_s)
        return found, failure

    async def close(self) -> None:
        """Send what waits, for at most `connect_timeout`. Fail the rest with NotOpen."""
        batcher = self._batcher
        batcher.is_closed = True
        try:
            async with asyncio.timeout(self._timeout_s):
                # The lone caller first: the batcher sends nothing before its end.
                await self._lone.wait()
                if batcher.flusher is not None:
                    await asyncio.wait([batcher.flusher])
        except TimeoutError:
            pass  # `fail_all` below tells those who still wait
        finally:
            self._alarm.stop()
            flusher = batcher.flusher
            if flusher is not None:
                flusher.cancel()
            self._lone.stop()
            batcher.fail_all()
        if flusher is not None:
            await asyncio.wait([flusher])

    def check(self, job: NewJob, name: str) -> None:
        """Raise PayloadTooLarge or MissingCapability for a job that the store would refuse.

        The store refuses a batch as a whole. Callers that share it with such a job would get the
        error of somebody else.
        """
        try:
            if len(job.envelope) > self._max_payload:
                raise PayloadTooLarge(
                    f"{name}: the job {job.ref} is {len(job.envelope):,} bytes, over max_payload="
                    f"{self._max_payload:,}; store the data elsewhere and pass its key, or "
                    "raise max_payload on the app"
                )
            # rule:5 what a store cannot keep is refused before it joins the batch of others
            check_terms(job, self.backend.capabilities)
        except (PayloadTooLarge, MissingCapability) as error:
            tell_failed(self._events, (job,), (name,), error, 0.0)
            raise
