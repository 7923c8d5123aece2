"""Decides what an attempt's end means for its job. Pure: stores nothing, waits for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from asyncjobs.errors import Discard, JobSignal, RateLimited, Retry, Snooze, UnfitArguments
from asyncjobs.model.clock import seconds
from asyncjobs.policy.retry import Charge, Retries, class_name

__all__ = ["Ending", "Verdict", "judge"]


class Ending(StrEnum):
    """What becomes of the job after an attempt that did not return."""

    RETRY = "retry"
    SNOOZE = "snooze"
    DISCARD = "discard"
    DEAD = "dead"


class Verdict(NamedTuple):
    """`delay_s`: for retry and snooze. `reason`: for discard and dead. `charge`: which policy
    counts a failed attempt. `closes`: until then nobody passes the limits of the job."""

    ending: Ending
    delay_s: float = 0.0
    reason: str = ""
    charge: Charge | None = None
    closes: bool = False


def judge(
    error: BaseException,
    *,
    attempt: int,
    retry: Retries,
    discard_on: tuple[type[BaseException], ...],
    spent: Mapping[str, int],
) -> Verdict:
    """How to go on after `attempt` raised `error`.

    `spent`: the failures before this one, by the key of the policy that counts them. An exception
    group counts as its leaves. It discards only if every leaf does, and one leaf that is an
    ordinary error makes the attempt a failed one. Of the policies that rule such leaves, the one
    with the least left counts it.
    """
    # rule:30 a job whose stored arguments do not fit is dead at once, and spends no retry
    if isinstance(error, UnfitArguments):
        return Verdict(Ending.DEAD, reason="arguments")
    leaves = tuple(_leaves(error))
    if all(isinstance(leaf, (Discard, *discard_on)) for leaf in leaves):
        return Verdict(Ending.DISCARD, reason=_discard_reason(leaves[0]))
    harmless = (Discard, Snooze, *discard_on)
    charged = tuple(leaf for leaf in leaves if not isinstance(leaf, harmless)) or leaves
    delay_s = None
    if all(isinstance(leaf, JobSignal) for leaf in leaves):
        asked = [leaf for leaf in leaves if isinstance(leaf, Retry)]
        if asked:
            delay_s = _asked_s(asked[0])
        elif snoozes := [leaf for leaf in leaves if isinstance(leaf, Snooze)]:
            longest_s = max(seconds(leaf.delay, field="Snooze.delay") for leaf in snoozes)
            closes = any(isinstance(leaf, RateLimited) for leaf in snoozes)
            return Verdict(Ending.SNOOZE, longest_s, closes=closes)
        # Else it is a signal class of the user's own. We do not know it: a failed attempt.
    return _again(delay_s, retry.charge(charged, attempt, spent))


def _again(delay_s: float | None, charge: Charge) -> Verdict:
    if charge.used >= charge.budget:
        return Verdict(Ending.DEAD, reason="exhausted", charge=charge)
    # A delay that the job asked for comes before the backoff of the policy.
    if delay_s is None:
        delay_s = charge.policy.delay_s(charge.failures)
    return Verdict(Ending.RETRY, delay_s, charge=charge)


def _asked_s(signal: Retry) -> float | None:
    if signal.delay is None:
        return None
    return seconds(signal.delay, field="Retry.delay")


def _discard_reason(leaf: BaseException) -> str:
    """Never raises: an error while making the text must not turn a discard into a retry."""
    try:
        if isinstance(leaf, Discard):
            return str(leaf.reason)
        return f"{type(leaf).__name__}: {leaf}"
    except BaseException as fault:
        return f"{class_name(type(leaf))}: (its text could not be made: {class_name(type(fault))})"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error
