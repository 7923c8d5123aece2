"""Events of jobs that go on where they were: steps, and waits without a slot."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs.model.events import AttemptEnded

__all__ = ["JobSuspended"]


@dataclass(frozen=True, slots=True)
class JobSuspended(AttemptEnded):
    """The job gave its slot away and comes back by itself. No attempt is spent.

    `reason`: what it waits for, in one word such as `sleep`. It comes back after `delay_s` at the
    latest.
    """

    delay_s: float
    reason: str
