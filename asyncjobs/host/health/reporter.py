"""Reports the condition again and again, from a thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.health.condition import Condition, Look

__all__ = ["REPORT_S", "Reporter", "Teller"]

logger = GuardedLog("asyncjobs.worker")

REPORT_S: Final = 2.0
"""The longest pause between two reports."""
END_S: Final = 2.0
"""How long `stop` waits for the thread."""


class Teller(Protocol):
    """One way to report the condition. Used by one thread."""

    def tell(self, condition: Condition) -> None:
        """Raises OSError when it cannot report now. The next report tries again."""
        ...

    def close(self) -> None:
        """Nothing more is reported."""
        ...


class Reporter:
    """Owns a thread that looks and reports every `interval_s`, and at once when woken."""

    def __init__(self, look: Look, tellers: Sequence[Teller], interval_s: float) -> None:
        self._look = look
        self._tellers = tellers
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._is_over = False
        self._failing: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="asyncjobs-health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Report now: something has changed that others wait for."""
        self._wake.set()

    def stop(self) -> None:
        """Blocks until nothing is reported any more, or for `END_S`."""
        self._is_over = True
        self._wake.set()
        self._thread.join(END_S)

    def _run(self) -> None:
        while not self._is_over:
            self._report()
            self._wake.wait(self._interval_s)
            self._wake.clear()
        for number, teller in enumerate(self._tellers):
            try:
                teller.close()
            except OSError as error:
                self._complain(number, error)

    def _report(self) -> None:
        try:
            condition = self._look()
        except Exception:
            # No report is the honest answer: the system that waits for one will act.
            logger.exception("the worker's health could not be checked")
            return
        for number, teller in enumerate(self._tellers):
            try:
                teller.tell(condition)
            except OSError as error:
                self._complain(number, error)
            else:
                self._failing.discard(number)

    def _complain(self, number: int, error: OSError) -> None:
        """Log once for several failures in a row."""
        if number not in self._failing:
            self._failing.add(number)
            name = type(self._tellers[number]).__name__
            logger.warning("%s cannot report the health, trying again: %s", name, error)
