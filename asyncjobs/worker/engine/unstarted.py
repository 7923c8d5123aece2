"""Settlements of jobs that are not run. Synchronous: never talks to the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asyncjobs.model import events
from asyncjobs.model.backoff import pause_s
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.events import Events
from asyncjobs.model.headers import MAX_MESSAGE, PutBack
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.callbacks import Callbacks
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.labels import call_of, label_of
from asyncjobs.worker.engine.put_back_log import PutBackLog
from asyncjobs.worker.engine.records import bury, log_end, outcome_of
from asyncjobs.worker.engine.runs import Teller

__all__ = ["Unstarted"]

EXPIRED: Final = "expired"
"""The reason of a job that has not started before its `expires`."""
FIRST_S: Final = 1.0
MOST_S: Final = 60.0
"""The first and the longest delay of a job whose function is unknown."""


class Unstarted:
    """Settles jobs that this worker does not run, and tells listeners and the log. Counts those
    that it has put back."""

    def __init__(
        self,
        settings: AppSettings,
        hub: Events,
        clock_s: Callable[[], float],
        teller: Teller,
        callbacks: Callbacks,
    ) -> None:
        self._settings = settings
        self._events = hub
        self._teller = teller
        self._callbacks = callbacks
        self.put_back_log = PutBackLog(clock_s)
        self.put_back = 0

    def crashed(self, attempt: Attempt) -> Settlement:
        """Too many workers have died while they ran it."""
        job = attempt.job
        message = f"its worker died while it ran, {attempt.crashes} times"
        outcome = outcome_of(attempt, State.DEAD, reason="crashed", message=message)
        settlement = bury(job, outcome, attempt.result_ttl_ms)
        settlement = settlement.telling(self._teller.never(attempt, f"crashed: {message}"))
        log_end(State.DEAD, "%s: dead: %s", job.ref, message, extra=attempt.label)
        number = attempt.envelope.attempt
        self._tell_dead(job, attempt.function.name, number, "crashed", attempt=attempt)
        return settlement

    def expired(self, attempt: Attempt) -> Settlement:
        """It has not started in time. The outcome keeps the error of its last attempt, if any."""
        job = attempt.job
        number = attempt.envelope.attempt
        outcome = outcome_of(attempt, State.DISCARDED, reason=EXPIRED)
        for last in attempt.envelope.headers.errors()[-1:]:
            outcome.error_type = last.type
            outcome.message = last.message
            outcome.traceback = last.traceback
        settlement = Settlement.discarded(job, outcome.encode(), attempt.result_ttl_ms)
        settlement = settlement.telling(self._teller.never(attempt, EXPIRED))
        text = "%s: discarded: expired before attempt %d"
        log_end(State.DISCARDED, text, job.ref, number, extra=attempt.label)
        if self._events.active:
            info = attempt.info
            self._events.emit(
                events.JobExpired(info.ref, info.name, number, 0.0, EXPIRED, info=info)
            )
        self._callbacks.discarded(attempt, EXPIRED, None)
        return settlement

    def cancelled(self, job: TakenJob) -> Settlement:
        """It was cancelled after it was taken and before it has started."""
        name, number = call_of(job)
        outcome = Outcome(State.CANCELLED).encode()
        settlement = Settlement.cancelled(job, outcome, self._settings.result_ttl_ms)
        settlement = self._teller.without_attempt(settlement, name, number, "")
        log_end(State.CANCELLED, "%s: cancelled", job.ref, extra=label_of(job, name, number))
        if self._events.active:
            self._events.emit(events.JobCancelled(job.ref, name, number, 0.0))
        return settlement

    def unreadable(self, job: TakenJob, error: BaseException) -> Settlement:
        """Its envelope cannot be read, or cannot be written again. It is kept as it is."""
        problem = describe(error).message[:MAX_MESSAGE]
        message = f"the stored bytes are no valid envelope: {problem}"
        outcome = Outcome(State.DEAD, reason="unreadable", message=message)
        settlement = bury(job, outcome, self._settings.result_ttl_ms)
        settlement = self._teller.without_attempt(settlement, "", 1, "unreadable")
        text = "%s: dead: no valid envelope: %s"
        log_end(State.DEAD, text, job.ref, problem, extra=label_of(job))
        self._tell_dead(job, "", 1, "unreadable", error)
        return settlement

    def unknown(self, job: TakenJob, name: str, problem: str, now_ms: int) -> Settlement:
        """This worker does not know its function or its envelope, so it runs later or elsewhere.

        During a rolling deploy another worker may know it. The delay grows and no attempt is
        spent. After `unknown_ttl` the job is dead. Raises BadRecord.
        """
        envelope = AnyEnvelope.decode(job.envelope)
        since_ms, times = envelope.headers.put_back(now_ms)
        # rule:13 after unknown_ttl an unknown job is dead
        if now_ms - since_ms > self._settings.unknown_ttl_ms:
            return self._given_up(job, name, problem)
        # rule:13 the delay of an unknown job grows
        # rule:13 the delay of an unknown job is capped
        delay_s = pause_s(FIRST_S, MOST_S, times)
        # rule:13 the envelope keeps when its job was first unknown
        headers = envelope.headers.with_put_back(PutBack(since_ms, times + 1), job.crashes)
        again = envelope.with_headers(headers)
        settlement = Settlement.reschedule(job, again, round(delay_s * 1000))
        self.put_back += 1
        self.put_back_log.write(job, name, problem)
        if self._events.active:
            self._events.emit(events.JobPutBack(job.ref, name, delay_s))
        return settlement

    def _given_up(self, job: TakenJob, name: str, problem: str) -> Settlement:
        outcome = Outcome(State.DEAD, reason="unknown", message=problem)
        settlement = bury(job, outcome, self._settings.result_ttl_ms)
        settlement = self._teller.without_attempt(settlement, name, 1, f"unknown: {problem}")
        log_end(State.DEAD, "%s: dead: %s", job.ref, problem, extra=label_of(job, name))
        self._tell_dead(job, name, 1, "unknown")
        return settlement

    def _tell_dead(
        self,
        job: TakenJob,
        name: str,
        number: int,
        reason: str,
        error: BaseException | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        if self._events.active:
            info = None
            if attempt is not None:
                info = attempt.info
            self._events.emit(events.JobDead(job.ref, name, number, 0.0, reason, error, info=info))
        if attempt is None:
            self._callbacks.dead_unknown(job, name, number, reason, error)
        else:
            self._callbacks.dead(attempt, reason, error)
