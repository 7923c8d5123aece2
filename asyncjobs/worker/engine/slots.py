"""How the intake asks what running attempts leave free."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from asyncjobs.model.job import TakenJob

__all__ = ["Slots"]


def _nobody_waits() -> None:
    return


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a worker. Each figure is asked for when it is needed."""

    concurrency: int
    """How many attempts may run at a time."""
    in_use: Callable[[], int]
    """How many attempts hold a slot."""
    most: Callable[[int], Mapping[str, int]]
    """The most jobs that single queues may hand out, because these jobs need a thread, a process
    or a turn of their function. Its argument is how many jobs have come and were not started:
    they may need one, too."""
    room: Callable[[Collection[TakenJob]], tuple[int, ...]]
    """How many suspects may be taken beside these jobs; see `Demand`. A suspect is a job that was
    running when a worker died."""
    has_places: bool = False
    """Whether some jobs need a thread, a process or a turn besides the slot."""
    away: Callable[[], int] = int
    """How many of those attempts have given their slot away, and wait for other jobs."""
    admit: Callable[[], None] = _nobody_waits
    """Let those that wait to come back have the slots that are free."""
