"""What the history is told of attempts: see `Settlement.run`."""

from __future__ import annotations

from collections.abc import Callable

from asyncjobs.model.history import Run, error_line, never_begun, with_labels
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["Teller"]


class Teller:
    """Adds to settlements how their attempts went, unless the history is switched off.
    `clock_s`: the loop's."""

    __slots__ = ("_clock_s", "is_on")

    def __init__(self, settings: AppSettings, clock_s: Callable[[], float]) -> None:
        self.is_on = settings.history > 0
        self._clock_s = clock_s

    def run(self, attempt: Attempt, kind: str = "", message: str = "") -> Run | None:
        """The attempt up to now, and the error that it has ended with."""
        if not self.is_on:
            return None
        error = ""
        # Nearly all attempts succeed, and an empty line costs a microsecond, too.
        if kind:
            # Cut here, and not by the store: a message may have 16,000 characters.
            error = error_line(kind, message)
        envelope = attempt.envelope
        if not attempt.has_begun:
            # As for `duration`: it has waited for a thread and was never called.
            return self.never(attempt, error)
        run = (
            attempt.function.name,
            envelope.attempt,
            envelope.enqueued_ms,
            attempt.began_ms,
            attempt.started_s,
            self._clock_s(),
            error,
        )
        return with_labels(run, envelope.headers)

    def never(self, attempt: Attempt, error: str = "") -> Run | None:
        """The attempt has never begun."""
        if not self.is_on:
            return None
        envelope = attempt.envelope
        run = never_begun(attempt.function.name, envelope.attempt, envelope.enqueued_ms, error)
        return with_labels(run, envelope.headers)

    def without_attempt(
        self, settlement: Settlement, name: str, number: int, error: str
    ) -> Settlement:
        """The job ends before it becomes an attempt."""
        if not self.is_on:
            return settlement
        return settlement.telling(never_begun(name, number, 0, error))
