"""What an attempt's end means for its job. Pure: decides, stores nothing, waits for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from asyncjobs.clock import seconds
from asyncjobs.errors import Discard, JobSignal, Retry, Snooze
from asyncjobs.policy.retry import RetryPolicy

__all__ = ["Ending", "Verdict", "judge"]


class Ending(StrEnum):
    """What becomes of the job after an attempt that did not return."""

    RETRY = "retry"
    SNOOZE = "snooze"
    DISCARD = "discard"
    DEAD = "dead"


class Verdict(NamedTuple):
    """`delay_s` for retry and snooze; `reason` for discard and dead."""

    ending: Ending
    delay_s: float = 0.0
    reason: str = ""


def judge(
    error: BaseException,
    *,
    attempt: int,
    retry: RetryPolicy,
    discard_on: tuple[type[BaseException], ...],
) -> Verdict:
    """How to go on after `attempt` raised `error`.

    An exception group counts as its leaves: it discards only when every leaf does, and
    a leaf that is an ordinary error makes the attempt a failed one.
    """
    leaves = tuple(_leaves(error))
    if all(isinstance(leaf, (Discard, *discard_on)) for leaf in leaves):
        return Verdict(Ending.DISCARD, reason=_discard_reason(leaves[0]))
    if all(isinstance(leaf, JobSignal) for leaf in leaves):
        return _by_signal(leaves, attempt, retry)
    return _again(None, attempt, retry)


def _by_signal(leaves: tuple[BaseException, ...], attempt: int, retry: RetryPolicy) -> Verdict:
    for leaf in leaves:
        if isinstance(leaf, Retry):
            delay = leaf.delay
            return _again(
                None if delay is None else seconds(delay, field="Retry.delay"), attempt, retry
            )
    delays = [
        seconds(leaf.delay, field="Snooze.delay") for leaf in leaves if isinstance(leaf, Snooze)
    ]
    if delays:
        return Verdict(Ending.SNOOZE, max(delays))
    # A signal of the user's own: it says nothing we know, so it is a failed attempt.
    return _again(None, attempt, retry)


def _again(delay_s: float | None, attempt: int, retry: RetryPolicy) -> Verdict:
    if attempt >= retry.max_attempts:
        return Verdict(Ending.DEAD, reason="exhausted")
    return Verdict(Ending.RETRY, retry.delay_s(attempt) if delay_s is None else delay_s)


def _discard_reason(leaf: BaseException) -> str:
    if isinstance(leaf, Discard):
        return leaf.reason
    return f"{type(leaf).__name__}: {leaf}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error
