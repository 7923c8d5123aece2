"""New jobs on their way to the server: one script for each queue, all in one trip."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable
from asyncjobs.model.batches import places_by_queue
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Enqueued, Placed
from asyncjobs.store.checks import check_batch
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.layout import CAPABILITIES
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.listing import QueueNames
from asyncjobs.store.redis.placing import (
    barrier_args,
    has_new,
    has_terms,
    job_args,
    read_places,
    terms_args,
)
from asyncjobs.store.redis.scripts import Script, run_each, script
from asyncjobs.store.seam import EnqueueBatch

__all__ = ["Enqueuer"]

LARGE: Final = 32_768
"""Bytes of an envelope above which workers have to know of it: see lua/shared.lua."""
# Made once, for it is the answer to most enqueues.
ONE_NEW: Final = Enqueued((None,))
REPLICA_WAIT_MS: Final = 1_000
"""How long one try of an enqueue waits for replicas; the client tries again."""


class Enqueuer:
    """Stores batches of new jobs. Owns no connection, but the names of queues that it has sent.

    `address` is shown in errors.
    """

    def __init__(self, access: Access, address: str) -> None:
        self._access = access
        self._address = address
        self._names = QueueNames(access.keys.queues)

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """See `Backend.enqueue`."""
        jobs = batch.jobs
        is_lone = len(jobs) == 1 and not batch.barriers
        if is_lone and jobs[0].is_plain and len(jobs[0].envelope) <= LARGE:
            # One job that is ready at once, under an id that nobody has: most of all calls.
            (job,) = jobs
            store = script("enqueue_new")
            command = self._plain_command(store, job, batch)
            (answer,) = await self._confirmed(store, (command,), (job.queue,))
            if isinstance(answer, StoreError):
                return Enqueued((None,), {job.queue: _refusal(job.queue, answer)})
            return ONE_NEW
        check_batch(batch, CAPABILITIES)
        by_queue = places_by_queue([job.queue for job in jobs])
        for barrier in batch.barriers:
            by_queue.setdefault(barrier.queue, [])
        with_terms = bool(batch.barriers) or any(map(has_terms, jobs))
        # All queues of a batch go one way, for a trip calls one script.
        store = script("enqueue_terms" if with_terms else "enqueue")
        commands = tuple(
            self._command(store, queue, [jobs[place] for place in places], batch)
            for queue, places in by_queue.items()
        )
        answers = await self._confirmed(store, commands, tuple(by_queue))
        if store.name == "enqueue_terms":
            return _read_places(jobs, by_queue, answers)
        # Nearly every batch is new, and for one queue. Then no job has to be looked at.
        if len(answers) == 1 and type(answers[0]) is bytes and b"0" not in answers[0]:
            return Enqueued([None] * len(jobs))
        return _read(jobs, by_queue, answers)

    def _plain_command(self, store: Script, job: NewJob, batch: EnqueueBatch) -> Command:
        keys = self._access.keys.queue(job.queue)
        more_keys = (keys.ready[job.priority], keys.batch(batch.token))
        args = (job.id, b"%d" % job.priority, job.envelope)
        return store.command(
            keys, self._access.pinned(), self._ttl_ms(batch), *args, more_keys=more_keys
        )

    def _command(
        self, store: Script, queue: str, jobs: Sequence[NewJob], batch: EnqueueBatch
    ) -> Command:
        keys = self._access.keys.queue(queue)
        args: list[bytes | str | int] = [self._access.pinned(), self._ttl_ms(batch)]
        more_keys = [keys.batch(batch.token)]
        with_terms = store.name == "enqueue_terms"
        if with_terms:
            args += [self._access.settings.id_ttl_ms, self._access.settings.history]
            raised = [each for each in batch.barriers if each.queue == queue]
            args.append(len(raised))
            for barrier in raised:
                args += barrier_args(barrier)
        for job in jobs:
            args += job_args(job)
            if with_terms:
                args.append(terms_args(queue, job.terms))
            # The id may have been used before: the result of that job goes with this one.
            if not job.has_new_id:
                more_keys.append(keys.result(job.id))
        return store.command(keys, *args, more_keys=tuple(more_keys))

    def _ttl_ms(self, batch: EnqueueBatch) -> int:
        """How long the answer to a batch is kept, for one that is sent again."""
        return batch.token_ttl_ms or self._access.settings.token_ttl_ms

    async def _confirmed(
        self, store: Script, commands: tuple[Command, ...], queues: tuple[str, ...]
    ) -> list[Any]:
        """The answers of `store` for each of these queues, refusals among them, once as many
        replicas have them as the settings say."""
        wanted = self._access.settings.wait_replicas
        unlisted = self._names.due(queues)
        link = self._access.link
        # Mostly the jobs go alone. Their names were sent lately, and no replica is waited for.
        if not wanted and not unlisted:
            return await run_each(link, store, commands, keeps_cancelled=True)
        last: list[Command] = []
        if unlisted:
            last.append(self._names.command(unlisted))
        if wanted:
            # In one go: on a new connection WAIT would not know of these writes.
            last.append((b"WAIT", wanted, REPLICA_WAIT_MS))
        # WAIT is not answered at once. When its caller is cancelled the connection is closed,
        # or the next caller would wait behind it.
        sent_s = time.monotonic()
        replies = await run_each(
            link, store, commands, last=tuple(last), keeps_cancelled=not wanted
        )
        answers = replies[: len(commands)]
        behind = replies[len(commands) :]
        if unlisted:
            is_new = has_new if store.name == "enqueue_terms" else _has_new
            new = {
                queue
                for queue, answer in zip(queues, answers, strict=True)
                if isinstance(answer, bytes) and is_new(answer)
            }
            self._names.note([queue for queue in unlisted if queue in new], sent_s, behind[0])
        if wanted:
            self._check_copies(answers, behind[-1])
        return answers

    def _check_copies(self, answers: list[Any], copies: Any) -> None:
        """Raises StoreUnavailable when fewer replicas have confirmed than the settings say."""
        if isinstance(copies, StoreError):
            raise copies
        wanted = self._access.settings.wait_replicas
        # Where nothing was stored there is nothing to confirm.
        has_stored = not all(isinstance(answer, StoreError) for answer in answers)
        if copies < wanted and has_stored:
            raise StoreUnavailable(
                f"the store at {self._address} has the jobs, but {copies} of wait_replicas="
                f"{wanted} replicas confirmed them within {REPLICA_WAIT_MS} ms; check its "
                "replication, or lower wait_replicas"
            )


def _read(
    jobs: Sequence[NewJob], by_queue: Mapping[str, Sequence[int]], answers: Sequence[Any]
) -> Enqueued:
    """The answers of the queues, each a letter for a job: 1 for a new one."""
    found: list[Placed | None] = [None] * len(jobs)
    refused: dict[str, StoreError] = {}
    for (queue, places), answer in zip(by_queue.items(), answers, strict=True):
        if isinstance(answer, StoreError):
            refused[queue] = _refusal(queue, answer)
            continue
        for place, letter in zip(places, answer, strict=True):
            if letter != ord("1"):
                found[place] = Placed(jobs[place].ref, "there")
    return Enqueued(found, refused)


def _read_places(
    jobs: Sequence[NewJob], by_queue: Mapping[str, Sequence[int]], answers: Sequence[Any]
) -> Enqueued:
    """The same for a batch with terms."""
    found: list[Placed | None] = [None] * len(jobs)
    refused: dict[str, StoreError] = {}
    for (queue, places), answer in zip(by_queue.items(), answers, strict=True):
        if isinstance(answer, StoreError):
            refused[queue] = _refusal(queue, answer)
            continue
        for place, placed in zip(places, read_places(queue, answer), strict=True):
            found[place] = placed
    return Enqueued(found, refused)


def _has_new(answer: bytes) -> bool:
    """Whether an enqueue has stored a job."""
    return b"1" in answer


def _refusal(queue: str, error: StoreError) -> StoreError:
    """Why a queue has taken no jobs, for those who wanted to put some there."""
    if isinstance(error, StoreFull):
        return error
    return type(error)(f"queue {queue!r}: {error}; some of the jobs may be stored all the same")
