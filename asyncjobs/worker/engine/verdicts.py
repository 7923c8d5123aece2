"""Asks the retry policies of a job function about a failed attempt, even broken policies."""

from __future__ import annotations

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.policy.retry import Retries, RetryPolicy
from asyncjobs.policy.verdict import Verdict, judge
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.error_text import describe, log_failure

__all__ = ["verdict_on"]

logger = GuardedLog("asyncjobs.worker")


def verdict_on(attempt: Attempt, error: BaseException) -> Verdict:
    """How the job goes on after its attempt raised `error`. Raises nothing."""
    settings = attempt.settings
    number = attempt.envelope.attempt
    # A backoff of the user's own may raise, and so may an exception class that is asked whether
    # an error is one of its own. That must cost neither the job nor the slot.
    for retry in (settings.retry, settings.retry.plain()):
        try:
            return judge(
                error,
                attempt=number,
                retry=retry,
                discard_on=settings.discard_on,
                spent=attempt.envelope.headers.spent(),
            )
        except BaseException as fault:
            told = describe(fault, attempt.mask)
            log_failure(logger, attempt, "%s: its retry policy failed", attempt.job.ref, error=told)
    # Any other error will do: this one cannot even be asked for its class or its members.
    last = Retries(default=RetryPolicy(max_attempts=settings.retry.max_attempts))
    return judge(Exception(), attempt=number, retry=last, discard_on=(), spent={})
