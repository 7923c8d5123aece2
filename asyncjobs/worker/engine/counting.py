"""Adds up what attempts took, for the figures of the history. Does no I/O.

An exchange may settle five hundred jobs. So what is done for each of them is done by functions in
C, for all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter, sub
from typing import Final

from asyncjobs.model.figures import MINUTE_MS, Figures
from asyncjobs.model.histogram import ENDS_MS, Histogram, histogram_of, merged
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.worker.engine.doubt import Unanswered

__all__ = ["RunCounts", "that_count", "that_were_applied"]

MOST_TIMES: Final = 1_000
"""So many times of a function are kept as they are. It bounds the memory, and it is cheaper to sort
more of them together."""

# By name: by place they cost a third more, for these are no plain tuples.
_JOB: Final = attrgetter("job")
_STATE: Final = attrgetter("state")
_RUN: Final = attrgetter("run")
_QUEUE: Final = attrgetter("queue")
_READY_MS: Final = attrgetter("ready_ms")
# The places in a `Run`.
_NAME: Final = itemgetter(0)
_BEGAN_MS: Final = itemgetter(3)
_BEGAN_S: Final = itemgetter(4)
_ENDED_S: Final = itemgetter(5)
ERROR: Final = 6


class _Open:
    """Figures that are still counted: those of one function in one minute."""

    __slots__ = ("attempts", "failed", "queued", "ran", "ran_s", "waited_ms")

    def __init__(self) -> None:
        self.attempts = 0
        self.failed = 0
        self.queued: Histogram = {}
        self.ran: Histogram = {}
        self.waited_ms: list[float] = []
        """How long attempts were queued that are not in the histogram yet."""
        self.ran_s: list[float] = []

    def add_up(self) -> None:
        """Put all times into their buckets."""
        self.attempts += len(self.ran_s)
        self.queued = merged(self.queued, histogram_of(self.waited_ms, ENDS_MS))
        self.ran = merged(self.ran, histogram_of(self.ran_s))
        self.waited_ms = []
        self.ran_s = []


class RunCounts:
    """Owns what was not told to the store yet."""

    def __init__(self, *, is_on: bool = True) -> None:
        """`is_on`: False if the history is switched off. Then nothing is counted."""
        self.is_on = is_on
        self._minute = 0
        self._open: dict[tuple[str, str, int], _Open] = {}

    def answered(self, settlements: Sequence[Settlement], exchange: Exchange) -> None:
        """The store has answered an exchange with these settlements."""
        if not self.is_on or not exchange.now_ms:
            return
        self.note_time(exchange.now_ms)
        if settlements:
            self.add(that_count(settlements, exchange))

    def recovered(self, sent: Unanswered, applied: Mapping[str, int]) -> None:
        """A resync has said what of an exchange without a reply has taken effect: `applied` is the
        last exchange that has, by queue."""
        if self.is_on and self._minute:
            # It counts for the minute of the last answer. That is when its jobs have ended.
            self.add(that_were_applied(sent.settlements, sent.sequence, applied))

    def note_time(self, now_ms: int) -> None:
        """By the store's clock."""
        self._minute = now_ms // MINUTE_MS

    def add(self, settlements: Sequence[Settlement]) -> None:
        """These count."""
        runs = [*map(_RUN, settlements)]
        is_success = [*map(_STATE, settlements)].count(State.SUCCEEDED) == len(runs)
        if runs and is_success and all(runs):
            jobs = [*map(_JOB, settlements)]
            queues = [*map(_QUEUE, jobs)]
            names, _, _, began_ms, began_s, ended_s = [*zip(*runs, strict=False)][:ERROR]
            # Nearly always a worker has many of the same kind, or few at all.
            if len(runs) == names.count(names[0]) == queues.count(queues[0]):
                found = self._of(queues[0], names[0])
                found.waited_ms += map(sub, began_ms, map(_READY_MS, jobs))
                found.ran_s += map(sub, ended_s, began_s)
                return
        for settlement in settlements:
            self._add_one(settlement)

    def _add_one(self, settlement: Settlement) -> None:
        run, job = settlement.run, settlement.job
        # One that has never begun has taken no time.
        if run is None or not _BEGAN_MS(run):
            return
        found = self._of(job.queue, _NAME(run))
        found.waited_ms.append(_BEGAN_MS(run) - job.ready_ms)
        found.ran_s.append(_ENDED_S(run) - _BEGAN_S(run))
        # It has raised: its job is dead, or runs again for it.
        if settlement.state in (State.DEAD, State.SCHEDULED) and any(run[ERROR : ERROR + 1]):
            found.failed += 1

    def take(self) -> list[Figures]:
        """What was counted since the last call."""
        found = []
        for (queue, name, minute), counted in self._open.items():
            counted.add_up()
            totals = (counted.attempts, counted.failed, counted.queued, counted.ran)
            found.append(Figures(queue, name, minute * MINUTE_MS, *totals))
        self._open.clear()
        return found

    def _of(self, queue: str, name: str) -> _Open:
        key = (queue, name, self._minute)
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = _Open()
        elif len(found.ran_s) >= MOST_TIMES:
            found.add_up()
        return found


def that_count(settlements: Sequence[Settlement], exchange: Exchange) -> Sequence[Settlement]:
    """Those of a trade that the store has recorded."""
    if not (exchange.not_yours or exchange.away or exchange.lost or exchange.full):
        return settlements
    # Not by the settlements themselves: to hash one would hash its envelope.
    without_effect = (*exchange.not_yours, *exchange.full)
    void = {(each.job.queue, each.job.receipt) for each in without_effect}
    gone = {*exchange.away, *exchange.lost}
    return [
        each
        for each in settlements
        if each.job.queue not in gone and (each.job.queue, each.job.receipt) not in void
    ]


def that_were_applied(
    settlements: Sequence[Settlement], sequence: int, applied: Mapping[str, int]
) -> Sequence[Settlement]:
    """Those of an exchange without a reply that have taken effect; see `RunCounts.recovered`."""
    return [each for each in settlements if applied.get(each.job.queue, -1) >= sequence]
