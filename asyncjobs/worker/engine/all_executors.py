"""The executors of one worker, together."""

from __future__ import annotations

from collections.abc import Callable

from asyncjobs.jobs.context import JobContext
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.worker.engine.batches.collector import Batches
from asyncjobs.worker.engine.executors import Executor, OnLoop
from asyncjobs.worker.engine.places import Places
from asyncjobs.worker.engine.processes.executor import Processes
from asyncjobs.worker.engine.threads import Threads

__all__ = ["AllExecutors"]


class AllExecutors:
    """Owns the threads and the processes, and knows how many more jobs they can take.

    `processes`: None if no job function of the app needs them. `on_progress`: called with the
    progress that a job reports from its process.
    """

    def __init__(
        self,
        threads: Threads,
        processes: Processes | None,
        on_progress: Callable[[JobContext, bytes], None],
        batches: Batches,
    ) -> None:
        self.batches = batches
        self.each: dict[Isolation, Executor] = {
            Isolation.LOOP: OnLoop(),
            Isolation.THREAD: threads,
        }
        self.threads = threads
        self._processes = processes
        self._places: list[Places] = [threads.places]
        if processes is not None:
            self.each[Isolation.PROCESS] = processes
            self._places.append(processes.places)
            processes.on_progress = on_progress

    @property
    def has_places(self) -> bool:
        """Whether some jobs need a thread or a process besides the slot."""
        return any(each.queues for each in self._places)

    def most(self, arrived: int) -> dict[str, int]:
        """The most jobs that queues may hand out. `arrived`: how many jobs have come and were not
        started."""
        most: dict[str, int] = {}
        for places in self._places:
            for queue, count in places.most(arrived).items():
                # A queue of two kinds is open as long as neither of them keeps jobs waiting.
                most[queue] = min(count, most.get(queue, count))
        return most

    def end(self) -> None:
        """The worker takes no more jobs and will end: let those that run know."""
        self.batches.end()
        if self._processes is not None:
            self._processes.end()

    async def close(self) -> None:
        """Let the threads end by themselves, and end the processes."""
        self.threads.close()
        if self._processes is not None:
            await self._processes.close()
