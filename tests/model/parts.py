"""What the model is made of: jobs, ends, leases, dead letters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.notes import Notes
from asyncjobs.model.settlement import Settlement

__all__ = ["Answer", "End", "Job", "LeaseEntry", "Letter", "has_room"]


@dataclass
class Job:
    """A job that has not finished; `place` is its turn among the ready ones."""

    id: str
    priority: int
    envelope: bytes
    place: int = 0
    due_ms: int | None = None
    holder: str | None = None
    crashes: int = 0
    marked: bool = False
    key: bytes = b""
    """The unique key that it holds."""
    notes: Notes = field(default_factory=dict)
    receipt: bytes = b""
    ready_ms: int = 0
    """Both as the store said at the last taking; 0 when it was not taken since ready."""

    @property
    def state(self) -> State:
        if self.due_ms is not None:
            return State.SCHEDULED
        return State.READY if self.holder is None else State.RUNNING

    def is_held(self, entry: str, taken: TakenJob) -> bool:
        """Whether `taken` names the present taking of this job by `entry`."""
        return self.holder == entry == taken.holder and self.receipt == taken.receipt


@dataclass
class End:
    """How a job ended, and until when its outcome has to be kept."""

    state: State
    at_ms: int
    outcome: bytes | None
    until_ms: int
    earlier: frozenset[bytes]
    """Outcomes that earlier jobs of this id have left behind, all over their time."""


@dataclass
class LeaseEntry:
    """A lease: its end, its grace, and the highest sequences seen and applied."""

    end_ms: int
    grace_ms: int
    seen: int = 0
    applied: int = 0


class Answer(NamedTuple):
    """What an exchange has to answer."""

    jobs: list[tuple[str, int, bytes, int]]
    """Id, priority, envelope and crashes of each, in the order of taking."""
    not_yours: list[Settlement]
    cancelled: list[Settlement]
    cancels: list[str]
    is_left_ready: bool
    next_due_ms: int | None
    next_lease_end_ms: int | None
    fewest_crashes: int
    """Of a suspect that is left, 0 without one."""


class Letter(NamedTuple):
    """A dead letter."""

    at_ms: int
    priority: int
    text: bytes
    notes: Notes


def has_room(demand: Demand, crashes: list[int]) -> bool:
    """Whether suspects that have been through so many crashes may be handed out together."""
    rooms = [(demand.suspects or (0,))[min(n, len(demand.suspects) or 1) - 1] for n in crashes]
    return len(crashes) <= min(rooms)
