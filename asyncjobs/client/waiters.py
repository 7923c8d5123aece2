"""The callers that wait for an enqueue: their jobs, their answers and their errors."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Final, NamedTuple

from asyncjobs.errors import NotOpen, StoreUnavailable
from asyncjobs.model.batches import cut, places_by_queue
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Enqueued, Placed

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_JOBS",
    "Part",
    "Waiter",
    "answer_waiters",
    "by_queue",
    "closed_error",
    "fail_waiters",
    "in_chunks",
    "maybe_stored_error",
    "partly_stored_error",
]

MAX_BATCH_JOBS: Final = 1_000
MAX_BATCH_BYTES: Final = 4 << 20


class Waiter:
    """Jobs of one queue, and the caller that waits for them. Never larger than a batch."""

    __slots__ = ("answer", "deadline_s", "jobs", "size")

    def __init__(
        self,
        jobs: Sequence[NewJob],
        size: int,
        answer: asyncio.Future[Sequence[Placed | None]],
        deadline_s: float,
    ) -> None:
        self.jobs = jobs
        self.size = size
        self.answer = answer
        self.deadline_s = deadline_s

    def fail(self, error: BaseException) -> None:
        """Raise `error` at the caller, unless it has its answer already or has left."""
        if not self.answer.done():
            self.answer.set_exception(error)
            # asyncio logs an exception that nobody reads, and a caller that is cancelled in this
            # very turn never reads it. So it is read once here.
            self.answer.exception()


def answer_waiters(waiters: list[Waiter], enqueued: Enqueued, place: int) -> int:
    """Answer these callers, whose jobs start at `place` in the batch. Returns where they end."""
    places, refused = enqueued
    for waiter in waiters:
        end = place + len(waiter.jobs)
        # rule:5 callers hear of their own queue
        if refused and (error := refused.get(waiter.jobs[0].queue)) is not None:
            waiter.fail(_copy(error))
        elif not waiter.answer.done():
            waiter.answer.set_result(places[place:end])
        place = end
    return place


def in_chunks(jobs: Sequence[NewJob]) -> list[tuple[Sequence[NewJob], int]]:
    """Cut the jobs into pieces that fit a batch. Returns each with its size in bytes."""
    sizes = [len(job.envelope) for job in jobs]
    return [
        (jobs[places.start : places.stop], sum(sizes[places.start : places.stop]))
        for places in cut(sizes, most=MAX_BATCH_JOBS, most_bytes=MAX_BATCH_BYTES)
    ]


class Part(NamedTuple):
    """The jobs of one queue in a chunk, with their places there and their size in bytes."""

    places: Sequence[int]
    jobs: Sequence[NewJob]
    size: int


def by_queue(chunk: Sequence[NewJob], size: int) -> list[Part]:
    """Cut a chunk into one part for each queue, because the store may refuse one queue only."""
    places = places_by_queue(job.queue for job in chunk)
    if len(places) == 1:
        # The usual case, without a copy of the jobs.
        return [Part(range(len(chunk)), chunk, size)]
    parts = []
    for own in places.values():
        jobs = [chunk[place] for place in own]
        parts.append(Part(own, jobs, sum(len(job.envelope) for job in jobs)))
    return parts


def fail_waiters(waiters: list[Waiter], error: Exception) -> None:
    """Give each caller its own copy of the error. A shared one would collect all tracebacks."""
    for waiter in waiters:
        waiter.fail(_copy(error))


def _copy(error: Exception) -> Exception:
    try:
        own = copy.copy(error)
    except Exception:
        # Copying calls the class with `args`, and a foreign class may not accept them.
        return error
    own.__cause__ = error
    return own


def closed_error() -> NotOpen:
    return NotOpen("the app was closed while this enqueue waited; it may or may not be stored")


def maybe_stored_error(refusal: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"a first try was not confirmed, and now {refusal}. The jobs may be stored: repeat "
        "the call with the same job ids to be sure"
    )


def partly_stored_error(stored: int, jobs: int, refusal: Exception) -> StoreUnavailable:
    """Some jobs of a call are stored, and others were refused. The caller must not repeat the
    call as if nothing had happened, so the error is not the refusal itself."""
    return StoreUnavailable(
        f"{stored:,} of these {jobs:,} jobs are stored, and others were refused: {refusal}. "
        "Repeat the call with the same job ids, or only for what is not stored"
    )
