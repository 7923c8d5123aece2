"""Stores the progress of running jobs."""

from __future__ import annotations

from typing import Final, Self

from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.lease.session import Session

__all__ = ["ProgressNotes"]

EVERY_S: Final = 0.5
"""A job may report each of a million steps. The store hears of the newest one this often."""


class ProgressNotes(Duty):
    """Sends the newest progress of running jobs."""

    def __init__(self, session: Session, processor: Processor) -> None:
        self._session = session
        self._processor = processor

    @classmethod
    def of(cls, site: Site) -> Self:
        return cls(site.session, site.processor)

    async def run(self) -> float:
        taken = self._processor.running.take_notes()
        if taken:
            notes = [Note(job, PROGRESS, progress) for job, progress in taken]
            await self._session.lease.note(notes)
        return EVERY_S
