"""What a store refuses before it sends anything: terms and effects that it cannot keep.

A store that ignored them would run a job twice, too early, or never, and nobody would know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.model.job import NewJob, Priority, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap, ScheduleRef
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, MOST_EFFECT_JOBS, Settlement
from asyncjobs.model.terms import Barrier, Terms
from asyncjobs.store.schedules import MOST_TICKS, Tick
from asyncjobs.store.seam import Backend, Capabilities, EnqueueBatch

__all__ = [
    "check_barriers",
    "check_batch",
    "check_effect",
    "check_effects",
    "check_needs",
    "check_terms",
    "check_ticks",
    "missing",
    "needs_of",
    "no_schedules",
]


PRIORITIES: Final = frozenset(Priority)


def needs_of(terms: Terms) -> frozenset[str]:
    """The capabilities that a store needs to keep these terms, by their names."""
    needs = {
        "unique": terms.unique is not None,
        "gates": terms.gate is not None,
        "flows": terms.behind is not None or bool(terms.arrivals) or terms.node is not None,
    }
    return frozenset(name for name, is_needed in needs.items() if is_needed)


def check_needs(function: str, needs: Mapping[str, str], backend: Backend) -> None:
    """Raises MissingCapability when the store cannot keep an option of a job function.

    `needs` has the name of a capability for each option that needs one.
    """
    for option, capability in needs.items():
        if not getattr(backend.capabilities, capability):
            raise MissingCapability(
                f"the job function {function} has the option {option}, and the store at "
                f"{backend.address} has no capability {capability!r} for it: use a store that "
                f"has it, or leave {option} out"
            )


def check_terms(job: NewJob, capabilities: Capabilities) -> None:
    """Raises MissingCapability when the store cannot keep the terms of this job."""
    if job.terms is None:
        return
    for name in sorted(needs_of(job.terms)):
        if not getattr(capabilities, name):
            raise MissingCapability(
                f"the store has no capability {name!r}, which the terms of the job {job.ref} "
                "need: use a store that has it, or enqueue the job without them"
            )
    unique = job.terms.unique
    # Its barrier could fall with a failure while it still waits for the key.
    if job.terms.behind is not None and unique is not None and unique.hold:
        raise UsageError(
            f"the job {job.ref} is behind the barrier {job.terms.behind!r}, and may be held for "
            "its unique key besides: it waits for one of them only, so enqueue it without the other"
        )


def check_barriers(barriers: Iterable[Barrier], capabilities: Capabilities, whose: str) -> None:
    """Raises MissingCapability when the store keeps no barriers, and UsageError for one that
    would wait for fewer than no arrivals."""
    for barrier in barriers:
        if not capabilities.flows:
            raise MissingCapability(
                f"the store has no capability 'flows', which {whose} needs for the barrier "
                f"{barrier.id!r}: use a store that has it"
            )
        if barrier.arrivals < 0:
            raise UsageError(
                f"{whose} lets the barrier {barrier.id!r} wait for {barrier.arrivals:,} arrivals: "
                "use 0 or more"
            )


def check_batch(batch: EnqueueBatch, capabilities: Capabilities) -> None:
    """Raises MissingCapability when the store cannot keep barriers or terms of this batch."""
    for job in batch.jobs:
        if job.terms is not None:
            check_terms(job, capabilities)
    if batch.barriers:
        check_barriers(batch.barriers, capabilities, "a batch")


def check_effects(settlement: Settlement, capabilities: Capabilities) -> None:
    """Raises UsageError for effects that no store can keep with this settlement, and
    MissingCapability for effects that this store cannot keep."""
    effects = settlement.effects
    job = settlement.job
    # Nearly all settlements have none: they pay for this look and for nothing else.
    if effects is None:
        return
    if settlement.state is not State.SUCCEEDED:
        raise UsageError(
            f"the settlement of {job.ref} is {settlement.state} and carries effects: only a "
            "success may, for whatever else becomes of an attempt drops them"
        )
    size = sum(len(new.envelope) for new in effects.jobs)
    if len(effects.jobs) > MOST_EFFECT_JOBS or size > MOST_EFFECT_BYTES:
        raise UsageError(
            f"the settlement of {job.ref} carries {len(effects.jobs):,} jobs of {size:,} bytes, "
            f"and may carry {MOST_EFFECT_JOBS:,} of {MOST_EFFECT_BYTES:,} bytes: enqueue them "
            "in parts, or one job that enqueues them"
        )
    # Up to here it was about the settlement, from here on about each job of it. A store must not
    # meet any of these when it has begun: what a success causes is stored whole or not at all.
    for new in effects.jobs:
        check_effect(job.ref, new, capabilities)
    check_barriers(effects.barriers, capabilities, f"the settlement of {job.ref}")
    for barrier in effects.barriers:
        if barrier.queue != job.queue and not capabilities.across_queues:
            raise UsageError(
                f"the settlement of {job.ref} raises the barrier {barrier.queue}/{barrier.id}, and "
                "this store raises only barriers of the same queue with a settlement"
            )


def check_effect(job: JobRef, new: NewJob, capabilities: Capabilities) -> None:
    """Raises UsageError or MissingCapability for a job that this store cannot keep with a success
    of `job`."""
    if new.queue != job.queue and not capabilities.across_queues:
        raise UsageError(
            f"the settlement of {job} carries the job {new.ref}, and this store keeps only jobs of "
            "the same queue with a settlement: enqueue the job by itself"
        )
    if new.priority not in PRIORITIES:
        raise UsageError(
            f"the settlement of {job} carries the job {new.ref} with the priority "
            f"{new.priority!r}: use 0 to 3"
        )
    check_terms(new, capabilities)


def check_ticks(
    schedule: ScheduleRef,
    ticks: Sequence[Tick],
    capabilities: Capabilities,
    overlap: Overlap = Overlap.ALLOW,
) -> None:
    """Raises UsageError for ticks that no store fires in one step, and MissingCapability for
    terms of their jobs that this store cannot keep."""
    if len(ticks) > MOST_TICKS:
        raise UsageError(
            f"{len(ticks):,} ticks of the schedule {schedule} are to fire at once, and "
            f"{MOST_TICKS} may: fire them in parts"
        )
    # As for effects: a store must meet none of these when it has begun.
    for tick in ticks:
        job = tick.job
        if job.queue != schedule.queue:
            raise UsageError(
                f"a tick of the schedule {schedule} makes the job {job.ref}: make one for the "
                f"queue {schedule.queue!r}"
            )
        if job.priority not in PRIORITIES:
            raise UsageError(
                f"a tick of the schedule {schedule} makes the job {job.ref} with the priority "
                f"{job.priority!r}: use 0 to 3"
            )
        check_terms(job, capabilities)
        is_unique = job.terms is not None and job.terms.unique is not None
        if is_unique and overlap is Overlap.QUEUE_ONE:
            raise UsageError(
                f"a tick of the schedule {schedule} makes the job {job.ref} with a unique key, and "
                "with the overlap queue_one it waits for a key of the schedule: use another overlap"
            )


def missing(capability: str, address: str) -> MissingCapability:
    """The error for a part of the seam that the store at this address does not have."""
    return MissingCapability(
        f"the store at {address} has no capability {capability!r}: use a store that has it"
    )


def no_schedules(address: str) -> MissingCapability:
    """The error for schedules on a store that does not keep any."""
    return MissingCapability(
        f"the store at {address} has no capability 'schedules': use a store that has it, or let "
        "something else enqueue the jobs at their times"
    )
