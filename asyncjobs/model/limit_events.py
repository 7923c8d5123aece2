"""Events of limits."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs.model.events import JobSnoozed

__all__ = ["JobRateLimited"]


@dataclass(frozen=True, slots=True)
class JobRateLimited(JobSnoozed):
    """The job was told to come back later, by a service that it has called. No attempt is spent.

    `closed`: the limits that nobody passes until then, each with its key.
    """

    closed: tuple[str, ...]
