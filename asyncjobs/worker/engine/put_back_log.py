"""What the log says of jobs that this worker puts back because it does not have their function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.job import TakenJob
from asyncjobs.worker.engine.attempt import label_of

__all__ = ["PutBackLog"]

logger = GuardedLog("asyncjobs.worker")

AGAIN_S: Final = 60.0
"""A deploy may put back thousands of jobs: each problem has one line in so many seconds."""
MOST_PROBLEMS: Final = 1_000
MOST_NEAR: Final = 20
"""Unknown names of a minute for which a near one is looked for."""


class PutBackLog:
    """Owns when each problem was logged last. Bounded."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._written_s: dict[str, float] = {}
        self.near: Callable[[str], str | None] = lambda name: None
        """The name of a job function here that is near to one that is not."""

    def write(self, job: TakenJob, name: str, problem: str) -> None:
        """This job of the function `name` is put back because of `problem`."""
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
        """Most often one module is imported under two names, from two folders."""
        # Looking for it takes a while: not for each of thousands of foreign names.
        near = self.near(name) if len(self._written_s) <= MOST_NEAR else None
        if near is None:
            return ""
        return f", but {near!r}: start enqueuers and workers in one folder, or write aliases=[...]"
