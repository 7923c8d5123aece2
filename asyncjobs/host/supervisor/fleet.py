"""The live processes, and the tasks that look after them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.supervisor.child import Child

__all__ = ["Fleet"]

logger = GuardedLog("asyncjobs.worker")


class Fleet:
    """Owns the worker processes from their start to their end. Decides nothing.

    command: starts one process. The process finds its ParentLink in the environment.
    reports: whether the processes have to report their health.
    on_fault: called when a task that looks after them has failed.
    """

    def __init__(
        self, command: Sequence[str], *, reports: bool, on_fault: Callable[[BaseException], None]
    ) -> None:
        self._command = command
        self._reports = reports
        self._on_fault = on_fault
        self._life: tuple[int, int] = (-1, -1)
        self._alive: set[Child] = set()
        self._current: dict[int, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Whether any is alive."""
        return bool(self._alive)

    def open(self) -> None:
        # The children get the reading end. Only this process holds the other one. When it is gone,
        # however it has died, the system closes that end, and the children notice.
        self._life = os.pipe()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for end in self._life:
            os.close(end)

    def start(self, number: int) -> Child:
        """Start one more process. Raises OSError."""
        child = Child(self._command, number, self._life[0], reports=self._reports)
        self._alive.add(child)
        return child

    def choose(self, child: Child) -> None:
        """From now on this is the process of its number."""
        self._current[child.number] = child

    def current(self, number: int) -> Child | None:
        return self._current.get(number)

    def children(self) -> dict[int, Child]:
        """The current process of each number that was started. From any thread."""
        return self._current.copy()

    def bury(self, child: Child) -> None:
        """It has ended."""
        self._alive.discard(child)

    def stop(self, number: int, times: int) -> None:
        """Pass a signal on to all processes that have got fewer than `times`."""
        for child in self._alive:
            child.stop(number, times)

    def kill_stubborn(self) -> None:
        """Kill all that are left. A process ends by itself, unless a job lets no thread run."""
        for child in self._alive:
            logger.error("process %d (pid %d) does not end; it is killed", child.number, child.pid)
            child.kill()

    async def kill(self, after_s: float) -> None:
        """Wait until all have ended. After `after_s`, kill those that are left."""
        if self._alive:
            await asyncio.wait([child.ended for child in self._alive], timeout=after_s)
        for child in self._alive:
            child.kill()

    def look_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this as a task until it ends, or until `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # Nobody awaits the task. Without this its error would be lost, and the parent would not
            # see when a process ends.
            self._on_fault(error)
