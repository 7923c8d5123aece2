"""Events of jobs that go on where they were: steps, and waits without a slot."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs.model.events import AttemptEnded, AttemptEvent, JobRetryScheduled

__all__ = ["JobResumed", "JobSuspended", "StepFinished"]


@dataclass(frozen=True, slots=True)
class JobSuspended(AttemptEnded):
    """The job gave its slot away and comes back by itself. No attempt is spent.

    `reason`: what it waits for, in one word such as `sleep`. It comes back after `delay_s` at the
    latest.
    """

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class JobResumed(JobRetryScheduled):
    """The attempt failed after it had brought the job forward. The job goes on from there after
    `delay_s`, and no attempt is spent. `resumptions`: how often that has happened, with this time.
    """

    resumptions: int


@dataclass(frozen=True, slots=True)
class StepFinished(AttemptEvent):
    """A step of the job is finished, and the store knows it. No later attempt runs it again.

    `step`: its name. `duration_s`: how long it has taken in this attempt.
    """

    step: str
    duration_s: float
