"""Starts processes again after a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncjobs.host.supervisor.patience import Patience

__all__ = ["Replacements"]


class Replacements:
    """Counts the failures in a row of each number, and owns the timers of the next starts.

    start: called with a number when its pause is over.
    """

    def __init__(self, patience: Patience, start: Callable[[int], None]) -> None:
        self._patience = patience
        self._start = start
        self._failures: dict[int, int] = {}
        self._store_tries: dict[int, int] = {}
        """Starts in a row that could not reach the store. They never end the whole."""
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def __bool__(self) -> bool:
        """Whether any start is planned."""
        return bool(self._timers)

    def found_store(self, number: int) -> None:
        """This number has reached its store: the next outage begins with a short pause."""
        self._store_tries.pop(number, None)

    def is_well(self, number: int) -> None:
        """The next failure of this number is a first one in a row."""
        self._failures[number] = 0

    def failed(self, number: int, ready_s: float) -> int | None:
        """Count a failure of a process that was ready for `ready_s`.

        Returns None if it may be started again, otherwise how many failures in a row it has had.
        """
        failures = self._patience.failures(self._failures.get(number, 0), ready_s)
        self._failures[number] = failures
        if failures < self._patience.limit:
            return None
        return failures

    def start_after_failure(self, number: int) -> float:
        """Start it again after a pause that grows with its failures. Returns the pause."""
        return self._start_later(number, self._failures[number])

    def start_after_outage(self, number: int) -> float:
        """The same after its store was away. That may happen any number of times: it is not the
        fault of the process."""
        tries = self._store_tries.get(number, 0) + 1
        self._store_tries[number] = tries
        return self._start_later(number, tries)

    def _start_later(self, number: int, times: int) -> float:
        delay_s = self._patience.delay_s(times)
        loop = asyncio.get_running_loop()
        self._timers[number] = loop.call_later(delay_s, self._start_now, number)
        return delay_s

    def _start_now(self, number: int) -> None:
        del self._timers[number]
        self._start(number)

    def forget(self, number: int) -> None:
        if timer := self._timers.pop(number, None):
            timer.cancel()

    def forget_all(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
