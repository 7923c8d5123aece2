"""The notes of one job as an attempt works with them: read once, written behind, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from asyncjobs.errors import AsyncJobsError, UsageError
from asyncjobs.guard.own import hide
from asyncjobs.jobs.seat import Seat
from asyncjobs.model.notes import Notes
from asyncjobs.model.refs import JobRef

__all__ = ["EVERY_S", "MOST_BYTES", "MOST_NOTES", "MOST_NOTE_BYTES", "Notebook"]

EVERY_S: Final = 0.2
"""A job may advance a million times. The store hears of the newest cursor this often."""
MOST_NOTES: Final = 1_000
"""The most notes of one job: its steps, its long sleeps and its state."""
MOST_NOTE_BYTES: Final = 256 * 1024
MOST_BYTES: Final = 4 << 20
"""Of one note, and of all notes of a job: each attempt reads all of them at once."""


class Notebook:
    """Owns what this attempt knows of its notes, and what the store has not heard of yet.

    Used on the worker's loop only. `is_ahead`: this attempt has stored something new that brings
    the job forward, so that the next attempt begins further on.
    """

    def __init__(self, seat: Seat, ref: JobRef) -> None:
        self._seat = seat
        self._ref = ref
        self._notes: Notes = {}
        self._bytes = 0
        self._is_read = False
        self._one = asyncio.Lock()
        """Held during each request, so that an older value never overtakes a newer one."""
        self._waiting: Notes = {}
        self._forward: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: AsyncJobsError | None = None
        self.is_ahead = False

    @property
    def known(self) -> Mapping[str, bytes]:
        """All notes, as far as they have been read."""
        return self._notes

    async def read(self) -> Mapping[str, bytes]:
        """All notes as this attempt knows them. The first call asks the store."""
        if not self._is_read:
            async with self._one:
                # Two tasks of one job may both come first.
                if not self._is_read:
                    self._notes = await self._seat.read() | self._notes
                    self._bytes = sum(map(_size, self._notes.items()))
                    self._is_read = True
        return self._notes

    def note(self, name: str, value: bytes, what: str, *, forward: bool = True) -> None:
        """Keep a note. The store hears of it within EVERY_S, and of no job more often.

        `what` names it in errors. Raises UsageError for one note too many or too large, and what
        the store has answered to an earlier one.
        """
        if self._refusal is not None:
            raise self._refusal
        self._check_bounds(name, value, what)
        self._notes[name] = value
        self._waiting[name] = value
        if forward:
            self._forward.add(name)
        self._write_soon()

    def _check_bounds(self, name: str, value: bytes, what: str) -> None:
        known = self._notes.get(name)
        before = 0 if known is None else _size((name, known))
        size = _size((name, value))
        if size > MOST_NOTE_BYTES:
            raise UsageError(
                f"{what} of {self._ref} takes {size} B, more than {MOST_NOTE_BYTES} B; keep large "
                "values elsewhere, and their key here"
            )
        self.check_room(name, what)
        if self._bytes - before + size > MOST_BYTES:
            raise UsageError(
                f"with {what} the notes of {self._ref} take more than {MOST_BYTES} B; keep large "
                "values elsewhere, and their keys here"
            )
        self._bytes += size - before

    def check_room(self, name: str, what: str) -> None:
        """Raises UsageError if the note `name` would be one too many. To be asked before the work
        whose end it notes: otherwise each attempt would do that work, and none could say so."""
        if name not in self._notes and len(self._notes) >= MOST_NOTES:
            raise UsageError(
                f"{what} would be note {MOST_NOTES + 1} of {self._ref}; a job has at most "
                f"{MOST_NOTES} steps, sleeps and states: use one step with a cursor for many pieces"
            )

    async def write(self) -> None:
        """Return when the store has all notes of this attempt. See `Seat.write`."""
        async with self._one:
            sent, self._waiting = self._waiting, {}
            if not sent:
                return
            try:
                await self._seat.write(sent)
            except BaseException:
                # Whether it was kept is not known, and twice does no harm.
                self._waiting = sent | self._waiting
                raise
            if not self._forward.isdisjoint(sent):
                self.is_ahead = True

    def _write_soon(self) -> None:
        # rule:24 a job writes its cursors once in a while, however often it advances
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._write_behind)

    def _write_behind(self) -> None:
        self._timer = None
        # A job that has ended is not this attempt's any more.
        if self._waiting and self._seat.is_open:
            self._task = hide(asyncio.get_running_loop().create_task(self._write_now()))

    async def _write_now(self) -> None:
        try:
            await self.write()
        except AsyncJobsError as refusal:
            # Told to the job with its next note: nobody awaits this task.
            self._refusal = refusal
        finally:
            self._task = None
        if self._waiting:
            self._write_soon()

    async def close(self, limit_s: float) -> None:
        """The attempt is over without a value: write what the store has not heard of, for at most
        `limit_s`. Raises TimeoutError, and what the store answers."""
        self._stop_timer()
        task = self._task
        if task is not None:
            task.cancel()
        if not self._waiting and task is None:
            return
        async with asyncio.timeout(limit_s):
            await self.write()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _size(note: tuple[str, bytes]) -> int:
    name, value = note
    return len(name) + len(value)
