"""Lanes in memory: jobs that wait at one gate, in order, and lines in which lanes stand."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from asyncjobs.model.job import Priority
from asyncjobs.model.terms import Gate
from asyncjobs.store.memory.structures import ReadyList, Waits

__all__ = ["KeyName", "Lane", "LaneName", "LimitKey", "Line", "Use", "name_of"]

KeyName: TypeAlias = tuple[str, str]
"""A limit, and a key of it."""

_tickets: Final = count(1)


class LaneName(NamedTuple):
    """What jobs of one lane have in common: limits, keys and tokens, and the turn."""

    uses: tuple[tuple[str, str, int], ...]
    turn: str


def name_of(gate: Gate) -> LaneName:
    """The lane for jobs with this gate."""
    return LaneName(tuple((use.limit, use.key, use.tokens) for use in gate.uses), gate.turn)


class Comes(Waits, Protocol):
    """A job as lanes see it."""

    ready_ms: int
    is_marked: bool


J = TypeVar("J", bound=Comes)


class Use(NamedTuple, Generic[J]):
    """A key that the jobs of a lane have to pass, and for how many starts each of them counts."""

    key: LimitKey[J]
    tokens: int


class Lane(Generic[J]):
    """Jobs that wait at one gate. `share` is how many jobs it gets where another lane gets one.

    `turn` is when it is served next, in the virtual time of its `priority`, which is that of its
    first job. It stands in one line at the most: in one of the lanes that only need a worker, or in
    that of a key without room.
    """

    __slots__ = ("line", "lists", "name", "priority", "share", "ticket", "turn", "uses")

    def __init__(self, name: LaneName, uses: tuple[Use[J], ...], turn: float) -> None:
        self.name = name
        self.uses = uses
        self.share = 1
        self.turn = turn
        self.priority = Priority.CRITICAL
        self.ticket = 0
        self.line: Line[J] | None = None
        self.lists: tuple[ReadyList[J], ...] = tuple(ReadyList() for _ in Priority)

    def __len__(self) -> int:
        return sum(map(len, self.lists))

    def __iter__(self) -> Iterator[J]:
        for jobs in self.lists:
            yield from jobs

    @property
    def barred_at(self) -> LimitKey[J] | None:
        """The key that its jobs wait for; None while they only need a worker."""
        return None if self.line is None else self.line.key

    def keys(self) -> Iterator[LimitKey[J]]:
        """The keys that its jobs have to pass."""
        return (key for key, _ in self.uses)

    @property
    def is_in_line(self) -> bool:
        """Whether its jobs only need a worker."""
        return self.line is not None and self.line.key is None

    def first_priority(self) -> Priority | None:
        """The priority of the first job that may be taken, and is of no paused function."""
        found = (p for p, jobs in zip(Priority, self.lists, strict=True) if jobs.has_next())
        return next(found, None)

    def has_next(self) -> bool:
        """Whether one may be taken that is of no paused function."""
        return self.first_priority() is not None

    def has_unsuspected(self) -> bool:
        """Whether one waits that was never running when a worker died."""
        return any(jobs.has_unsuspected() for jobs in self.lists)

    def crashes(self) -> list[int]:
        """The numbers of crashes of those that were given back."""
        return [crashes for jobs in self.lists for crashes in jobs.crashes()]

    def oldest_ms(self) -> int | None:
        """Since when the oldest of its jobs is ready."""
        firsts = [jobs.oldest() for jobs in self.lists]
        return min((job.ready_ms for job in firsts if job is not None), default=None)


class Line(Generic[J]):
    """Lanes in the order of their priorities and turns. Those of one turn stand as they came.

    `key` is what they wait for; None: a worker.
    """

    __slots__ = ("_count", "_heap", "key")

    def __init__(self, key: LimitKey[J] | None = None) -> None:
        self.key = key
        self._heap: list[tuple[int, float, int, Lane[J]]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Lane[J]]:
        """All of them, in any order."""
        return (lane for _, _, ticket, lane in self._heap if self._stands(lane, ticket))

    def _stands(self, lane: Lane[J], ticket: int) -> bool:
        return lane.line is self and lane.ticket == ticket

    def put(self, lane: Lane[J]) -> None:
        """Let a lane stand here that stands nowhere."""
        lane.line = self
        lane.ticket = next(_tickets)
        self._count += 1
        # Turns of two priorities are times by two clocks, which say nothing of each other.
        heappush(self._heap, (lane.priority, lane.turn, lane.ticket, lane))
        # Lanes that were removed stay in the heap until they would be next.
        if len(self._heap) > 2 * self._count + 64:
            self._heap = [item for item in self._heap if self._stands(item[3], item[2])]
            heapify(self._heap)

    def remove(self, lane: Lane[J]) -> None:
        """Take out a lane that stands here."""
        lane.line = None
        self._count -= 1

    def first(self) -> Lane[J] | None:
        """The lane whose turn is next; it stays."""
        while self._heap:
            _, _, ticket, lane = self._heap[0]
            if self._stands(lane, ticket):
                return lane
            heappop(self._heap)
        return None

    def pop(self) -> Lane[J] | None:
        """Take out the lane whose turn is next."""
        lane = self.first()
        if lane is not None:
            self.remove(lane)
        return lane


class LimitKey(Generic[J]):
    """One key of a limit: its permits, its rate, and the lanes that wait for it.

    `holders` are the jobs that have a permit, the longest holder first, and `outside` those who are
    no job. `paid_us` is when all starts so far are paid for. Nobody passes before `closed_ms`.
    """

    __slots__ = (
        "barred",
        "closed_ms",
        "closed_since_ms",
        "holders",
        "lanes",
        "name",
        "outside",
        "paid_us",
    )

    def __init__(self, name: KeyName) -> None:
        self.name = name
        self.holders: dict[str, J] = {}
        self.outside: set[str] = set()
        self.paid_us = 0
        self.closed_ms = 0
        self.closed_since_ms = 0
        # Not a set: its order would be another one in each process, and no run could be replayed.
        self.lanes: dict[Lane[J], None] = {}
        """All lanes whose jobs have to pass it."""
        self.barred: Line[J] = Line[J](self)

    @property
    def running(self) -> int:
        """The permits that are taken."""
        return len(self.holders) + len(self.outside)

    def waiting(self) -> int:
        """The jobs that wait because of it."""
        return sum(map(len, self.barred))
