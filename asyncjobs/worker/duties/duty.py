"""What a duty is, and what it works with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.model.events import Events
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.seam import Backend
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.settings import WorkerSettings

__all__ = ["Duty", "Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """The worker that a duty is for."""

    backend: Backend
    session: Session
    processor: Processor
    settings: WorkerSettings
    hub: Events
    registry: JobRegistry


class Duty(ABC):
    """Something that each worker does from time to time. Several workers may do it at once."""

    @classmethod
    @abstractmethod
    def of(cls, site: Site) -> Self | None:
        """The duty for this worker; None if it does not have it."""

    @abstractmethod
    async def run(self) -> float:
        """Do it once. Returns the seconds until the next time."""

    async def finish(self) -> None:  # noqa: B027  most have no use for it
        """The worker has settled its last job and leaves: do what cannot wait."""

    def hear_beat(self, beat: Heartbeat) -> None:  # noqa: B027  most have no use for it
        """The store has answered a heartbeat."""

    def hear_reclaim_due(self) -> None:  # noqa: B027  most have no use for it
        """A signal says that a lease has ended."""

    def hear_changed(self, queue: str) -> None:  # noqa: B027  most have no use for it
        """A signal says that something about this queue was changed by hand."""
