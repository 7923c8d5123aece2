"""From the end of an attempt to its settlement. Synchronous: no store is asked here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from asyncjobs import events
from asyncjobs.clock import now_ms as wall_ms
from asyncjobs.codec import (
    Envelope,
    Outcome,
    check_json,
    dead_letter,
    read_fields,
    to_json,
)
from asyncjobs.config import AppSettings
from asyncjobs.errors import EncodeError, UsageError
from asyncjobs.events import Events
from asyncjobs.guarded import GuardedLog, call
from asyncjobs.history import (
    MAX_MESSAGE,
    PastError,
    past_errors,
    remember,
    spent_by_policy,
    unknown_so_far,
)
from asyncjobs.job import Settlement, State, TakenJob
from asyncjobs.policy.outcome import Ending, Verdict, judge
from asyncjobs.policy.retry import (
    Charge,
    Retries,
    RetryPolicy,
    class_name,
    is_cancellation,
    is_on_purpose,
)
from asyncjobs.untrusted import MOST_COUNT, in_range
from asyncjobs.worker.describing import describe, log_failure
from asyncjobs.worker.failures import FailureLog
from asyncjobs.worker.put_back_log import PutBackLog
from asyncjobs.worker.run import Reason, Run, TooLate, call_of, label_of
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
        self.is_swept: Callable[[Run], bool] = lambda run: False
        """Whether this attempt was cancelled by another job."""
        self._failures = FailureLog()
        self.released = 0
        self.put_back = 0

    def value(self, run: Run, value: Any) -> Settlement | None:
        """The attempt returned."""
        if value is not None and (work := unfinished(value)) is not None:
            return self._not_done(run, value, work)
        if run.result_ttl_ms <= 0 and run.reason is None and not self._events.active:
            return Settlement.succeeded(run.job)
        try:
            return self._value(run, value)
        except BaseException as fault:
            if run.reason not in (None, Reason.SHUTDOWN):
                return self._last_resort(run, fault)
            # The job has done its work: it must not run again.
            call(UNRECORDED, self._log_fault, run, "its result could not be kept", fault)
            problem = f"it could not be kept: {class_name(type(fault))}"
            outcome = Outcome(State.SUCCEEDED, unavailable=problem).encode()
            return Settlement.succeeded(run.job, outcome, run.result_ttl_ms)

    def _not_done(self, run: Run, value: Any, work: str) -> Settlement | None:
        """Whoever forgets an `await` must hear of it: the job has done nothing."""
        close_unfinished(value)
        advice = (
            "await it in the function"
            if run.function.is_async
            else ("make it an async def function that awaits it")
        )
        if "generator" in work:
            advice = "return one value, such as a list of its items"
        return self.error(run, UsageError(f"{run.function.name} returned {work}; {advice}"))

    def error(self, run: Run, error: BaseException) -> Settlement | None:
        """The attempt raised, or was stopped; None when its end is not ours to say."""
        try:
            # By its type: an error of the user's own may raise when it is asked for its class.
            if issubclass(type(error), asyncio.CancelledError) and self.is_swept(run):
                return self._stopped_by_another(run)
            return self._error(run, error)
        except BaseException as fault:
            return self._last_resort(run, fault)

    def _last_resort(self, run: Run, fault: BaseException) -> Settlement | None:
        """An end that cannot be put into words must still free the slot and the job."""
        # A log line is words as well: what made the first ones fail may make it fail.
        call(UNRECORDED, self._log_fault, run, "its end could not be recorded", fault)
        if run.reason is Reason.LEASE_LOST:
            return None
        if run.reason is Reason.SHUTDOWN:
            self.released += 1
            return Settlement.release(run.job)
        if run.reason is Reason.CANCEL:
            return Settlement.cancelled(run.job)
        try:
            return self._end_without_words(run, fault)
        except BaseException as another:
            # What is stored of it cannot even be written again.
            return self.unreadable(run.job, another)

    @staticmethod
    def _log_fault(run: Run, text: str, fault: BaseException) -> None:
        told = describe(fault, run.mask)
        log_failure(logger, run, f"%s: {text}", run.job.ref, error=told)

    def _end_without_words(self, run: Run, fault: BaseException) -> Settlement:
        attempt = self._attempt(run)
        if run.envelope.attempt < run.settings.retry.max_attempts:
            settlement = self._later(run, LAST_RESORT_S, run.envelope.attempt + 1)
            self._tell(run, events.JobRetryScheduled, *attempt, LAST_RESORT_S, fault)
            return settlement
        message = "its end could not be recorded; the worker's log tells why"
        outcome = Outcome(State.DEAD, reason="exhausted", message=message)
        settlement = _bury(run.job, outcome, run.result_ttl_ms, self._last_envelope(run))
        self._tell(run, events.JobDead, *attempt, "exhausted", fault)
        return settlement

    def _tell(self, run: Run, kind: Callable[..., events.AttemptEnded], *about: Any) -> None:
        """`about`: the attempt, its duration, and what else this kind of end has."""
        if self._events.active:
            self._events.emit(kind(run.job.ref, run.function.name, *about))

    def _value(self, run: Run, value: Any) -> Settlement | None:
        if run.reason is not None and run.reason is not Reason.SHUTDOWN:
            # Told to stop, it returned all the same: what was asked for stands.
            return self._error(run, asyncio.CancelledError())
        # On the way of every job: nothing is measured that nobody hears of.
        hub = self._events
        is_heard = hub.active and hub.wants(events.JobSucceeded)
        attempt = self._attempt(run) if is_heard else None
        outcome = self._encode(run, value) if run.result_ttl_ms > 0 else None
        if hub.tracer is not None:
            hub.tracer.succeeded(run.job)
        if attempt is not None:
            hub.emit(events.JobSucceeded(run.job.ref, run.function.name, *attempt))
        return Settlement.succeeded(run.job, outcome, run.result_ttl_ms)

    def _encode(self, run: Run, value: Any) -> bytes:
        # The job has succeeded and must not run again because of what it returned.
        about: dict[str, Any] = {
            "name": run.function.name,
            "attempt": run.envelope.attempt,
            "finished_ms": wall_ms(),
        }
        what = f"the result of {run.function.name}"
        try:
            if value is not None:
                check_json(value, what)
            outcome = Outcome(State.SUCCEEDED, value, **about).encode()
            limit = self._settings.max_result
            if len(outcome) <= limit:
                return outcome
            problem = f"{what} takes {len(outcome)} B, more than max_result={limit} B"
        except EncodeError as error:
            problem = describe(error, run.mask).message
        except BaseException as error:
            # An unbound proxy, or an object of a closed session, raises when it is looked at.
            told = describe(error, run.mask)
            problem = (
                f"{what} cannot be read: {told.kind}: {told.message}; "
                "return plain data (numbers, text, lists, dicts)"
            )
        logger.warning("%s: the result is not kept: %s", run.job.ref, problem, extra=run.label)
        return Outcome(State.SUCCEEDED, unavailable=problem, **about).encode()

    def _error(self, run: Run, error: BaseException) -> Settlement | None:
        if run.reason is Reason.LEASE_LOST:
            self._log_clean_up(run, error, "its lease was lost")
            self._tell(run, events.JobLost, *self._attempt(run))
            return None
        if run.reason is Reason.CANCEL:
            self._log_clean_up(run, error, "cancelled while running")
            return self._cancelled(run)
        if run.reason is Reason.SHUTDOWN:
            # Whatever it raises: it was the worker that has not let it finish.
            self._log_clean_up(run, error, "given back, since the worker stops")
            return self._released(run)
        if run.reason is Reason.TIMEOUT:
            late = TimeoutError(f"the attempt took longer than its {run.settings.timeout_s:g} s")
            late.__cause__ = error
            error = late
        if type(error) is TooLate:
            return self.expired(run)
        verdict = self._judge(run, error)
        if verdict.ending is Ending.RETRY:
            return self._retry(run, error, verdict)
        if verdict.ending is Ending.SNOOZE:
            return self._snooze(run, verdict.delay_s)
        if verdict.ending is Ending.DISCARD:
            return self._discarded(run, verdict.reason)
        return self._dead(run, error, verdict.reason)

    def _log_clean_up(self, run: Run, error: BaseException, why: str) -> None:
        """What an attempt raises after it was told to stop changes nothing, and is logged."""
        if is_cancellation(error) or is_on_purpose(error):
            return
        told = describe(error, run.mask)
        text = "%s: %s; its clean-up failed: %s: %s"
        self._failures.write(
            run, error, told, text, run.job.ref, why, told.kind, told.message, **self._lasted(run)
        )

    def _judge(self, run: Run, error: BaseException) -> Verdict:
        settings, attempt = run.settings, run.envelope.attempt
        spent = spent_by_policy(run.envelope.headers)
        discard_on = settings.discard_on
        # A backoff of the user's own that raises must cost neither job nor slot; nor must
        # an exception class that raises when it is asked whether an error is its own.
        for retry in (settings.retry, settings.retry.plain()):
            try:
                return judge(
                    error, attempt=attempt, retry=retry, discard_on=discard_on, spent=spent
                )
            except BaseException as fault:
                text = "%s: its retry policy failed"
                log_failure(logger, run, text, run.job.ref, error=describe(fault, run.mask))
        # Any error will do: this one cannot even be asked for its class, or for its members.
        last = Retries(default=RetryPolicy(max_attempts=settings.retry.max_attempts))
        return judge(Exception(), attempt=attempt, retry=last, discard_on=(), spent={})

    @staticmethod
    def _outcome(run: Run, state: State, **texts: str) -> Outcome:
        return Outcome(
            state,
            name=run.function.name,
            attempt=run.envelope.attempt,
            finished_ms=wall_ms(),
            **texts,
        )

    def _attempt(self, run: Run) -> tuple[int, float]:
        # 0 for a sync function that has waited for a thread, and did not start.
        return run.envelope.attempt, self._clock_s() - run.started_s if run.has_begun else 0.0

    def _lasted(self, run: Run) -> dict[str, Any]:
        return {"duration_ms": round(self._attempt(run)[1] * 1000)}

    def _label(self, run: Run) -> dict[str, Any]:
        return run.label | self._lasted(run)

    def _cancelled(self, run: Run) -> Settlement:
        attempt = self._attempt(run)
        outcome = self._outcome(run, State.CANCELLED).encode()
        settlement = Settlement.cancelled(run.job, outcome, run.result_ttl_ms)
        logger.info("%s: cancelled while running", run.job.ref, extra=self._label(run))
        self._tell(run, events.JobCancelled, *attempt)
        return settlement

    def _released(self, run: Run) -> Settlement:
        self.released += 1
        self._tell(run, events.JobReleased, *self._attempt(run))
        return Settlement.release(run.job)

    def _stopped_by_another(self, run: Run) -> Settlement:
        """Another job has cancelled it: it runs again, and no attempt is spent."""
        self._tell(run, events.JobReleased, *self._attempt(run))
        return Settlement.release(run.job)

    def _retry(self, run: Run, error: BaseException, verdict: Verdict) -> Settlement:
        delay_s, charge, attempt = verdict.delay_s, verdict.charge, self._attempt(run)
        told = describe(error, run.mask)
        number = run.envelope.attempt
        past = PastError(number, told.kind, told.message, told.trace, wall_ms(), self._worker)
        settlement = self._later(run, delay_s, number + 1, past, charge)
        text = "%s: %s, again in %.1f s: %s: %s"
        about = (run.job.ref, _counted(run, charge), delay_s, told.kind, told.message)
        if is_on_purpose(error):
            logger.warning(text, *about, extra=self._label(run))
        else:
            self._failures.write(run, error, told, text, *about, **self._lasted(run))
        self._tell(run, events.JobRetryScheduled, *attempt, delay_s, error)
        return settlement

    def _snooze(self, run: Run, delay_s: float) -> Settlement:
        settlement = self._later(run, delay_s, run.envelope.attempt)
        self._tell(run, events.JobSnoozed, *self._attempt(run), delay_s)
        return settlement

    def _later(
        self,
        run: Run,
        delay_s: float,
        attempt: int,
        error: PastError | None = None,
        charge: Charge | None = None,
    ) -> Settlement:
        # Decoded anew: the job may have changed the arguments it was given.
        envelope = Envelope.decode(run.job.envelope)
        envelope.attempt = attempt
        if error is not None:
            envelope.headers = remember(envelope.headers, error)
        if charge is not None and charge.policy.on is not None:
            spent = {**spent_by_policy(envelope.headers), charge.policy.key: charge.failures}
            envelope.headers = {**(envelope.headers or {}), "spent": spent}
        if self._events.tracer is not None:
            envelope.headers = self._events.tracer.carry(run.job.ref, envelope.headers)
        if envelope.headers:
            envelope.headers.pop("crashes_kept", None)
        if run.all_crashes:
            # The store counts crashes for one place in the queue; a new place starts at none.
            envelope.headers = {**(envelope.headers or {}), "crashes": run.all_crashes}
        return Settlement.reschedule(run.job, envelope.encode(), round(delay_s * 1000))

    def _discarded(self, run: Run, reason: str) -> Settlement:
        if run.mask is not None:
            reason = run.mask.text(reason)
        attempt = self._attempt(run)
        outcome = self._outcome(run, State.DISCARDED, reason=reason).encode()
        settlement = Settlement.discarded(run.job, outcome, run.result_ttl_ms)
        logger.info("%s: discarded: %s", run.job.ref, reason, extra=self._label(run))
        self._tell(run, events.JobDiscarded, *attempt, reason)
        return settlement

    def _dead(self, run: Run, error: BaseException, reason: str) -> Settlement:
        attempt = self._attempt(run)
        told = describe(error, run.mask)
        outcome = self._outcome(
            run,
            State.DEAD,
            reason=reason,
            error_type=told.kind,
            message=told.message,
            traceback=told.trace,
            worker=self._worker,
        )
        settlement = _bury(run.job, outcome, run.result_ttl_ms, self._last_envelope(run))
        text = "%s: dead at attempt %d (%s)"
        about = (run.job.ref, attempt[0], reason)
        log_failure(logger, run, text, *about, error=told, **self._lasted(run))
        self._tell(run, events.JobDead, *attempt, reason, error)
        return settlement

    def _last_envelope(self, run: Run) -> bytes:
        """As it was taken; with its attempt's trace, for one after a revival to link to."""
        tracer, stored = self._events.tracer, run.job.envelope
        if tracer is None:
            return stored
        envelope = Envelope.decode(stored)
        headers = tracer.carry(run.job.ref, envelope.headers)
        if headers is envelope.headers:
            return stored
        envelope.headers = headers
        return envelope.encode()

    # -- jobs that never came to an attempt ---------------------------------------------

    def crashed(self, run: Run) -> Settlement:
        """Its workers died too often while they ran it."""
        job = run.job
        message = f"its worker died while it ran, {run.crashes} times"
        outcome = self._outcome(run, State.DEAD, reason="crashed", message=message)
        settlement = _bury(job, outcome, run.result_ttl_ms)
        logger.error("%s: dead: %s", job.ref, message, extra=run.label)
        self._tell(run, events.JobDead, run.envelope.attempt, 0.0, "crashed", None)
        return settlement

    def expired(self, run: Run) -> Settlement:
        """It has not started in time. The error of its last attempt, if any, is kept."""
        job, attempt = run.job, run.envelope.attempt
        logger.info("%s: discarded: expired before attempt %d", job.ref, attempt, extra=run.label)
        self._tell(run, events.JobExpired, attempt, 0.0, EXPIRED)
        about: dict[str, str] = {}
        for last in past_errors(run.envelope.headers)[-1:]:
            about = {"error_type": last.type, "message": last.message, "traceback": last.traceback}
        outcome = self._outcome(run, State.DISCARDED, reason=EXPIRED, **about).encode()
        return Settlement.discarded(job, outcome, run.result_ttl_ms)

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
        fields = read_fields(job.envelope)
        headers = fields.get("h")
        if not isinstance(headers, dict):
            headers = {}
        since_ms, times = unknown_so_far(headers, now_ms)
        if now_ms - since_ms > self._settings.unknown_ttl_ms:
            logger.error("%s: dead: %s", job.ref, problem, extra=label_of(job, name))
            if self._events.active:
                self._events.emit(events.JobDead(job.ref, name, 1, 0.0, "unknown", None))
            outcome = Outcome(State.DEAD, reason="unknown", message=problem)
            return _bury(job, outcome, self._settings.result_ttl_ms)
        most_s = min(UNKNOWN_FIRST_S * 2 ** min(times, 10), UNKNOWN_MOST_S)
        delay_s = random.uniform(most_s / 2, most_s)
        if job.crashes:
            # The store counts for one place in the queue. Forgotten here, a job that kills
            # each worker that knows it would do so for ever beside workers that do not.
            headers["crashes_kept"] = (
                in_range(headers.get("crashes_kept"), MOST_COUNT) + job.crashes
            )
        headers["first_unknown_at"] = since_ms
        headers["unknown_times"] = times + 1
        fields["h"] = headers
        settlement = Settlement.reschedule(job, to_json(fields), round(delay_s * 1000))
        self.put_back += 1
        self.put_back_log.write(job, name, problem)
        if self._events.active:
            self._events.emit(events.JobPutBack(job.ref, name, delay_s))
        return settlement


def _counted(run: Run, charge: Charge | None) -> str:
    """Which attempt has failed, and how much of what budget that makes."""
    attempt = run.envelope.attempt
    if charge is None:
        return f"attempt {attempt} failed"
    if charge.used == attempt:
        return f"attempt {attempt} of {charge.budget} failed"
    policy = f"the policy on {charge.policy.key}" if charge.policy.key else "the default policy"
    return f"attempt {attempt} failed, failure {charge.used} of {charge.budget} of {policy}"


def _bury(
    job: TakenJob, outcome: Outcome, result_ttl_ms: int, envelope: bytes | None = None
) -> Settlement:
    letter = dead_letter(outcome, job.envelope if envelope is None else envelope)
    return Settlement.dead(job, letter, outcome.encode(), result_ttl_ms)
