"""What a store refuses before it sends anything: terms and effects that it could not keep.

Ignored in silence, a job would run twice, too early, or never.
"""

from __future__ import annotations

from asyncjobs.backends.base import Capabilities, EnqueueBatch
from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.job import (
    MOST_EFFECT_BYTES,
    MOST_EFFECT_JOBS,
    NewJob,
    Settlement,
    State,
    Terms,
)

__all__ = ["check_barriers", "check_effects", "check_terms", "needs_of"]


def needs_of(terms: Terms) -> frozenset[str]:
    """The capabilities that a store needs to keep these terms, by their names."""
    needs = {
        "unique": terms.unique is not None,
        "gates": terms.gate is not None,
        "flows": terms.behind is not None or bool(terms.arrivals),
    }
    return frozenset(name for name, is_needed in needs.items() if is_needed)


def check_terms(job: NewJob, capabilities: Capabilities, address: str) -> None:
    """Raises MissingCapability when the store cannot keep the terms of this job."""
    if job.terms is None:
        return
    for name in sorted(needs_of(job.terms)):
        if not getattr(capabilities, name):
            raise MissingCapability(
                f"the store at {address} has no capability {name!r}, which the terms of the job "
                f"{job.ref} need: use a store that has it, or enqueue the job without them"
            )


def check_barriers(batch: EnqueueBatch, capabilities: Capabilities, address: str) -> None:
    """Raises MissingCapability when the batch has barriers and the store keeps none."""
    if batch.barriers and not capabilities.flows:
        raise MissingCapability(
            f"the store at {address} has no capability 'flows', which the barrier "
            f"{batch.barriers[0].id!r} needs: use a store that has it"
        )


def check_effects(settlement: Settlement, capabilities: Capabilities, address: str) -> None:
    """Raises UsageError for effects that no store could keep with this settlement,
    MissingCapability for what this one cannot."""
    effects, job = settlement.effects, settlement.job
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
    for new in effects.jobs:
        if new.queue != job.queue and not capabilities.across_queues:
            raise UsageError(
                f"the settlement of {job.ref} carries the job {new.ref}, and the store at "
                f"{address} can store a job with a settlement in the same queue only: enqueue it "
                "by itself"
            )
        check_terms(new, capabilities, address)
    if effects.barriers and not capabilities.flows:
        raise MissingCapability(
            f"the store at {address} has no capability 'flows', which the settlement of "
            f"{job.ref} needs for its barriers: use a store that has it"
        )
