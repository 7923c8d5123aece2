"""What a job closes that was told to come back later."""

from __future__ import annotations

from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import gate_in
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["closed_by"]


def closed_by(attempt: Attempt) -> tuple[str, ...]:
    """The limits of its job, each with its key, for people; none for most jobs."""
    try:
        gate = gate_in(attempt.job.envelope)
    except BadRecord:
        # The store has the gate, and closes it all the same.
        return ()
    if gate is None:
        return ()
    return tuple(f"{use.limit} {use.key}".rstrip() for use in gate.uses)
