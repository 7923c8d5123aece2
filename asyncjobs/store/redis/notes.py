"""Notes of running jobs as plans: from notes to commands, from replies to answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.ids import id_bytes
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import Note, Notes
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.gates import slot_of
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.lookups import STEP
from asyncjobs.store.redis.scripts import Script

__all__ = ["NoteReads", "NoteWrites", "job_steps", "place_of", "read_notes"]

# lua/events.lua keeps them among the notes of a job, and they are none.
_OF_WAITS: Final = frozenset({"waits", "waits:until"})


class NoteWrites:
    """The calls that keep notes of jobs which a lease holds."""

    __slots__ = ("_notes", "_steps", "commands")

    def __init__(
        self,
        script: Script,
        keys: StoreKeys,
        lease: LeaseSpec,
        pinned: bytes,
        notes: Sequence[Note],
    ) -> None:
        self._notes = notes
        self._steps = job_steps(lease, [note.job for note in notes])
        commands: list[Command] = []
        for queue, places in self._steps:
            of_queue = keys.queue(queue)
            args: list[bytes | str | int] = [pinned, lease.entry(queue)]
            for place in places:
                job, name, value = notes[place]
                # rule:15 an id that is no text keeps no other job from its note
                args += (id_bytes(job.id), place_of(job), name, value)
            more_keys = tuple(of_queue.notes(notes[place].job.id) for place in places)
            commands.append(script.command(of_queue, *args, more_keys=more_keys))
        self.commands = tuple(commands)

    def read(self, replies: Sequence[Any]) -> list[bool]:
        """For each note, whether it was kept."""
        kept = [False] * len(self._notes)
        for place, letter in _by_place(self._steps, replies):
            kept[place] = letter == ord("1")
        return kept


class NoteReads:
    """The calls that read all notes of jobs which a lease holds."""

    __slots__ = ("_number", "_steps", "commands")

    def __init__(
        self,
        script: Script,
        keys: StoreKeys,
        lease: LeaseSpec,
        pinned: bytes,
        jobs: Sequence[TakenJob],
    ) -> None:
        self._number = len(jobs)
        self._steps = job_steps(lease, jobs)
        commands: list[Command] = []
        for queue, places in self._steps:
            of_queue = keys.queue(queue)
            args = [place_of(jobs[place]) for place in places]
            more_keys = tuple(of_queue.notes(jobs[place].id) for place in places)
            command = script.command(
                of_queue, pinned, lease.entry(queue), *args, more_keys=more_keys
            )
            commands.append(command)
        self.commands = tuple(commands)

    def read(self, replies: Sequence[Any]) -> list[Notes | None]:
        """The notes of each job, None for one that the lease does not hold."""
        found: list[Notes | None] = [None] * self._number
        for place, answer in _by_place(self._steps, replies):
            if isinstance(answer, list):
                found[place] = read_notes(answer)
        return found


def job_steps(lease: LeaseSpec, jobs: Sequence[TakenJob]) -> list[tuple[str, Sequence[int]]]:
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


def _by_place(
    steps: Sequence[tuple[str, Sequence[int]]], replies: Sequence[Any]
) -> Iterator[tuple[int, Any]]:
    """Each answer with the place of the note or job that it is about."""
    for (_, places), reply in zip(steps, replies, strict=True):
        yield from zip(places, reply, strict=True)


def place_of(job: TakenJob) -> bytes:
    """Where a job is that runs, as lua/note.lua and lua/notes.lua read it."""
    return b"%d:%s" % (slot_of(job), job.receipt)


def read_notes(flat: Sequence[bytes]) -> Notes:
    """The fields of a hash. A name that is no text can only come from a foreign writer."""
    names = (name.decode("utf-8", "backslashreplace") for name in flat[::2])
    notes = dict(zip(names, flat[1::2], strict=True))
    return {name: value for name, value in notes.items() if name not in _OF_WAITS}
