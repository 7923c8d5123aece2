"""Logs failed attempts, and knows which failures it has shown with a traceback."""

from __future__ import annotations

import logging
from typing import Any, Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.policy.retry import Charge, class_name, is_cancellation, is_on_purpose
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.error_text import ErrorText, describe, log_failure

__all__ = ["FailureLog", "counted"]

logger = GuardedLog("asyncjobs.worker")

MOST_KINDS: Final = 1_000
"""How many pairs of job function and error type are remembered; the newest ones."""
MOST_LEAVES: Final = 10


class FailureLog:
    """Logs failed attempts. The first failure of a job function by one error type has a traceback.
    Each other one is a single line, since an outage makes thousands of them."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], None] = {}

    def write(
        self,
        attempt: Attempt,
        error: BaseException,
        told: ErrorText,
        text: str,
        *args: Any,
        **fields: Any,
    ) -> None:
        """Warn of this attempt. `told`: its error as text."""
        if self.is_first(attempt.function.name, error, told.kind):
            log_failure(logger, attempt, text, *args, error=told, level=logging.WARNING, **fields)
        else:
            logger.warning(text, *args, extra={**attempt.label, **fields})

    def write_clean_up(
        self, attempt: Attempt, error: BaseException, why: str, **fields: Any
    ) -> None:
        """Warn of an error that an attempt raised after it was told to stop. The error changes
        nothing. `why`: what happens to the job."""
        if is_cancellation(error) or is_on_purpose(error):
            return
        told = describe(error, attempt.mask)
        text = "%s: %s; its clean-up failed: %s: %s"
        about = (attempt.job.ref, why, told.kind, told.message)
        self.write(attempt, error, told, text, *about, **fields)

    def is_first(self, name: str, error: BaseException, kind: str) -> bool:
        """Whether this job function fails by this type of error for the first time."""
        key = (name, _kinds(error, kind))
        if key in self._shown:
            return False
        if len(self._shown) >= MOST_KINDS:
            # The first key is the oldest one.
            del self._shown[next(iter(self._shown))]
        self._shown[key] = None
        return True


def _kinds(error: BaseException, kind: str) -> str:
    """The type of an error; for a group with the types of its members."""
    try:
        if isinstance(error, BaseExceptionGroup):
            members = {class_name(type(each)) for each in error.exceptions[:MOST_LEAVES]}
            return f"{kind}({', '.join(sorted(members))})"
    except BaseException:  # a group of the user's own may hide its members
        return kind
    return kind


def counted(attempt: Attempt, charge: Charge | None) -> str:
    """Which attempt has failed, and how much of which budget is spent."""
    number = attempt.envelope.attempt
    if charge is None:
        return f"attempt {number} failed"
    if charge.used == number:
        return f"attempt {number} of {charge.budget} failed"
    policy = "the default policy"
    if charge.policy.key:
        policy = f"the policy on {charge.policy.key}"
    return f"attempt {number} failed, failure {charge.used} of {charge.budget} of {policy}"
