"""The table of ends: the states in which a job stays for good.

Stores, events, `handle.result()`, the worker's log and the command line read this table. A new
terminal state is a member of `State` and a row here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from asyncjobs.errors import JobCancelled, JobDiscarded, JobFailed, ResultError
from asyncjobs.model import events, limit_events, step_events
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef

__all__ = ["ENDS", "FINAL_EVENTS", "OUTCOMES", "STATE_OF_CODE", "End"]

Explain: TypeAlias = Callable[[JobRef, Outcome], ResultError]


class End(NamedTuple):
    """One terminal state.

    code: the letter that stands for it in stores.
    event: the event that tells listeners of it.
    error: makes the error that `handle.result()` raises; None if the job has a value.
    level: the level of the log line about it.
    color: the color in which commands show its count; None for the usual one.
    has_details: whether `handle.result()` needs the stored outcome, because the state alone does
    not say enough.
    """

    code: str
    event: type[events.AttemptEnded]
    error: Explain | None
    level: int
    color: str | None = None
    has_details: bool = True


def _dead(ref: JobRef, outcome: Outcome) -> ResultError:
    return JobFailed(
        f"job {ref} is dead ({outcome.reason or 'it failed'}): {outcome.summary}",
        error_type=outcome.error_type,
        remote_traceback=outcome.traceback,
    )


def _discarded(ref: JobRef, outcome: Outcome) -> ResultError:
    return JobDiscarded(f"job {ref} was discarded: {outcome.reason or outcome.summary}")


def _cancelled(ref: JobRef, outcome: Outcome) -> ResultError:
    return JobCancelled(f"job {ref} was cancelled")


# The order in which commands show them.
ENDS: Final[Mapping[State, End]] = {
    State.SUCCEEDED: End("s", events.JobSucceeded, None, logging.DEBUG),
    State.DEAD: End("d", events.JobDead, _dead, logging.ERROR, "red"),
    State.DISCARDED: End("x", events.JobDiscarded, _discarded, logging.INFO),
    # A job that is cancelled instead of being retried has no outcome of its own.
    State.CANCELLED: End("c", events.JobCancelled, _cancelled, logging.INFO, has_details=False),
}

# Stores write codes, because a state's name would cost bytes for each finished job.
STATE_OF_CODE: Final[Mapping[bytes, State]] = {
    end.code.encode(): state for state, end in ENDS.items()
}

FINAL_EVENTS: Final[Mapping[type[events.AttemptEnded], State]] = {
    **{end.event: state for state, end in ENDS.items()},
    events.JobExpired: State.DISCARDED,
}
"""The events that end a job for good, with its state."""

OUTCOMES: Final[Mapping[type[events.AttemptEnded], str]] = {
    **{event: state.value for event, state in FINAL_EVENTS.items()},
    events.JobRetryScheduled: "retry",
    events.JobSnoozed: "snoozed",
    limit_events.JobRateLimited: "rate_limited",
    step_events.JobSuspended: "suspended",
    step_events.JobResumed: "resumed",
    events.JobReleased: "released",
    events.JobLost: "lease_lost",
}
"""The word for each end of an attempt in metrics and spans."""
