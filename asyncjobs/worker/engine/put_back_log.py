"""Logs the jobs that this worker puts back because it does not have their function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.job import TakenJob
from asyncjobs.worker.engine.labels import label_of

__all__ = ["PutBackLog"]

logger = GuardedLog("asyncjobs.worker")

AGAIN_S: Final = 60.0
"""A deploy may put back thousands of jobs. Each problem has one line in this many seconds."""
MOST_PROBLEMS: Final = 1_000
MOST_NEAR: Final = 20
"""For how many unknown names a similar one is looked for."""


class PutBackLog:
    """Knows when each problem was last logged. Bounded."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._written_s: dict[str, float] = {}
        self.near: Callable[[str], str | None] = lambda name: None
        """Finds a job function here with a name that is similar to an unknown one."""

    def write(self, job: TakenJob, name: str, problem: str) -> None:
        """A job of the function `name` is put back because of `problem`."""
        now_s = self._clock_s()
        if now_s - self._written_s.get(problem, float("-inf")) < AGAIN_S:
            return
        if len(self._written_s) > MOST_PROBLEMS:
            self._written_s.clear()
        self._written_s[problem] = now_s
        logger.warning(
            "%s: put back: %s%s; deploy a worker that has it, or give new code a queue of its own",
            job.ref,
            problem,
            self._near_words(name),
            extra=label_of(job, name),
        )

    def _near_words(self, name: str) -> str:
        """A hint to a similar name. Most often one module was imported under two names, from two
        folders."""
        # The search takes a while, so it is not made for each of thousands of foreign names.
        near = None
        if len(self._written_s) <= MOST_NEAR:
            near = self.near(name)
        if near is None:
            return ""
        return f", but {near!r}: start enqueuers and workers in one folder, or write aliases=[...]"
