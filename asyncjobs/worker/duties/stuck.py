"""Reports attempts that swallow their cancellation, and frees their slots."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Self

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.events import Events
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.watch.stacks import stack_text, task_frames

__all__ = ["Stuck"]

logger = GuardedLog("asyncjobs.worker")

_WHY: Final = {
    Reason.TIMEOUT: "its time-out was over",
    Reason.CANCEL: "it was cancelled",
    Reason.LEASE_LOST: "its lease was lost",
}


class Stuck(Duty):
    """Looks for such attempts. `after_s`: how long an attempt may take to end."""

    def __init__(self, processor: Processor, hub: Events, after_s: float) -> None:
        self._processor = processor
        self._events = hub
        self._after_s = after_s

    @classmethod
    def of(cls, site: Site) -> Self | None:
        after_s = site.settings.stuck_after_s
        if after_s is None:
            return None
        return cls(site.processor, site.hub, after_s)

    async def run(self) -> float:
        now_s = time.monotonic()
        for attempt in self._processor.running.stubborn(now_s - self._after_s):
            if attempt.stopping is not None:
                self._let_go(attempt, attempt.stopping.reason, now_s - attempt.stopping.since_s)
        return min(self._after_s / 4, 5.0)

    def _let_go(self, attempt: Attempt, reason: Reason, ignored_s: float) -> None:
        """Settle the job for the reason of its stop. What its task does later is ignored."""
        stack = ""
        if attempt.task is not None:
            stack = stack_text(task_frames(attempt.task.get_coro()))
        logger.error(
            "%s: stuck: %s %.1f s ago, and it still runs; its slot is free now, and its end will "
            "not count; it hangs at:\n%s",
            attempt.job.ref,
            _WHY[reason],
            ignored_s,
            stack,
            extra=attempt.label,
        )
        if self._events.active:
            info = attempt.info
            self._events.emit(
                events.JobStuck(
                    info.ref, info.name, info.number, reason.value, ignored_s, stack, info=info
                )
            )
        # A time-out is retried as one. Its error tells where the attempt hung.
        hung = asyncio.CancelledError()
        hung.add_note(f"It was ignored for {ignored_s:.1f} s. The attempt hung at:\n{stack}")
        settlement = self._processor.settler.error(attempt, hung)
        self._processor.running.let_go(attempt)
        self._processor.settle(settlement)
