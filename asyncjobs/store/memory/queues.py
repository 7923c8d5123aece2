"""The queues of a store in memory, and who waits for something in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncjobs.errors import StoreError
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import NONE_AWAY, CancelCall
from asyncjobs.store.memory.control import ControlBoard
from asyncjobs.store.memory.crossing import Crossing
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.results import ResultWaiters
from asyncjobs.store.memory.rules import Rule
from asyncjobs.store.memory.wakes import Wakes
from asyncjobs.store.seam import Clock, StoreSettings

__all__ = ["Queues"]


class Queues:
    """What the store, its leases, its inspection and its dead letters share."""

    def __init__(self, settings: StoreSettings, now_ms: Clock) -> None:
        self.settings = settings
        self.now_ms = now_ms
        self.wakes = Wakes()
        self.results = ResultWaiters()
        self.control = ControlBoard()
        self.by_name: dict[str, Queue] = {}
        """Every queue that keeps something, also those that are not listed."""
        self.broken: dict[str, StoreError] = {}
        """Queues that a test has broken, and their errors."""
        self.rules: dict[str, Rule] = {}
        """Every schedule, by id."""
        self._forgotten: set[str] = set()
        """Queues that are not listed any more, and whose results are still kept."""

    def queue(self, name: str) -> Queue:
        """The queue of this name, made when it is new."""
        queue = self.by_name.get(name)
        if queue is None:
            queue = Queue(
                name,
                self.settings,
                self.wakes.signal,
                self.tell_finished,
                self.tell_cancel,
                Crossing(name, self.queue),
            )
            self.by_name[name] = queue
        return queue

    def tell_finished(self, ref: JobRef) -> None:
        """The job has ended: wake those who wait for that."""
        self.results.tell(ref)

    def tell_cancel(self, holder: str, ref: JobRef) -> None:
        """Somebody wants this running job to stop: tell the worker that has it."""
        self.control.tell(ref.queue, CancelCall(holder, ref))

    def reach(self, names: Iterable[str]) -> tuple[list[Queue], Mapping[str, StoreError]]:
        """The queues of these names, and the errors of those that do not answer."""
        if not self.broken:
            return [self.queue(name) for name in names], NONE_AWAY
        away = {name: self.broken[name] for name in names if name in self.broken}
        return [self.queue(name) for name in names if name not in away], away

    def sound(self, name: str) -> Queue:
        """The queue of this name. Raises its error when it is broken."""
        self.raise_broken([name])
        return self.queue(name)

    def raise_broken(self, names: Iterable[str]) -> None:
        """Raise the error of the first of these queues that is broken."""
        for name in names:
            if name in self.broken:
                raise self.broken[name]

    def note_used(self, name: str) -> None:
        """A job or a worker has come: the queue is listed again."""
        self._forgotten.discard(name)

    def keep_unlisted(self, names: Iterable[str]) -> None:
        """Something comes that makes no list of queues longer: queues that are new stay out."""
        self._forgotten.update(name for name in names if name not in self.by_name)

    def names(self) -> list[str]:
        """Every queue that is listed, sorted."""
        return sorted(self.by_name.keys() - self._forgotten)

    def forget(self, queue: Queue, now: int) -> None:
        """Drop a queue. It is only taken off the list while results of it are kept."""
        self.wakes.drop(queue.name)
        queue.finished.clear()
        # Results are kept in the queue, so it stays as long as they do.
        if queue.ended.has_results(now):
            self._forgotten.add(queue.name)
            return
        self._forgotten.discard(queue.name)
        del self.by_name[queue.name]

    def close(self) -> None:
        """End all waits. The jobs stay."""
        self.wakes.close()
        self.control.close()
        self.results.close()
