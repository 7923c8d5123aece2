"""The data structures that a queue in memory consists of. They know no job states."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from typing import Generic, Protocol, TypeVar

__all__ = ["ReadyList", "Timed"]

V = TypeVar("V")


class Timed(Generic[V]):
    """Values by key, each with a time in ms. The earliest is found at once.

    Entries of one time come out in the order in which they were put.
    """

    __slots__ = ("_heap", "_items", "_serials")

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, int, V]] = {}
        self._heap: list[tuple[int, int, str]] = []
        self._serials = count()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: str, ms: int, value: V) -> None:
        """Store `value` in place of what was there under this key."""
        serial = next(self._serials)
        # The serial keeps the order of equal times, and tells the new entry of the heap from an
        # old one of the same key.
        self._items[key] = (ms, serial, value)
        heappush(self._heap, (ms, serial, key))
        # Removed entries stay in the heap until their time, which may be years away:
        # without this, scheduling and cancelling over and over would fill the memory.
        if len(self._heap) > 2 * len(self._items) + 64:
            self._heap = [(ms, serial, key) for key, (ms, serial, _) in self._items.items()]
            heapify(self._heap)

    def get(self, key: str) -> V | None:
        """The value, whatever its time."""
        item = self._items.get(key)
        return None if item is None else item[2]

    def time_of(self, key: str) -> int | None:
        """The time of this key in ms, None when it is not there."""
        item = self._items.get(key)
        return None if item is None else item[0]

    def times(self) -> Iterator[tuple[int, str]]:
        """Every time in ms with its key, in any order."""
        return ((item[0], key) for key, item in self._items.items())

    def values(self) -> Iterator[V]:
        """Every value, in any order."""
        return (item[2] for item in self._items.values())

    def after(self, key: str, now_ms: int) -> V | None:
        """The value, unless its time has come."""
        item = self._items.get(key)
        if item is None or item[0] <= now_ms:
            return None
        return item[2]

    def pop(self, key: str) -> V | None:
        """Remove and return the value."""
        item = self._items.pop(key, None)
        return None if item is None else item[2]

    def first_ms(self) -> int | None:
        """The earliest time, None when empty."""
        heap = self._heap
        while heap:
            ms, serial, key = heap[0]
            item = self._items.get(key)
            if item is not None and item[1] == serial:
                return ms
            # The entry was removed or replaced meanwhile.
            heappop(heap)
        return None

    def pop_first(self) -> V:
        """Remove and return the value of the earliest time. Raises KeyError when empty."""
        if self.first_ms() is None:
            raise KeyError("nothing is stored")
        return self._items.pop(heappop(self._heap)[2])[2]

    def pull_back(self, from_ms: int, by_ms: int) -> None:
        """Move all times after `from_ms` back: the clock was set back by so much."""
        for key, (ms, _, value) in [*self._items.items()]:
            if ms > from_ms:
                self.put(key, ms - by_ms, value)

    def drop_until(self, now_ms: int) -> None:
        """Remove everything whose time has come."""
        while (first := self.first_ms()) is not None and first <= now_ms:
            self.pop_first()


class Waits(Protocol):
    serial: int
    crashes: int


J = TypeVar("J", bound=Waits)


class GivenBack(Generic[J]):
    """Jobs that were taken before and came back, by serial."""

    __slots__ = ("_jobs", "_order")

    def __init__(self) -> None:
        self._jobs: dict[int, J] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[J]:
        return iter(self._jobs.values())

    def __contains__(self, serial: int) -> bool:
        return serial in self._jobs

    def put(self, job: J) -> None:
        self._jobs[job.serial] = job
        heappush(self._order, job.serial)

    def remove(self, job: J) -> None:
        del self._jobs[job.serial]

    def take(self) -> J | None:
        """Remove and return the oldest one, None when there is none."""
        # Jobs that were removed stay in the order until they would be next.
        while self._order:
            job = self._jobs.pop(heappop(self._order), None)
            if job is not None:
                return job
        return None


class ReadyList(Generic[J]):
    """The ready jobs of one priority: fresh ones, and those that were given back.

    Jobs that were given back keep their old order. They stand apart by the crashes they have
    been through, so that taking some never walks past the others. Jobs of a paused function stand
    aside, by its name: nobody takes them.
    """

    __slots__ = ("_aside", "_fresh", "_returned")

    def __init__(self) -> None:
        self._fresh: OrderedDict[int, J] = OrderedDict()
        self._returned: dict[int, GivenBack[J]] = {}
        self._aside: dict[str, GivenBack[J]] = {}

    def __len__(self) -> int:
        """All of them, those that stand aside, too."""
        return len(self._fresh) + sum(map(len, self._behind()))

    def _behind(self) -> Iterator[GivenBack[J]]:
        yield from self._returned.values()
        yield from self._aside.values()

    def has_next(self) -> bool:
        """Whether one may be taken."""
        return bool(self._fresh) or any(self._returned.values())

    def __iter__(self) -> Iterator[J]:
        """All of them, in any order."""
        yield from self._fresh.values()
        for jobs in self._behind():
            yield from jobs

    def append(self, job: J) -> None:
        """Add a job at the end."""
        self._fresh[job.serial] = job

    def give_back(self, job: J) -> None:
        """Put a job that was taken back into its old place."""
        self._returned.setdefault(job.crashes, GivenBack()).put(job)

    def remove(self, job: J) -> None:
        """Take out a job that may not be the next one."""
        if self._fresh.pop(job.serial, None) is not None:
            return
        # It may stand aside under any name: the envelope is not read again for that.
        for jobs in self._behind():
            if job.serial in jobs:
                jobs.remove(job)
                return

    def set_aside(self, job: J, function: str) -> None:
        """Put a job that was taken where nobody takes it: its function is paused."""
        self._aside.setdefault(function, GivenBack()).put(job)

    def bring_back(self, function: str) -> None:
        """Put the jobs of a function that is resumed back into their old places."""
        for job in self._aside.pop(function, ()):
            self.give_back(job)

    def oldest(self) -> J | None:
        """The job that became ready first, None when there is none. It stays."""
        firsts = [*islice(self._fresh.values(), 1), *chain.from_iterable(self._behind())]
        return min(firsts, key=lambda job: job.serial, default=None)

    def crashes(self) -> list[int]:
        """The numbers of crashes for which jobs were given back, fewest first."""
        return sorted(crashes for crashes, jobs in self._returned.items() if jobs)

    def has_unsuspected(self) -> bool:
        """Whether a job waits that was never running when a worker died."""
        return bool(self._fresh or self._returned.get(0))

    def take_returned(self, crashes: int) -> J | None:
        """Take the next job that was given back with so many crashes, None when there is none."""
        given_back = self._returned.get(crashes)
        if given_back is None:
            return None
        job = given_back.take()
        if job is None:
            del self._returned[crashes]
        return job

    def take_new(self) -> J | None:
        """Take the next fresh job, None when there is none."""
        if not self._fresh:
            return None
        return self._fresh.popitem(last=False)[1]
