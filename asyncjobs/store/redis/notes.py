"""Notes of running jobs: which of them go in one call, and how they are written and read."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.job import Notes, TakenJob
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.lookups import STEP

__all__ = ["place_of", "read_notes", "steps_of"]


def steps_of(lease: LeaseSpec, jobs: Sequence[TakenJob]) -> list[tuple[str, Sequence[int]]]:
    """The places of the jobs that were taken under this lease: by queue, at most STEP together.

    One that was taken under an entry that is lost is left out: its receipt may name the same
    entry of the stream as that of its present holder.
    """
    steps: list[tuple[str, Sequence[int]]] = []
    for queue, places in places_by_queue(job.queue for job in jobs).items():
        entry = lease.entry(queue)
        ours = [place for place in places if jobs[place].holder == entry]
        steps += [(queue, step) for step in pieces(ours, STEP)]
    return steps


def place_of(job: TakenJob) -> bytes:
    """Where a job is that runs, as lua/note.lua and lua/notes.lua read it."""
    return b"%d:%s" % (job.priority, job.receipt)


def read_notes(flat: Sequence[bytes]) -> Notes:
    """The fields of a hash. A name that is no text can only come from a foreign writer."""
    names = (name.decode("utf-8", "backslashreplace") for name in flat[::2])
    return dict(zip(names, flat[1::2], strict=True))
