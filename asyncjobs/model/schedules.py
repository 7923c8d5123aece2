"""The words of schedules that every floor shares."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CatchUp", "Overlap", "ScheduleRef", "tick_job_id"]


class ScheduleRef(NamedTuple):
    """A schedule: the queue that it feeds, and its `id`, which is unique in the whole store."""

    queue: str
    id: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.id}"


class Overlap(StrEnum):
    """What becomes of a tick while an earlier job of its schedule lives."""

    ALLOW = "allow"
    """It fires: both jobs run."""
    SKIP = "skip"
    """It is used up without a job."""
    QUEUE_ONE = "queue_one"
    """Its job waits until the earlier one has ended. It is used up without a job if one waits
    already."""
    CANCEL_RUNNING = "cancel_running"
    """The earlier job is cancelled, then it fires."""


class CatchUp(StrEnum):
    """Which of the ticks that passed while no worker was there still fire."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


def tick_job_id(schedule_id: str, tick_ms: int) -> str:
    """The id of the job that a tick makes. It is the same for all workers, so a tick has one job.

    `tick_ms` is the planned time, in ms since the epoch.
    """
    return f"cron:{schedule_id}:{tick_ms}"
