"""What users see of the steps of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.jobs.cursors import to_tagged
from asyncjobs.jobs.steps import read_step
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.notes import STEP
from asyncjobs.policy.redaction import Mask

__all__ = ["StepInfo", "steps_in"]


@dataclass(frozen=True, slots=True)
class StepInfo:
    """A step of a job, as the store knows it.

    name: its name.
    is_finished: whether it will not run again.
    cursor: the newest cursor that was stored; None without one.
    at: when that was, or when the step was finished, in UTC.
    """

    name: str
    is_finished: bool
    cursor: Any
    at: datetime

    def masked(self, mask: Mask) -> StepInfo:
        """The same without the values that `mask` hides."""
        stored = to_tagged(self.cursor, "the cursor")
        masked = mask.value(stored)
        cursor = self.cursor
        # A date without its day is no date any more, so it is shown as it is stored.
        if masked != stored:
            cursor = masked
        return replace(self, name=mask.text(self.name), cursor=cursor)


def steps_in(notes: Mapping[str, bytes]) -> tuple[StepInfo, ...]:
    """The steps among the notes of a job, oldest first. What cannot be read is left out."""
    found: list[StepInfo] = []
    for note, raw in notes.items():
        if note.startswith(STEP):
            try:
                step = read_step(raw)
            except BadRecord:
                continue
            at = from_ms(min(max(step.at_ms, 0), LAST_MS))
            found.append(StepInfo(note.removeprefix(STEP), step.is_finished, step.cursor, at))
    return tuple(sorted(found, key=lambda step: step.at))
