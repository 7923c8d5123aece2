"""The stored records of an attempt's end: outcome, dead letter, next envelope."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from asyncjobs.errors import EncodeError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import check_json
from asyncjobs.model.ends import ENDS
from asyncjobs.model.flow_mark import MARK
from asyncjobs.model.headers import Headers, PastError, has_header
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.redaction import Redaction
from asyncjobs.policy.retry import Charge
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.error_text import describe

__all__ = [
    "Unkept",
    "bury",
    "last_envelope",
    "later",
    "log_end",
    "outcome_of",
    "result_of",
    "span_of",
]

logger = GuardedLog("asyncjobs.worker")

PREVIOUS: Final = "previous"
"""Where a carrier has the span of an attempt: see telemetry/carrier.py."""


class Unkept(NamedTuple):
    """Stands for a value that could not be kept where it was made. `problem` says why."""

    problem: str


def outcome_of(attempt: Attempt, state: State, **about: Any) -> Outcome:
    """How the job of this attempt has ended. `about`: more fields of the outcome."""
    return Outcome(
        state,
        name=attempt.function.name,
        attempt=attempt.envelope.attempt,
        finished_ms=now_ms(),
        **about,
    )


def span_of(attempt: Attempt, middlewares: Middlewares) -> str:
    """The span of this attempt, for the jobs behind it in its flow; '' for a job of no flow."""
    if not middlewares.carries or not has_header(attempt.envelope.headers, MARK):
        return ""
    carried = middlewares.carry(attempt.info, None)
    span = carried.get(PREVIOUS) if isinstance(carried, dict) else None
    return span if isinstance(span, str) else ""


def result_of(attempt: Attempt, value: Any, max_bytes: int, span: str = "") -> bytes:
    """The outcome of a job that has returned `value`, as stored. `span`: see `span_of`.

    If the value cannot be kept, the outcome says why there is none. The job has succeeded and must
    not run again because of what it has returned.
    """
    what = f"the result of {attempt.function.name}"
    try:
        if type(value) is Unkept:
            raise EncodeError(value.problem)
        if value is not None:
            try:
                check_json(value, what)
            except EncodeError as refused:
                # Only then, so that plain results pay nothing for typed ones.
                value = _typed(attempt, value, what, refused)
        # Not by `outcome_of`: each job whose result is kept passes here, and a call costs time.
        outcome = Outcome(
            State.SUCCEEDED,
            value,
            name=attempt.function.name,
            attempt=attempt.envelope.attempt,
            finished_ms=now_ms(),
            span=span,
        ).encode()
        if len(outcome) <= max_bytes:
            return outcome
        problem = f"{what} takes {len(outcome)} B, more than max_result={max_bytes} B"
    except EncodeError as error:
        problem = describe(error, attempt.mask).message
    # rule:16 a success stays one when its result cannot be read
    except BaseException as error:
        # A proxy without a target, or an object of a closed session, raises when it is read.
        told = describe(error, attempt.mask)
        problem = (
            f"{what} cannot be read: {told.kind}: {told.message}; "
            "return plain data (numbers, text, lists, dicts)"
        )
    logger.warning("%s: the result is not kept: %s", attempt.job.ref, problem, extra=attempt.label)
    return outcome_of(attempt, State.SUCCEEDED, unavailable=problem, span=span).encode()


def _typed(attempt: Attempt, value: Any, what: str, refused: EncodeError) -> Any:
    """A result as JSON, by the annotation of its function. Raises EncodeError."""
    codec = attempt.function.returns.codec
    if codec is None:
        raise refused
    try:
        stored = codec.dump(value)
    except Misfit as misfit:
        raise EncodeError(f"{what}{misfit.told(Redaction())}") from None
    check_json(stored, what)
    return stored


def bury(
    job: TakenJob, outcome: Outcome, result_ttl_ms: int, envelope: bytes | None = None
) -> Settlement:
    """The job is dead and kept as a dead letter. `envelope`: what is kept in it; None: the job's
    own."""
    record = outcome.encode()
    if envelope is None:
        envelope = job.envelope
    letter = dead_letter(record, envelope)
    return Settlement.dead(job, letter, record, result_ttl_ms)


def later(
    attempt: Attempt,
    middlewares: Middlewares,
    delay_s: float,
    number: int,
    error: PastError | None = None,
    charge: Charge | None = None,
    resumptions: int = 0,
) -> Settlement:
    """Run the job again as attempt `number`. Its headers keep this attempt's error and charge, and
    how often the job was resumed, if this is a resumption."""
    headers = attempt.envelope.headers
    if error is not None:
        headers = headers.with_error(error)
    if charge is not None and charge.policy.on is not None:
        headers = headers.with_spent(charge.policy.key, charge.failures)
    if resumptions:
        headers = headers.with_resumptions(resumptions)
    headers = _traced(attempt, middlewares, headers).with_crashes(attempt.all_crashes)
    envelope = attempt.envelope.again(attempt.job.envelope, number, headers)
    return Settlement.reschedule(attempt.job, envelope, round(delay_s * 1000))


def last_envelope(attempt: Attempt, middlewares: Middlewares) -> bytes:
    """The envelope of a job that ends with this attempt. It has the attempt's trace, so that an
    attempt after a revival can link to it."""
    stored = attempt.job.envelope
    envelope = attempt.envelope
    headers = _traced(attempt, middlewares, envelope.headers)
    if headers is envelope.headers:
        return stored
    return envelope.again(stored, envelope.attempt, headers)


def _traced(attempt: Attempt, middlewares: Middlewares, headers: Headers) -> Headers:
    if not middlewares.carries:
        return headers
    carried = headers.trace
    trace = middlewares.carry(attempt.info, carried)
    if trace is carried:
        return headers
    return headers.with_trace(trace)


def log_end(state: State, text: str, *args: Any, extra: dict[str, Any]) -> None:
    """Log that a job has ended, at the level that the table of ends says."""
    logger.log(ENDS[state].level, text, *args, extra=extra)
