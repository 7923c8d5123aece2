"""Notes: named values of a running job, such as its progress."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from asyncjobs.model.job import TakenJob

__all__ = ["PROGRESS", "SLEEP", "STATE", "STEP", "Note", "Notes"]

PROGRESS: Final = "progress"
"""The name of the note that `JobRecord.progress` holds."""


class Note(NamedTuple):
    """A named value of a running job: its progress, a cursor, or the result of a step."""

    job: TakenJob
    name: str
    value: bytes


Notes: TypeAlias = dict[str, bytes]
"""The notes of one job, by their names."""

STEP: Final = "step:"
SLEEP: Final = "sleep:"
STATE: Final = "state"
"""How the names of the notes begin that steps, sleeps and states make."""
