"""Records what happens to the jobs of a test: enqueues, events, results, log lines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from asyncjobs.jobs.context import _current
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import Seconds
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.events import Event
from asyncjobs.model.job import JobRecord, NewJob, Priority, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Placed
from asyncjobs.testing.calls import UNSET, EnqueuedCall, Expected
from asyncjobs.testing.wall_clock import WallClock

__all__ = ["Recorder"]

E = TypeVar("E", bound=Event)
R = TypeVar("R")

MOST_SHOWN: Final = 10
"""Calls that a failed assertion lists. The nearest come first."""


class Recorder:
    """What has happened to the jobs of an app since the test began.

    enqueued: the jobs that were enqueued, oldest first.
    events: the events, oldest first.
    """

    def __init__(self, registry: JobRegistry, clock: WallClock) -> None:
        self.enqueued: list[EnqueuedCall] = []
        self.events: list[Event] = []
        self._registry = registry
        self._clock = clock
        self._results: list[tuple[JobRef, str, Any]] = []
        self._logs: list[tuple[JobRef, str, logging.LogRecord]] = []
        self.log_handler = _Listener(self._logs)

    def clear(self) -> None:
        """Forget all of it."""
        for each in (self.enqueued, self.events, self._results, self._logs):
            each.clear()

    # ── what is asked ────────────────────────────────────────────────────────────────

    def of(self, kind: type[E], function: JobFunction[..., Any] | None = None) -> list[E]:
        """The events of this kind, subclasses included; of this job function alone if it is
        given."""
        return [
            event
            for event in self.events
            if isinstance(event, kind)
            and (function is None or getattr(event, "name", None) == function.name)
        ]

    def results(self, function: JobFunction[..., Any] | None = None) -> list[Any]:
        """The values that jobs have returned, in the order in which they succeeded. A job function
        with `result_ttl=0` keeps none."""
        return [value for _, name, value in self._results if _is_of(name, function)]

    def logs(
        self, function: JobFunction[..., Any] | None = None, *, job: JobRef | None = None
    ) -> list[logging.LogRecord]:
        """What was logged from inside of jobs, as far as the levels of your loggers let it
        through."""
        return [
            record
            for ref, name, record in self._logs
            if _is_of(name, function) and job in (None, ref)
        ]

    def assert_enqueued(
        self,
        function: JobFunction[..., Any] | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        at: datetime | None = UNSET,
        within: Seconds | None = None,
        priority: Priority | int | str | None = None,
        count: int | None = None,
    ) -> list[EnqueuedCall]:
        """Fail unless such a job was enqueued in this test, whether or not it has run since.
        Returns those that fit.

        What is not named may be anything. It makes no difference whether the enqueue named a
        parameter. A value may be a pattern: a function is a predicate, `ANY` fits everything, and
        a `Subset` larger dicts.

        args: values or patterns by position.
        kwargs: values or patterns by name.
        queue: the queue.
        at: an aware datetime: due then, to the second. None: due at once.
        within: due by this time from now (seconds or timedelta).
        priority: the priority, by name or as a Priority.
        count: exactly so many such jobs; by default at least one.

        Raises AssertionError, which lists what was enqueued instead, without sensitive values.
        Raises UsageError for an expectation that no job can meet.
        """
        __tracebackhide__ = True
        expected = self._expected(function, args, kwargs, queue, priority, at, within)
        found = [call for call in self.enqueued if not expected.misfits(call)]
        if found and count in (None, len(found)):
            return found
        if count == len(found) == 0:
            return found
        wanted = "was not enqueued"
        if count is not None:
            wanted = f"was enqueued {len(found)} times and not {count}"
        raise AssertionError(f"{expected.text()} {wanted}; {self._instead(expected)}")

    def refute_enqueued(
        self,
        function: JobFunction[..., Any] | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        at: datetime | None = UNSET,
        within: Seconds | None = None,
        priority: Priority | int | str | None = None,
    ) -> None:
        """Fail if such a job was enqueued in this test. Without a job function: if any was.

        The arguments are those of `assert_enqueued`. Raises AssertionError, which lists the jobs.
        """
        __tracebackhide__ = True
        expected = self._expected(function, args, kwargs, queue, priority, at, within)
        # rule:29 a refutation looks at every job that was enqueued
        found = [call for call in self.enqueued if not expected.misfits(call)]
        if found:
            lines = "".join(f"\n  {call.text()}" for call in found[:MOST_SHOWN])
            raise AssertionError(
                f"{expected.text()} was enqueued {len(found)} times, and should not be:{lines}"
            )

    def _expected(
        self,
        function: JobFunction[..., Any] | None,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        queue: str | None,
        priority: Priority | int | str | None,
        at: datetime | None,
        within: Seconds | None,
    ) -> Expected:
        return Expected.of(
            function,
            from_ms(self._clock.now_ms()),
            args=args,
            kwargs=kwargs,
            queue=queue,
            priority=priority,
            at=at,
            within=within,
        )

    def _instead(self, expected: Expected) -> str:
        """What was enqueued, the nearest first."""
        if not self.enqueued:
            return "nothing was enqueued in this test"
        told = [(expected.misfits(call), call) for call in self.enqueued]
        # A job of the same function is nearer than any other one, and then fewer differences.
        told.sort(key=lambda each: (each[1].name != _name(expected), len(each[0])))
        lines = [f"\n  {call.text()}{_why(why, call, expected)}" for why, call in told[:MOST_SHOWN]]
        if len(told) > MOST_SHOWN:
            lines.append(f"\n  … and {len(told) - MOST_SHOWN} more")
        return f"enqueued in this test:{''.join(lines)}"

    # ── what is told ─────────────────────────────────────────────────────────────────

    def hear(self, event: Event) -> None:
        """An event of the app."""
        self.events.append(event)

    def stored(self, job: NewJob, place: Placed | None) -> None:
        """An enqueue has stored a job."""
        ref = job.ref
        if place is not None:
            if place.how == "there":
                return  # nothing was stored: another job stands for this call
            ref = place.ref
        if place is not None and place.how == "replaced":
            self.enqueued = [call for call in self.enqueued if call.ref != ref]
        due_ms = job.at_ms
        if job.delay_ms > 0:
            due_ms = self._clock.now_ms() + job.delay_ms
        self._add(ref, job.priority, job.envelope, due_ms)

    def fired(self, record: JobRecord | None) -> None:
        """A schedule has made this job."""
        if record is not None and record.envelope is not None:
            priority = record.priority
            if priority is None:
                priority = Priority.NORMAL
            self._add(record.ref, priority, record.envelope, record.due_ms)

    def _add(self, ref: JobRef, priority: int, envelope: bytes, due_ms: int | None) -> None:
        try:
            call = Envelope.decode(envelope)
        except (BadRecord, NewerEnvelope):
            return  # stored by hand, in a test of what cannot be read
        at = None
        if due_ms is not None:
            at = from_ms(due_ms)
        function = self._registry.find(call.name)
        self.enqueued.append(
            EnqueuedCall(
                call.name,
                call.args,
                call.kwargs,
                ref,
                Priority(priority),
                at,
                envelope,
                function,
            )
        )

    def settled(self, settlement: Settlement) -> None:
        """An attempt has ended, and its end counts."""
        if settlement.effects is not None:
            for job in settlement.effects.jobs:
                self.stored(job, None)
        if settlement.state is not State.SUCCEEDED or settlement.outcome is None:
            return
        outcome = Outcome.decode(settlement.outcome)
        if not outcome.unavailable:
            self._results.append((settlement.job.ref, outcome.name, outcome.value))


class _Listener(logging.Handler):
    """Hears what is logged from inside of jobs."""

    def __init__(self, logs: list[tuple[JobRef, str, logging.LogRecord]]) -> None:
        super().__init__()
        self._heard = logs

    def emit(self, record: logging.LogRecord) -> None:
        current = _current.get(None)
        if current is not None:
            context = current.context
            self._heard.append((context.ref, context.name, record))


def _is_of(name: str, function: JobFunction[..., Any] | None) -> bool:
    return function is None or function.name == name


def _name(expected: Expected) -> str | None:
    if expected.function is None:
        return None
    return expected.function.name


def _why(misfits: Sequence[str], call: EnqueuedCall, expected: Expected) -> str:
    # Of another function everything differs, which its name says.
    if not misfits or call.name != _name(expected):
        return ""
    return f"  ← {', '.join(misfits)}"
