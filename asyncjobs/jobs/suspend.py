"""The signal by which a running job gives its slot away and comes back later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from asyncjobs.model.clock import LONGEST_S

__all__ = ["Suspend", "suspend_in"]


class Suspend(BaseException):
    """Raised inside a job: give the slot away, and run the job again from its start.

    It spends no attempt, and the next one has the same number. What the job has noted is there
    again, so it passes what it has done. `ctx.sleep` raises it, and whatever else waits without a
    slot.

    No Exception: `except Exception` in a job means its errors, and must not keep it running.

    delay_s: the seconds until the job runs again at the latest.
    reason: one word for events, spans and logs, such as `sleep`.
    has_event: the job waits for an event, which the store knows. It may bring it back before.
    """

    def __init__(self, delay_s: float, reason: str, *, has_event: bool = False) -> None:
        super().__init__(f"suspended for {delay_s:g} s ({reason})")
        self.delay_s = min(max(delay_s, 0.0), LONGEST_S)
        self.reason = reason
        self.has_event = has_event

    def __reduce__(self) -> tuple[Callable[..., Suspend], tuple[float, str, bool]]:
        return _suspend, (self.delay_s, self.reason, self.has_event)


def _suspend(delay_s: float, reason: str, has_event: bool) -> Suspend:
    return Suspend(delay_s, reason, has_event=has_event)


def suspend_in(error: BaseException) -> Suspend | None:
    """The suspension that an attempt ended with; None if it ended in another way.

    A task group of the job makes a group of what its tasks raise. If one of them has failed, the
    attempt has failed: its error must not be lost. Of several suspensions the shortest counts,
    for the job is needed by then.
    """
    found: list[Suspend] = []
    left = [error]
    while left:
        member = left.pop()
        # Not isinstance: an error of the user's own may raise when it is asked for its class.
        kind = type(member)
        if issubclass(kind, Suspend):
            found.append(cast(Suspend, member))
        elif issubclass(kind, BaseExceptionGroup):
            left.extend(_members(cast("BaseExceptionGroup[BaseException]", member)))
        elif member is error or not issubclass(kind, asyncio.CancelledError):
            return None
    return min(found, key=lambda suspend: suspend.delay_s, default=None)


def _members(group: BaseExceptionGroup[BaseException]) -> tuple[BaseException, ...]:
    """Those that Python itself has stored: a subclass may answer anything."""
    members: tuple[BaseException, ...] = BaseExceptionGroup.exceptions.__get__(group)
    return members
