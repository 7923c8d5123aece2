"""Adds up what attempts took, for the figures of the history. Does no I/O.

An exchange may settle five hundred jobs. So what is done for each of them is done by functions in
C, for all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter, sub
from typing import Any, Final, TypeAlias

from asyncjobs.model.figures import MINUTE_MS, Figures
from asyncjobs.model.histogram import bucket_of_ms, bucket_of_s
from asyncjobs.model.history import Run
from asyncjobs.model.job import State
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.worker.engine.doubt import Unanswered

__all__ = ["RunCounts", "that_count", "that_were_applied"]

MOST_ROWS: Final = 1_000
"""So many runs are kept as they are. It bounds the memory, and adding up together is cheaper."""

# The places in a `Run`.
_NAME: Final = itemgetter(0)
_READY_MS: Final = itemgetter(3)
_BEGAN_MS: Final = itemgetter(4)
_BEGAN_S: Final = itemgetter(5)
_ENDED_S: Final = itemgetter(6)
# The places in a row.
_QUEUE: Final = itemgetter(0)
_STATE: Final = itemgetter(1)
_RUN: Final = itemgetter(2)
_ROW: Final = attrgetter("job.queue", "state", "run")

_Row: TypeAlias = tuple[str, State, Any]
_Key: TypeAlias = tuple[str, str]


class _Open:
    """Figures that are still counted: those of one function in one minute."""

    __slots__ = ("attempts", "failed", "queued", "ran")

    def __init__(self) -> None:
        self.attempts = 0
        self.failed = 0
        self.queued: Counter[int] = Counter()
        self.ran: Counter[int] = Counter()


class RunCounts:
    """Owns what was not told to the store yet."""

    def __init__(self, *, is_on: bool = True) -> None:
        """`is_on`: False if the history is switched off. Then nothing is counted."""
        self.is_on = is_on
        self._rows: list[_Row] = []
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
        minute = now_ms // MINUTE_MS
        # Rows carry no minute of their own: all that wait here are of one.
        if minute != self._minute or len(self._rows) >= MOST_ROWS:
            self._add_up()
            self._minute = minute

    def add(self, settlements: Sequence[Settlement]) -> None:
        """These count."""
        self._rows += map(_ROW, settlements)

    def take(self) -> list[Figures]:
        """What was counted since the last call."""
        self._add_up()
        found = [
            Figures(
                queue,
                function,
                minute * MINUTE_MS,
                counted.attempts,
                counted.failed,
                dict(counted.queued),
                dict(counted.ran),
            )
            for (queue, function, minute), counted in self._open.items()
        ]
        self._open.clear()
        return found

    def _add_up(self) -> None:
        rows = self._rows
        if not rows:
            return
        self._rows = []
        failed: Counter[_Key] = Counter()
        if [*map(_STATE, rows)].count(State.SUCCEEDED) < len(rows):
            # Some have not run here, or have failed. Most of the time that is a short look, for
            # a whole exchange of successes has neither.
            rows = [row for row in rows if row[2] is not None and _BEGAN_MS(row[2])]
            failed.update(
                (queue, _NAME(run)) for queue, state, run in rows if _has_failed(state, run)
            )
        # From here on nothing is done for a single row in Python. A comprehension would cost each
        # job as much as its settlement does.
        runs = [*map(_RUN, rows)]
        keys = [*zip(map(_QUEUE, rows), map(_NAME, runs), strict=True)]
        for (queue, name), number in Counter(keys).items():
            self._of(queue, name).attempts += number
        for (queue, name), number in failed.items():
            self._of(queue, name).failed += number
        waited = map(bucket_of_ms, map(sub, map(_BEGAN_MS, runs), map(_READY_MS, runs)))
        lasted = map(bucket_of_s, map(sub, map(_ENDED_S, runs), map(_BEGAN_S, runs)))
        for ((queue, name), bucket), number in Counter(zip(keys, waited, strict=True)).items():
            self._of(queue, name).queued[bucket] += number
        for ((queue, name), bucket), number in Counter(zip(keys, lasted, strict=True)).items():
            self._of(queue, name).ran[bucket] += number

    def _of(self, queue: str, name: str) -> _Open:
        key = (queue, name, self._minute)
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = _Open()
        return found


def _has_failed(state: State, run: Run) -> bool:
    """Whether the attempt has raised: its job is dead, or runs again for it."""
    return state in (State.DEAD, State.SCHEDULED) and any(run[7:])


def that_count(settlements: Sequence[Settlement], exchange: Exchange) -> Sequence[Settlement]:
    """Those of a trade that the store has recorded."""
    if not (exchange.not_yours or exchange.away or exchange.lost):
        return settlements
    # Not by the settlements themselves: to hash one would hash its envelope.
    void = {(each.job.queue, each.job.receipt) for each in exchange.not_yours}
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
