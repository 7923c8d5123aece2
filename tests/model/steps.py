"""What the steps of the machine are drawn from, and what they pass about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.notes import PROGRESS
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.testing.conformance.store import QUEUE
from tests.model.parts import Answer

__all__ = [
    "DEMANDS",
    "ENDS",
    "ID_TTL_MS",
    "KEY_TTL_MS",
    "NAMES",
    "NOTES",
    "OWN_ENDS",
    "PICK",
    "WORKERS",
    "WORK_ENDS",
    "Call",
    "Party",
    "delays_of",
    "in_order",
    "told",
    "while_running",
    "with_jobs",
]

R = TypeVar("R", bound=Callable[..., Any])

NAMES = [f"job-{number}" for number in range(4)]
ID_TTL_MS = 60_000
KEY_TTL_MS = 10**12
"""No machine lives as long: only its job frees a key."""
NOTES = st.sampled_from([PROGRESS, PROGRESS, "cursor"])
WORKERS = st.integers(0, 1)
PICK = st.integers(0, 11)
KINDS = st.sampled_from(
    [
        "succeeded",
        "kept",
        "causing",
        "discarded",
        "dead",
        "again",
        "soon",
        "release",
        "release",
    ]
)
ENDS = st.lists(
    st.tuples(
        KINDS,
        # Which of the jobs held; or, from time to time, of all that were ever taken.
        PICK,
        st.sampled_from([True, True, True, True, False]),
    ),
    max_size=3,
)
OWN_ENDS = st.lists(st.tuples(KINDS, PICK, st.just(True)), min_size=1, max_size=3)
# What is rare elsewhere, and has the most effects.
WORK_ENDS = st.lists(
    st.tuples(st.sampled_from(["causing", "dead", "dead", "kept", "soon"]), PICK, st.just(True)),
    min_size=1,
    max_size=3,
)
ANY_DEMAND = st.builds(
    Demand,
    slots=st.integers(0, 4),
    guard=st.integers(0, 2),
    guard_from=st.integers(1, 3),
    suspects=st.sampled_from([(32, 8, 2, 1), (2, 1), (1,), (1, 0), ()]),
)
# Mostly such that jobs come to run, for without these the other steps have little to do.
DEMANDS = st.one_of(
    st.integers(1, 4).map(lambda slots: Demand(slots, suspects=(32, 1))), ANY_DEMAND
)


def with_jobs(step: R) -> R:
    """Only while there are jobs: other steps than enqueues would find little to do."""
    checked: R = precondition(lambda self: self.model.jobs)(step)
    return checked


def while_running(step: R) -> R:
    """Only while jobs run, or are on their way back from a lease that has ended."""
    checked: R = precondition(lambda self: any(j.holder for j in self.model.jobs.values()))(step)
    return checked


class Call(NamedTuple):
    """An exchange as it was sent."""

    lease: LeaseSpec
    sequence: int
    settlements: list[Settlement]
    demand: Demand


@dataclass
class Party:
    """A worker as the store sees one: a lease, rising numbers, what it was given."""

    lease: LeaseSpec
    sequence: int = 0
    held: list[TakenJob] = field(default_factory=list)
    last: Call | None = None

    @property
    def entry(self) -> str:
        return self.lease.entry(QUEUE)


def delays_of(settlements: list[Settlement]) -> set[int]:
    """The delays that are used already: which of two jobs due at one time is first is left open."""
    caused = (new.delay_ms for s in settlements if s.effects for new in s.effects.jobs)
    return {*caused, *(s.delay_ms for s in settlements)}


def in_order(settlements: list[Settlement]) -> list[Settlement]:
    """In an order that does not depend on the store."""
    return sorted(settlements, key=repr)


def told(answer: Exchange) -> Answer:
    """The parts of an answer that the model knows beforehand."""
    return Answer(
        [(job.id, job.priority, job.envelope, job.crashes) for job in answer.jobs],
        in_order(answer.not_yours),
        in_order(list(answer.cancelled)),
        sorted(job.id for job in answer.cancels),
        bool(answer.left_ready),
        answer.next_due_ms[QUEUE],
        answer.next_lease_end_ms,
        answer.suspects.get(QUEUE, 0),
    )
