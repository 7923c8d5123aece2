"""The states that operators see of a worker, and order."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["WorkerState"]


class WorkerState(StrEnum):
    """What a worker does about new jobs."""

    RUNNING = "running"
    """It takes jobs."""
    QUIET = "quiet"
    """It takes no jobs, finishes those that run, and stays."""
    STOPPING = "stopping"
    """It takes no jobs, finishes those that run within its grace, and ends."""
