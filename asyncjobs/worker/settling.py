"""From the end of an attempt to its settlement. Synchronous: no store is asked here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from asyncjobs import events
from asyncjobs.clock import now_ms as wall_ms
from asyncjobs.codec import check_json
from asyncjobs.config import AppSettings
from asyncjobs.errors import EncodeError, UsageError
from asyncjobs.events import Events
from asyncjobs.guarded import GuardedLog, call
from asyncjobs.job import Settlement, State, TakenJob
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.headers import MAX_MESSAGE, Headers, PastError, PutBack
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.policy.outcome import Ending, Verdict, judge
from asyncjobs.policy.retry import (
    Charge,
    Retries,
    RetryPolicy,
    class_name,
    is_cancellation,
    is_on_purpose,
)
from asyncjobs.worker.describing import describe, log_failure
from asyncjobs.worker.failures import FailureLog, counted
from asyncjobs.worker.put_back_log import PutBackLog
from asyncjobs.worker.run import Attempt, Reason, TooLate, call_of, label_of
from asyncjobs.worker.unfinished import close_unfinished, unfinished

__all__ = ["Settler"]

logger = GuardedLog("asyncjobs.worker")

LAST_RESORT_S: Final = 10.0
UNRECORDED: Final = "logging an end that could not be recorded"
EXPIRED: Final = "expired"
"""The reason of a job that had not started by its `expires`."""
UNKNOWN_FIRST_S: Final = 1.0
UNKNOWN_MOST_S: Final = 60.0


class Settler:
    """Turns values and errors into settlements, and tells listeners and the log.

    The settlement is made first, and then the end is told: an end that could not be made into
    a settlement is another one. `value` and `error` raise nothing, whatever the user's
    exceptions, values and classes do: without a settlement the job would stay `running`.
    """

    def __init__(
        self, settings: AppSettings, hub: Events, clock_s: Callable[[], float], worker: str
    ) -> None:
        """`worker` is the name that stays with the errors of jobs."""
        self._settings = settings
        self._events = hub
        self._clock_s = clock_s
        self._worker = worker
        self.put_back_log = PutBackLog(clock_s)
        self.is_swept: Callable[[Attempt], bool] = lambda attempt: False
        """Whether this attempt was cancelled by another job."""
        self._failures = FailureLog()
        self.released = 0
        self.put_back = 0

    def value(self, attempt: Attempt, value: Any) -> Settlement | None:
        """The attempt returned."""
        # rule:16 a job that returns a coroutine has not succeeded
        if value is not None and (work := unfinished(value)) is not None:
            return self._not_done(attempt, value, work)
        if attempt.result_ttl_ms <= 0 and attempt.reason is None and not self._events.active:
            return Settlement.succeeded(attempt.job)
        try:
            return self._value(attempt, value)
        except BaseException as fault:
            if attempt.reason not in (None, Reason.SHUTDOWN):
                return self._last_resort(attempt, fault)
            # The job has done its work: it must not run again.
            call(UNRECORDED, self._log_fault, attempt, "its result could not be kept", fault)
            problem = f"it could not be kept: {class_name(type(fault))}"
            outcome = Outcome(State.SUCCEEDED, unavailable=problem).encode()
            return Settlement.succeeded(attempt.job, outcome, attempt.result_ttl_ms)

    def _not_done(self, attempt: Attempt, value: Any, work: str) -> Settlement | None:
        """Whoever forgets an `await` must hear of it: the job has done nothing."""
        close_unfinished(value)
        advice = (
            "await it in the function"
            if attempt.function.is_async
            else ("make it an async def function that awaits it")
        )
        if "generator" in work:
            advice = "return one value, such as a list of its items"
        return self.error(attempt, UsageError(f"{attempt.function.name} returned {work}; {advice}"))

    def error(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        """The attempt raised, or was stopped; None when its end is not ours to say."""
        try:
            # By its type: an error of the user's own may raise when it is asked for its class.
            # rule:17 jobs that another one has cancelled are given back
            if issubclass(type(error), asyncio.CancelledError) and self.is_swept(attempt):
                return self._stopped_by_another(attempt)
            return self._error(attempt, error)
        except BaseException as fault:
            return self._last_resort(attempt, fault)

    def _last_resort(self, attempt: Attempt, fault: BaseException) -> Settlement | None:
        """An end that cannot be put into words must still free the slot and the job."""
        # A log line is words as well: what made the first ones fail may make it fail.
        call(UNRECORDED, self._log_fault, attempt, "its end could not be recorded", fault)
        if attempt.reason is Reason.LEASE_LOST:
            return None
        if attempt.reason is Reason.SHUTDOWN:
            self.released += 1
            return Settlement.release(attempt.job)
        if attempt.reason is Reason.CANCEL:
            return Settlement.cancelled(attempt.job)
        try:
            return self._end_without_words(attempt, fault)
        # rule:15 an end that cannot be written again is one all the same
        except BaseException as another:
            # What is stored of it cannot even be written again.
            return self.unreadable(attempt.job, another)

    @staticmethod
    def _log_fault(attempt: Attempt, text: str, fault: BaseException) -> None:
        told = describe(fault, attempt.mask)
        log_failure(logger, attempt, f"%s: {text}", attempt.job.ref, error=told)

    def _end_without_words(self, attempt: Attempt, fault: BaseException) -> Settlement:
        ended = self._ended(attempt)
        if attempt.envelope.attempt < attempt.settings.retry.max_attempts:
            settlement = self._later(attempt, LAST_RESORT_S, attempt.envelope.attempt + 1)
            self._tell(attempt, events.JobRetryScheduled, *ended, LAST_RESORT_S, fault)
            return settlement
        message = "its end could not be recorded; the worker's log tells why"
        outcome = Outcome(State.DEAD, reason="exhausted", message=message)
        settlement = _bury(
            attempt.job, outcome, attempt.result_ttl_ms, self._last_envelope(attempt)
        )
        self._tell(attempt, events.JobDead, *ended, "exhausted", fault)
        return settlement

    def _tell(
        self, attempt: Attempt, kind: Callable[..., events.AttemptEnded], *about: Any
    ) -> None:
        """`about`: the attempt, its duration, and what else this kind of end has."""
        if self._events.active:
            self._events.emit(kind(attempt.job.ref, attempt.function.name, *about))

    def _value(self, attempt: Attempt, value: Any) -> Settlement | None:
        if attempt.reason is not None and attempt.reason is not Reason.SHUTDOWN:
            # Told to stop, it returned all the same: what was asked for stands.
            return self._error(attempt, asyncio.CancelledError())
        # On the way of every job: nothing is measured that nobody hears of.
        hub = self._events
        is_heard = hub.active and hub.wants(events.JobSucceeded)
        ended = self._ended(attempt) if is_heard else None
        outcome = self._encode(attempt, value) if attempt.result_ttl_ms > 0 else None
        if hub.tracer is not None:
            hub.tracer.succeeded(attempt.job)
        if ended is not None:
            hub.emit(events.JobSucceeded(attempt.job.ref, attempt.function.name, *ended))
        return Settlement.succeeded(attempt.job, outcome, attempt.result_ttl_ms)

    def _encode(self, attempt: Attempt, value: Any) -> bytes:
        # The job has succeeded and must not run again because of what it returned.
        about: dict[str, Any] = {
            "name": attempt.function.name,
            "attempt": attempt.envelope.attempt,
            "finished_ms": wall_ms(),
        }
        what = f"the result of {attempt.function.name}"
        try:
            if value is not None:
                check_json(value, what)
            outcome = Outcome(State.SUCCEEDED, value, **about).encode()
            limit = self._settings.max_result
            if len(outcome) <= limit:
                return outcome
            problem = f"{what} takes {len(outcome)} B, more than max_result={limit} B"
        except EncodeError as error:
            problem = describe(error, attempt.mask).message
        # rule:16 a success stays one when its result cannot be read
        except BaseException as error:
            # An unbound proxy, or an object of a closed session, raises when it is looked at.
            told = describe(error, attempt.mask)
            problem = (
                f"{what} cannot be read: {told.kind}: {told.message}; "
                "return plain data (numbers, text, lists, dicts)"
            )
        logger.warning(
            "%s: the result is not kept: %s", attempt.job.ref, problem, extra=attempt.label
        )
        return Outcome(State.SUCCEEDED, unavailable=problem, **about).encode()

    def _error(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        if attempt.reason is Reason.LEASE_LOST:
            self._log_clean_up(attempt, error, "its lease was lost")
            self._tell(attempt, events.JobLost, *self._ended(attempt))
            return None
        if attempt.reason is Reason.CANCEL:
            self._log_clean_up(attempt, error, "cancelled while running")
            return self._cancelled(attempt)
        # rule:16 what a stopped attempt raises spends nothing
        if attempt.reason is Reason.SHUTDOWN:
            # Whatever it raises: it was the worker that has not let it finish.
            self._log_clean_up(attempt, error, "given back, since the worker stops")
            return self._released(attempt)
        if attempt.reason is Reason.TIMEOUT:
            late = TimeoutError(
                f"the attempt took longer than its {attempt.settings.timeout_s:g} s"
            )
            late.__cause__ = error
            error = late
        if type(error) is TooLate:
            return self.expired(attempt)
        verdict = self._judge(attempt, error)
        if verdict.ending is Ending.RETRY:
            return self._retry(attempt, error, verdict)
        if verdict.ending is Ending.SNOOZE:
            return self._snooze(attempt, verdict.delay_s)
        if verdict.ending is Ending.DISCARD:
            return self._discarded(attempt, verdict.reason)
        return self._dead(attempt, error, verdict.reason)

    def _log_clean_up(self, attempt: Attempt, error: BaseException, why: str) -> None:
        """What an attempt raises after it was told to stop changes nothing, and is logged."""
        if is_cancellation(error) or is_on_purpose(error):
            return
        told = describe(error, attempt.mask)
        text = "%s: %s; its clean-up failed: %s: %s"
        self._failures.write(
            attempt,
            error,
            told,
            text,
            attempt.job.ref,
            why,
            told.kind,
            told.message,
            **self._lasted(attempt),
        )

    def _judge(self, attempt: Attempt, error: BaseException) -> Verdict:
        settings, number = attempt.settings, attempt.envelope.attempt
        spent = attempt.envelope.headers.spent()
        discard_on = settings.discard_on
        # A backoff of the user's own that raises must cost neither job nor slot; nor must
        # an exception class that raises when it is asked whether an error is its own.
        for retry in (settings.retry, settings.retry.plain()):
            try:
                return judge(error, attempt=number, retry=retry, discard_on=discard_on, spent=spent)
            except BaseException as fault:
                text = "%s: its retry policy failed"
                log_failure(
                    logger, attempt, text, attempt.job.ref, error=describe(fault, attempt.mask)
                )
        # Any error will do: this one cannot even be asked for its class, or for its members.
        last = Retries(default=RetryPolicy(max_attempts=settings.retry.max_attempts))
        return judge(Exception(), attempt=number, retry=last, discard_on=(), spent={})

    @staticmethod
    def _outcome(attempt: Attempt, state: State, **texts: str) -> Outcome:
        return Outcome(
            state,
            name=attempt.function.name,
            attempt=attempt.envelope.attempt,
            finished_ms=wall_ms(),
            **texts,
        )

    def _ended(self, attempt: Attempt) -> tuple[int, float]:
        # 0 for a sync function that has waited for a thread, and did not start.
        return (
            attempt.envelope.attempt,
            self._clock_s() - attempt.started_s if attempt.has_begun else 0.0,
        )

    def _lasted(self, attempt: Attempt) -> dict[str, Any]:
        return {"duration_ms": round(self._ended(attempt)[1] * 1000)}

    def _label(self, attempt: Attempt) -> dict[str, Any]:
        return attempt.label | self._lasted(attempt)

    def _cancelled(self, attempt: Attempt) -> Settlement:
        ended = self._ended(attempt)
        outcome = self._outcome(attempt, State.CANCELLED).encode()
        settlement = Settlement.cancelled(attempt.job, outcome, attempt.result_ttl_ms)
        logger.info("%s: cancelled while running", attempt.job.ref, extra=self._label(attempt))
        self._tell(attempt, events.JobCancelled, *ended)
        return settlement

    def _released(self, attempt: Attempt) -> Settlement:
        self.released += 1
        self._tell(attempt, events.JobReleased, *self._ended(attempt))
        return Settlement.release(attempt.job)

    def _stopped_by_another(self, attempt: Attempt) -> Settlement:
        """Another job has cancelled it: it runs again, and no attempt is spent."""
        self._tell(attempt, events.JobReleased, *self._ended(attempt))
        return Settlement.release(attempt.job)

    def _retry(self, attempt: Attempt, error: BaseException, verdict: Verdict) -> Settlement:
        delay_s, charge, ended = verdict.delay_s, verdict.charge, self._ended(attempt)
        told = describe(error, attempt.mask)
        number = attempt.envelope.attempt
        past = PastError(number, told.kind, told.message, told.trace, wall_ms(), self._worker)
        settlement = self._later(attempt, delay_s, number + 1, past, charge)
        text = "%s: %s, again in %.1f s: %s: %s"
        about = (attempt.job.ref, counted(attempt, charge), delay_s, told.kind, told.message)
        if is_on_purpose(error):
            logger.warning(text, *about, extra=self._label(attempt))
        else:
            self._failures.write(attempt, error, told, text, *about, **self._lasted(attempt))
        self._tell(attempt, events.JobRetryScheduled, *ended, delay_s, error)
        return settlement

    def _snooze(self, attempt: Attempt, delay_s: float) -> Settlement:
        settlement = self._later(attempt, delay_s, attempt.envelope.attempt)
        self._tell(attempt, events.JobSnoozed, *self._ended(attempt), delay_s)
        return settlement

    def _later(
        self,
        attempt: Attempt,
        delay_s: float,
        number: int,
        error: PastError | None = None,
        charge: Charge | None = None,
    ) -> Settlement:
        headers = attempt.envelope.headers
        if error is not None:
            headers = headers.with_error(error)
        if charge is not None and charge.policy.on is not None:
            headers = headers.with_spent(charge.policy.key, charge.failures)
        headers = self._traced(attempt, headers).with_crashes(attempt.all_crashes)
        envelope = attempt.envelope.again(attempt.job.envelope, number, headers)
        return Settlement.reschedule(attempt.job, envelope, round(delay_s * 1000))

    def _traced(self, attempt: Attempt, headers: Headers) -> Headers:
        """These headers with the trace of the attempt that has just ended, for a later one to
        link to."""
        tracer = self._events.tracer
        if tracer is None:
            return headers
        carried = headers.trace
        trace = tracer.carry(attempt.job.ref, carried)
        return headers if trace is carried else headers.with_trace(trace)

    def _discarded(self, attempt: Attempt, reason: str) -> Settlement:
        if attempt.mask is not None:
            reason = attempt.mask.text(reason)
        ended = self._ended(attempt)
        outcome = self._outcome(attempt, State.DISCARDED, reason=reason).encode()
        settlement = Settlement.discarded(attempt.job, outcome, attempt.result_ttl_ms)
        logger.info("%s: discarded: %s", attempt.job.ref, reason, extra=self._label(attempt))
        self._tell(attempt, events.JobDiscarded, *ended, reason)
        return settlement

    def _dead(self, attempt: Attempt, error: BaseException, reason: str) -> Settlement:
        ended = self._ended(attempt)
        told = describe(error, attempt.mask)
        outcome = self._outcome(
            attempt,
            State.DEAD,
            reason=reason,
            error_type=told.kind,
            message=told.message,
            traceback=told.trace,
            worker=self._worker,
        )
        settlement = _bury(
            attempt.job, outcome, attempt.result_ttl_ms, self._last_envelope(attempt)
        )
        text = "%s: dead at attempt %d (%s)"
        about = (attempt.job.ref, ended[0], reason)
        log_failure(logger, attempt, text, *about, error=told, **self._lasted(attempt))
        self._tell(attempt, events.JobDead, *ended, reason, error)
        return settlement

    def _last_envelope(self, attempt: Attempt) -> bytes:
        """As it was taken; with its attempt's trace, for one after a revival to link to."""
        stored, envelope = attempt.job.envelope, attempt.envelope
        headers = self._traced(attempt, envelope.headers)
        if headers is envelope.headers:
            return stored
        return envelope.again(stored, envelope.attempt, headers)

    # -- jobs that never came to an attempt ---------------------------------------------

    def crashed(self, attempt: Attempt) -> Settlement:
        """Its workers died too often while they ran it."""
        job = attempt.job
        message = f"its worker died while it ran, {attempt.crashes} times"
        outcome = self._outcome(attempt, State.DEAD, reason="crashed", message=message)
        settlement = _bury(job, outcome, attempt.result_ttl_ms)
        logger.error("%s: dead: %s", job.ref, message, extra=attempt.label)
        self._tell(attempt, events.JobDead, attempt.envelope.attempt, 0.0, "crashed", None)
        return settlement

    def expired(self, attempt: Attempt) -> Settlement:
        """It has not started in time. The error of its last attempt, if any, is kept."""
        job, number = attempt.job, attempt.envelope.attempt
        logger.info(
            "%s: discarded: expired before attempt %d", job.ref, number, extra=attempt.label
        )
        self._tell(attempt, events.JobExpired, number, 0.0, EXPIRED)
        about: dict[str, str] = {}
        for last in attempt.envelope.headers.errors()[-1:]:
            about = {"error_type": last.type, "message": last.message, "traceback": last.traceback}
        outcome = self._outcome(attempt, State.DISCARDED, reason=EXPIRED, **about).encode()
        return Settlement.discarded(job, outcome, attempt.result_ttl_ms)

    def cancelled_unstarted(self, job: TakenJob) -> Settlement:
        """Cancelled after it was taken and before it was started."""
        name, attempt = call_of(job)
        logger.info("%s: cancelled", job.ref, extra=label_of(job, name, attempt))
        if self._events.active:
            self._events.emit(events.JobCancelled(job.ref, name, attempt, 0.0))
        outcome = Outcome(State.CANCELLED).encode()
        return Settlement.cancelled(job, outcome, self._settings.result_ttl_ms)

    def unreadable(self, job: TakenJob, error: BaseException) -> Settlement:
        """A stored record that cannot be read or written again: kept as it is, not run."""
        problem = describe(error).message[:MAX_MESSAGE]
        message = f"the stored bytes are no valid envelope: {problem}"
        outcome = Outcome(State.DEAD, reason="unreadable", message=message)
        settlement = _bury(job, outcome, self._settings.result_ttl_ms)
        logger.error("%s: dead: no valid envelope: %s", job.ref, problem, extra=label_of(job))
        if self._events.active:
            self._events.emit(events.JobDead(job.ref, "", 1, 0.0, "unreadable", error))
        return settlement

    def unknown(self, job: TakenJob, name: str, problem: str, now_ms: int) -> Settlement:
        """A function or envelope that this worker does not have: later, perhaps elsewhere.

        During a rolling deploy another worker may know it. The delay grows, no attempt
        is spent; after `unknown_ttl` the job is dead. Raises BadEnvelope.
        """
        envelope = AnyEnvelope.decode(job.envelope)
        since_ms, times = envelope.headers.put_back(now_ms)
        # rule:13 after unknown_ttl an unknown job is dead
        if now_ms - since_ms > self._settings.unknown_ttl_ms:
            logger.error("%s: dead: %s", job.ref, problem, extra=label_of(job, name))
            if self._events.active:
                self._events.emit(events.JobDead(job.ref, name, 1, 0.0, "unknown", None))
            outcome = Outcome(State.DEAD, reason="unknown", message=problem)
            return _bury(job, outcome, self._settings.result_ttl_ms)
        # rule:13 the delay of an unknown job grows
        # rule:13 the delay of an unknown job is capped
        most_s = min(UNKNOWN_FIRST_S * 2 ** min(times, 10), UNKNOWN_MOST_S)
        delay_s = random.uniform(most_s / 2, most_s)
        # rule:13 the envelope keeps when its job was first unknown
        headers = envelope.headers.with_put_back(PutBack(since_ms, times + 1), job.crashes)
        again = envelope.with_headers(headers)
        settlement = Settlement.reschedule(job, again, round(delay_s * 1000))
        self.put_back += 1
        self.put_back_log.write(job, name, problem)
        if self._events.active:
            self._events.emit(events.JobPutBack(job.ref, name, delay_s))
        return settlement


def _bury(
    job: TakenJob, outcome: Outcome, result_ttl_ms: int, envelope: bytes | None = None
) -> Settlement:
    record = outcome.encode()
    letter = dead_letter(record, job.envelope if envelope is None else envelope)
    return Settlement.dead(job, letter, record, result_ttl_ms)
