"""From the end of an attempt to its settlement. Synchronous: never talks to the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.guard.guarded import GuardedLog, call
from asyncjobs.jobs.effects import AttemptEffects
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.suspend import Suspend, suspend_in
from asyncjobs.model import events
from asyncjobs.model.clock import now_ms as wall_ms
from asyncjobs.model.ends import ENDS
from asyncjobs.model.events import Events
from asyncjobs.model.headers import NO_HEADERS, PastError
from asyncjobs.model.history import Run, with_labels
from asyncjobs.model.job import State
from asyncjobs.model.limit_events import JobRateLimited
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.step_events import JobResumed, JobSuspended
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.retry import class_name, is_on_purpose
from asyncjobs.policy.verdict import Ending, Verdict
from asyncjobs.store.checks import check_effects
from asyncjobs.store.seam import Capabilities
from asyncjobs.worker.engine.attempt import Attempt, Reason, TooLate
from asyncjobs.worker.engine.callbacks import Callbacks
from asyncjobs.worker.engine.closing import closed_by
from asyncjobs.worker.engine.error_text import describe, log_failure
from asyncjobs.worker.engine.failures import FailureLog, counted
from asyncjobs.worker.engine.last_resort import LAST_RESORT_S, end_without_words
from asyncjobs.worker.engine.records import (
    bury,
    last_envelope,
    later,
    log_end,
    outcome_of,
    result_of,
    span_of,
)
from asyncjobs.worker.engine.resuming import pause_s, resumption_of
from asyncjobs.worker.engine.runs import Teller
from asyncjobs.worker.engine.unfinished import close_unfinished, not_done, unfinished
from asyncjobs.worker.engine.unfit import unfit_or
from asyncjobs.worker.engine.unstarted import Unstarted
from asyncjobs.worker.engine.verdicts import verdict_on

__all__ = ["Settler"]

logger = GuardedLog("asyncjobs.worker")

UNRECORDED: Final = "logging an end that could not be recorded"


# size: one method for each kind of end. Each records it, logs it and tells it, and the success of a
# job without listeners is written out, for each job passes there.
class Settler:
    """Turns values and errors into settlements, and tells listeners and the log.

    The settlement is made first and the end is told after that: if it cannot be made, the job ends
    in another way. `value` and `error` raise nothing, whatever the user's exceptions, values and
    classes do. Without a settlement the job would stay `running`.
    """

    def __init__(
        self,
        settings: AppSettings,
        hub: Events,
        clock_s: Callable[[], float],
        worker: str,
        capabilities: Capabilities,
    ) -> None:
        """`worker`: the name that is stored with the errors of jobs. `capabilities`: those of the
        store."""
        self._settings = settings
        self._events = hub
        self._clock_s = clock_s
        if getattr(clock_s, "__func__", None) is asyncio.BaseEventLoop.time:
            # It asks the same clock, by a call in Python that each job would pay for.
            self._clock_s = time.monotonic
        self._worker = worker
        self._capabilities = capabilities
        self.is_stopped_by_another: Callable[[Attempt], bool] = lambda attempt: False
        """Whether this attempt was cancelled by another job."""
        self.middlewares = Middlewares()
        """They say what the next attempt of a job carries along, such as a trace."""
        self._failures = FailureLog()
        self.released = 0
        self._teller = Teller(settings, clock_s)
        self._is_told = self._teller.is_on
        self.callbacks = Callbacks()
        self.unstarted = Unstarted(settings, hub, clock_s, self._teller, self.callbacks)
        """For jobs that never come to an attempt."""

    def value(self, attempt: Attempt, value: Any) -> Settlement | None:
        """The attempt returned."""
        # rule:16 a job that returns a coroutine has not succeeded
        if value is not None and (work := unfinished(value)) is not None:
            # Who forgets an `await` must hear of it: the job has done nothing.
            close_unfinished(value)
            function = attempt.function
            return self.error(attempt, not_done(function.name, work, is_async=function.is_async))
        if attempt.result_ttl_ms <= 0 and attempt.stopping is None and not self._events.active:
            if self._is_told:
                # `Teller.run`, without the call: each job passes here.
                envelope = attempt.envelope
                run: Run = (
                    attempt.function.name,
                    envelope.attempt,
                    envelope.enqueued_ms,
                    attempt.began_ms,
                    attempt.started_s,
                    self._clock_s(),
                )
                if envelope.headers is not NO_HEADERS:
                    run = with_labels(run, envelope.headers)
                settlement = Settlement.succeeded(attempt.job, None, 0, run)
            else:
                settlement = Settlement.succeeded(attempt.job)
            # A job that has never asked for its context has caused nothing.
            if attempt._context is None or attempt._context.effects_so_far is None:
                return settlement
        try:
            return self._value(attempt, value)
        except BaseException as fault:
            if attempt.reason not in (None, Reason.SHUTDOWN):
                return self._last_resort(attempt, fault)
            # The job has done its work, so it must not run again: it succeeds without a result.
            call(UNRECORDED, _log_fault, attempt, "its result could not be kept", fault)
            problem = f"it could not be kept: {class_name(type(fault))}"
            return self._success(attempt, Outcome(State.SUCCEEDED, unavailable=problem).encode())

    def error(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        """The attempt raised, or was stopped. None: its end is not this worker's to record."""
        try:
            # Not isinstance: an error of the user's own may raise when it is asked for its class.
            is_cancelled = issubclass(type(error), asyncio.CancelledError)
            # rule:17 jobs that another one has cancelled are given back
            if is_cancelled and self.is_stopped_by_another(attempt):
                return self._given_back(attempt)
            return self._error(attempt, error)
        except BaseException as fault:
            return self._last_resort(attempt, fault)

    def _last_resort(self, attempt: Attempt, fault: BaseException) -> Settlement | None:
        """The error cannot be described. The slot and the job must be freed all the same."""
        # The log line may fail for the same reason as the description.
        call(UNRECORDED, _log_fault, attempt, "its end could not be recorded", fault)
        if attempt.reason is Reason.LEASE_LOST:
            return None
        if attempt.reason is Reason.SHUTDOWN:
            self.released += 1
            return Settlement.release(attempt.job)
        if attempt.reason is Reason.CANCEL:
            return Settlement.cancelled(attempt.job).telling(self._teller.run(attempt))
        try:
            settlement = end_without_words(attempt, fault, self._teller)
        # rule:15 an end that cannot be written again is one all the same
        except BaseException as another:
            # Not even its envelope can be written again.
            return self.unstarted.unreadable(attempt.job, another)
        ended = self._ended(attempt)
        if settlement.state is State.DEAD:
            self._tell(attempt, events.JobDead, *ended, "exhausted", fault)
            self.callbacks.dead(attempt, "exhausted", fault)
        else:
            self._tell(attempt, events.JobRetryScheduled, *ended, LAST_RESORT_S, fault)
        return settlement

    def _tell(
        self, attempt: Attempt, kind: Callable[..., events.AttemptEnded], *about: Any
    ) -> None:
        """`about`: the attempt, its duration, and what else this kind of end has."""
        if self._events.active:
            info = attempt.info
            self._events.emit(kind(info.ref, info.name, *about, info=info))

    def _value(self, attempt: Attempt, value: Any) -> Settlement | None:
        if attempt.reason is not None and attempt.reason is not Reason.SHUTDOWN:
            # It was told to stop and has returned all the same. The reason for the stop counts.
            return self._error(attempt, asyncio.CancelledError())
        # Each job passes here, so nothing is measured that nobody listens to.
        hub = self._events
        is_heard = hub.active and hub.wants(events.JobSucceeded)
        ended = None
        if is_heard:
            ended = self._ended(attempt)
        outcome = None
        if attempt.result_ttl_ms > 0:
            span = span_of(attempt, self.middlewares)
            outcome = result_of(attempt, value, self._settings.max_result, span)
        settlement = self._success(attempt, outcome)
        if ended is not None and settlement is not None and settlement.state is State.SUCCEEDED:
            info = attempt.info
            hub.emit(events.JobSucceeded(info.ref, info.name, *ended, info=info))
        return settlement

    def _success(self, attempt: Attempt, outcome: bytes | None) -> Settlement | None:
        """The job has succeeded. If the store cannot keep what it causes, the attempt fails."""
        run = self._teller.run(attempt)
        settlement = Settlement.succeeded(attempt.job, outcome, attempt.result_ttl_ms, run)
        kept = _kept(attempt)
        # rule:37 what an attempt has kept goes with its success
        if kept is not None and (effects := kept.close()) is not None:
            settlement = settlement.causing(effects)
        if settlement.effects is None:
            return settlement
        try:
            # rule:17 effects that a store cannot keep fail the attempt, not the exchange
            check_effects(settlement, self._capabilities)
        except (UsageError, MissingCapability) as refused:
            return self.error(attempt, refused)
        if kept is not None and self._events.active:
            # As the success itself they are told before the store has recorded it.
            stored = [(job.ref, True) for job in settlement.effects.jobs]
            events.tell_stored(
                self._events, settlement.effects.jobs, kept.names, stored, duration_s=0.0
            )
        return settlement

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
            # Whatever it raises: the worker has not let it finish.
            self._log_clean_up(attempt, error, "given back, since the worker stops")
            self.released += 1
            return self._given_back(attempt)
        if attempt.reason is Reason.TIMEOUT:
            error = _time_out(attempt, error)
        if (pause := suspend_in(error)) is not None:
            return self._suspended(attempt, pause)
        if type(error) is TooLate:
            return self.unstarted.expired(attempt)
        error = unfit_or(attempt, error)
        verdict = verdict_on(attempt, error)
        if times := resumption_of(attempt, verdict):
            return self._resumed(attempt, error, pause_s(verdict), times)
        if verdict.ending is Ending.RETRY:
            return self._retry(attempt, error, verdict)
        if verdict.ending is Ending.SNOOZE:
            return self._snooze(attempt, verdict)
        if verdict.ending is Ending.DISCARD:
            return self._discarded(attempt, verdict.reason, error)
        return self._dead(attempt, error, verdict.reason)

    def _log_clean_up(self, attempt: Attempt, error: BaseException, why: str) -> None:
        self._failures.write_clean_up(attempt, error, why, **self._lasted(attempt))

    def _ended(self, attempt: Attempt) -> tuple[int, float]:
        """Its number, and how long it took in seconds."""
        return attempt.envelope.attempt, attempt.lasted_s(self._clock_s())

    def _lasted(self, attempt: Attempt) -> dict[str, Any]:
        return {"duration_ms": round(self._ended(attempt)[1] * 1000)}

    def _label(self, attempt: Attempt) -> dict[str, Any]:
        return attempt.label | self._lasted(attempt)

    def _cancelled(self, attempt: Attempt) -> Settlement:
        ended = self._ended(attempt)
        span = span_of(attempt, self.middlewares)
        outcome = outcome_of(attempt, State.CANCELLED, span=span).encode()
        settlement = Settlement.cancelled(attempt.job, outcome, attempt.result_ttl_ms)
        settlement = settlement.telling(self._teller.run(attempt))
        text = "%s: cancelled while running"
        log_end(State.CANCELLED, text, attempt.job.ref, extra=self._label(attempt))
        self._tell(attempt, events.JobCancelled, *ended)
        return settlement

    def _given_back(self, attempt: Attempt) -> Settlement:
        """It was stopped by the worker's end or by another job. It runs again and spends no
        attempt."""
        self._tell(attempt, events.JobReleased, *self._ended(attempt))
        return Settlement.release(attempt.job)

    def _retry(self, attempt: Attempt, error: BaseException, verdict: Verdict) -> Settlement:
        ended = self._ended(attempt)
        delay_s = verdict.delay_s
        charge = verdict.charge
        told = describe(error, attempt.mask)
        number = attempt.envelope.attempt
        past = PastError(number, told.kind, told.message, told.trace, wall_ms(), self._worker)
        settlement = later(attempt, self.middlewares, delay_s, number + 1, past, charge)
        settlement = settlement.telling(self._teller.run(attempt, told.kind, told.message))
        text = "%s: %s, again in %.1f s: %s: %s"
        about = (attempt.job.ref, counted(attempt, charge), delay_s, told.kind, told.message)
        if is_on_purpose(error):
            logger.warning(text, *about, extra=self._label(attempt))
        else:
            self._failures.write(attempt, error, told, text, *about, **self._lasted(attempt))
        self._tell(attempt, events.JobRetryScheduled, *ended, delay_s, error)
        return settlement

    def _resumed(
        self, attempt: Attempt, error: BaseException, delay_s: float, times: int
    ) -> Settlement:
        """It failed, but has brought the job forward. `times`: how often that has happened."""
        told = describe(error, attempt.mask)
        number = attempt.envelope.attempt
        past = PastError(number, told.kind, told.message, told.trace, wall_ms(), self._worker)
        settlement = later(attempt, self.middlewares, delay_s, number, past, resumptions=times)
        settlement = settlement.telling(self._teller.run(attempt, told.kind, told.message))
        text = "%s: attempt %d failed on its way, resumption %d of %d in %.1f s: %s: %s"
        most = attempt.settings.max_resumptions
        about = (attempt.job.ref, number, times, most, delay_s, told.kind, told.message)
        self._failures.write(attempt, error, told, text, *about, **self._lasted(attempt))
        self._tell(attempt, JobResumed, *self._ended(attempt), delay_s, error, times)
        return settlement

    def _snooze(self, attempt: Attempt, verdict: Verdict) -> Settlement:
        delay_s = verdict.delay_s
        settlement = later(attempt, self.middlewares, delay_s, attempt.envelope.attempt)
        if verdict.closes:
            return self._rate_limited(attempt, settlement, delay_s)
        settlement = settlement.telling(self._teller.run(attempt))
        self._tell(attempt, events.JobSnoozed, *self._ended(attempt), delay_s)
        return settlement

    def _rate_limited(self, attempt: Attempt, settlement: Settlement, delay_s: float) -> Settlement:
        closed = closed_by(attempt)
        told = f"again in {delay_s:.1f} s"
        # rule:39 who was told to come back later closes the keys for all
        settlement = settlement.closing()
        settlement = settlement.telling(self._teller.run(attempt, "RateLimited", told))
        text = "%s: rate limited, again in %.1f s; closes %s"
        about = (attempt.job.ref, delay_s, ", ".join(closed) or "no limit, for it has none")
        logger.info(text, *about, extra=self._label(attempt))
        self._tell(attempt, JobRateLimited, *self._ended(attempt), delay_s, closed)
        return settlement

    def _suspended(self, attempt: Attempt, pause: Suspend) -> Settlement:
        # rule:24 who gives the slot away spends no attempt
        settlement = later(attempt, self.middlewares, pause.delay_s, attempt.envelope.attempt)
        if pause.has_event:
            # rule:31 the settlement of a job that waits looks for its event
            settlement = settlement.until_event()
        settlement = settlement.telling(self._teller.run(attempt))
        ended = self._ended(attempt)
        self._tell(attempt, JobSuspended, *ended, pause.delay_s, pause.reason)
        return settlement

    def _discarded(self, attempt: Attempt, reason: str, error: BaseException) -> Settlement:
        if attempt.mask is not None:
            reason = attempt.mask.text(reason)
        ended = self._ended(attempt)
        span = span_of(attempt, self.middlewares)
        outcome = outcome_of(attempt, State.DISCARDED, reason=reason, span=span).encode()
        settlement = Settlement.discarded(attempt.job, outcome, attempt.result_ttl_ms)
        settlement = settlement.telling(self._teller.run(attempt, reason))
        text = "%s: discarded: %s"
        log_end(State.DISCARDED, text, attempt.job.ref, reason, extra=self._label(attempt))
        self._tell(attempt, events.JobDiscarded, *ended, reason)
        self.callbacks.discarded(attempt, reason, error)
        return settlement

    def _dead(self, attempt: Attempt, error: BaseException, reason: str) -> Settlement:
        ended = self._ended(attempt)
        told = describe(error, attempt.mask)
        outcome = outcome_of(
            attempt,
            State.DEAD,
            reason=reason,
            error_type=told.kind,
            message=told.message,
            traceback=told.trace,
            worker=self._worker,
            span=span_of(attempt, self.middlewares),
        )
        envelope = last_envelope(attempt, self.middlewares)
        settlement = bury(attempt.job, outcome, attempt.result_ttl_ms, envelope)
        settlement = settlement.telling(self._teller.run(attempt, told.kind, told.message))
        text = "%s: dead at attempt %d (%s)"
        about = (attempt.job.ref, ended[0], reason)
        level = ENDS[State.DEAD].level
        log_failure(logger, attempt, text, *about, error=told, level=level, **self._lasted(attempt))
        self._tell(attempt, events.JobDead, *ended, reason, error)
        self.callbacks.dead(attempt, reason, error)
        return settlement


def _kept(attempt: Attempt) -> AttemptEffects | None:
    """What the job has kept for its success; None if it has kept nothing."""
    if attempt._context is None:
        return None
    return attempt._context.effects_so_far


def _log_fault(attempt: Attempt, text: str, fault: BaseException) -> None:
    told = describe(fault, attempt.mask)
    log_failure(logger, attempt, f"%s: {text}", attempt.job.ref, error=told)


def _time_out(attempt: Attempt, cause: BaseException) -> TimeoutError:
    """The error of an attempt that has reached its time-out. `cause`: what it has raised then."""
    error = TimeoutError(f"the attempt took longer than its {attempt.settings.timeout_s:g} s")
    error.__cause__ = cause
    return error
