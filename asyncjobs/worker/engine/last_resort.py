"""The end of an attempt whose error cannot be described. The job and its slot must be free all the
same."""

from __future__ import annotations

from typing import Final

from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.records import bury, last_envelope, later
from asyncjobs.worker.engine.runs import Teller

__all__ = ["LAST_RESORT_S", "end_without_words"]

LAST_RESORT_S: Final = 10.0
"""When the job runs again, if it has an attempt left."""
NO_MIDDLEWARES: Final = Middlewares()


def end_without_words(attempt: Attempt, fault: BaseException, teller: Teller) -> Settlement:
    """A retry, or a dead job. `fault`: what was raised instead of a description."""
    # Written from the stored bytes and without middleware: what user code could reach may be
    # what has failed.
    # rule:16 the last resort of an end trusts nothing that user code could change
    attempt.envelope = Envelope.decode(attempt.job.envelope)
    run = teller.run(attempt, class_name(type(fault)))
    number = attempt.envelope.attempt
    if number < attempt.settings.retry.max_attempts:
        return later(attempt, NO_MIDDLEWARES, LAST_RESORT_S, number + 1).telling(run)
    message = "its end could not be recorded; the worker's log tells why"
    outcome = Outcome(State.DEAD, reason="exhausted", message=message)
    envelope = last_envelope(attempt, NO_MIDDLEWARES)
    return bury(attempt.job, outcome, attempt.result_ttl_ms, envelope).telling(run)
