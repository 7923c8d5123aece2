"""The end of an attempt that has kept something for the next one."""

from __future__ import annotations

from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.policy.verdict import Ending, Verdict
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.error_text import describe

__all__ = ["pause_s", "put_work_away", "resumption_of"]

logger = GuardedLog("asyncjobs.worker")

PUT_AWAY_S: Final = 2.0
"""How long an attempt that ends without a value may write its last notes. Less than what a stopped
attempt has for its `finally` blocks."""
PAUSE_S: Final = 10.0
"""Before a resumption whose backoff cannot say when."""


async def put_work_away(attempt: Attempt) -> None:
    """Store what the job has noted and the store has not heard of, at an error or a stop. Raises
    nothing: the attempt is settled all the same."""
    work = attempt.context.work_so_far
    # A cancelled job is over, and a lost one is another worker's.
    if work is None or attempt.is_let_go or attempt.reason in (Reason.CANCEL, Reason.LEASE_LOST):
        return
    if attempt.timer is not None:
        # Its time-out is about the function, which has ended.
        attempt.timer.cancel()
    try:
        # rule:24 a cursor is written before a stopped job is given back
        await work.close(PUT_AWAY_S)
    except BaseException as error:
        told = describe(error, attempt.mask)
        logger.warning(
            "%s: its last notes were not stored, and the next attempt begins before them: %s: %s",
            attempt.job.ref,
            told.kind,
            told.message,
            extra=attempt.label,
        )


def resumption_of(attempt: Attempt, verdict: Verdict) -> int:
    """Which resumption follows this failed attempt, from 1. 0 if it has not brought the job
    forward, or has been resumed often enough: then it is an ordinary failure."""
    if verdict.ending not in (Ending.RETRY, Ending.DEAD) or not attempt.has_context:
        return 0
    work = attempt.context.work_so_far
    if work is None or not work.book.is_ahead:
        return 0
    times = attempt.envelope.headers.resumptions() + 1
    # rule:24 resumptions have a limit
    if times > attempt.settings.max_resumptions:
        return 0
    return times


def pause_s(verdict: Verdict) -> float:
    """How long to wait before a resumption: as long as before a retry. A resumption counts as no
    failure, so the pause does not grow with them."""
    if verdict.ending is Ending.RETRY or verdict.charge is None:
        return verdict.delay_s
    try:
        return verdict.charge.policy.delay_s(1)
    except BaseException:
        # A backoff of the user's own. Its fault must not make the job dead: it went forward.
        return PAUSE_S
