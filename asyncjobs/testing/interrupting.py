"""Stops a worker of a test at a step of a job, as a deploy does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.steps import Step
from asyncjobs.testing.calls import UNSET
from asyncjobs.testing.matching import matches
from asyncjobs.testing.rounds import working_now

__all__ = ["Interruption", "interrupt_at"]

ADVANCE: Final = "advance"
"""The method of a step that an interruption waits for."""


class Interruption:
    """What `interrupt_at` waits for. `has_happened` says whether the job came to that place."""

    def __init__(self, step: str, cursor: Any) -> None:
        self.has_happened = False
        self._step = step
        self._cursor = cursor

    def fits(self, step: str, cursor: Any) -> bool:
        """Whether the job has come to the place. Once only: then the job goes on."""
        # rule:29 an interruption comes once, and the job goes on after it
        if self.has_happened or step != self._step:
            return False
        self.has_happened = self._cursor is UNSET or matches(self._cursor, cursor)
        return self.has_happened


@contextmanager
def interrupt_at(step: str, cursor: Any = UNSET) -> Iterator[Interruption]:
    """Stop the worker when a job advances this step to this cursor, once, as a deploy does.

    The attempt hears of the stop, is cancelled at that `await step.advance(...)`, and its job is
    given back. So `drain` returns with one `released` job, and the next `drain` resumes it.

    step: the name of the step.
    cursor: a value or a pattern, as in `assert_enqueued`; by default the first `advance` counts.

    Raises AssertionError at the end of the block if no job has come to that place.
    """
    __tracebackhide__ = True
    if not isinstance(step, str):
        raise UsageError(f"interrupt_at() takes the name of a step, not {shown(step)}")
    interruption = Interruption(step, cursor)
    advance = Step.advance

    async def advance_or_stop(self: Step[Any], to: Any) -> None:
        await advance(self, to)
        worker = working_now()
        if worker is not None and interruption.fits(self.name, to):
            worker.interrupt()
            # The stop cancels this attempt here, and nowhere else.
            await asyncio.Event().wait()

    setattr(Step, ADVANCE, advance_or_stop)
    try:
        yield interruption
    finally:
        setattr(Step, ADVANCE, advance)
    if not interruption.has_happened:
        wanted = "" if cursor is UNSET else f" to {shown(cursor)}"
        raise AssertionError(f"no job has advanced the step {step!r}{wanted}")
