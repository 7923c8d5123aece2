"""Metrics of enqueues, attempts and workers. They are measured by listening to events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from opentelemetry.metrics import Meter, MeterProvider, get_meter_provider

from asyncjobs.model import events
from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.ends import FINAL_EVENTS, OUTCOMES
from asyncjobs.model.events import Events
from asyncjobs.model.refs import JobRef
from asyncjobs.policy.retry import class_name, is_on_purpose
from asyncjobs.telemetry.counting import Attributes, LoopLag, histogram, sum_of
from asyncjobs.telemetry.instruments import (
    ERROR,
    JOB,
    OPERATION,
    OTHER,
    OUTCOME,
    QUEUE,
    SCHEMA_URL,
    SYSTEM,
    TICK,
    TYPE,
)

__all__ = ["Metrics", "global_provider", "new_meter"]

MOST_SERIES: Final = 1_000
"""Pairs of queue and job function with metrics of their own. All others share `_OTHER`."""
MOST_ENDS: Final = 100
"""The same for the error types of each pair."""

Find = Callable[[str], object | None]
Handlers: TypeAlias = Mapping[type[events.Event], Callable[[Any], None]]
_NONE: Final[Attributes] = {}
_SUCCEEDED: Final = OUTCOMES[events.JobSucceeded]


def global_provider() -> MeterProvider | None:
    """The meter provider of this process; None if none is set up that measures."""
    provider = get_meter_provider()
    # The API has providers of its own, which stand in for a missing one and measure nothing.
    if type(provider).__module__.split(".")[:2] == ["opentelemetry", "metrics"]:
        return None
    return provider


def new_meter(provider: MeterProvider) -> Meter:
    """The meter of scope `asyncjobs`."""
    # Not from the metadata of the distribution: that would be read from disk, on the event loop.
    release: str | None = getattr(sys.modules.get("asyncjobs"), "__version__", None)
    return provider.get_meter("asyncjobs", release, schema_url=SCHEMA_URL)


class Metrics:
    """Turns events into measurements of enqueues, attempts and workers."""

    def __init__(self, provider: MeterProvider, find: Find) -> None:
        """`find` returns the job function of a name, or None. Unknown names share `_OTHER`."""
        meter = new_meter(provider)
        self.series = SeriesTable(find)
        enqueues = _Enqueues(provider, meter, self.series)
        attempts = _Attempts(provider, meter, self.series)
        schedules = _Schedules(provider, meter, self.series)
        workers = _Workers(provider, meter, attempts.end_silent)
        self._handlers: Handlers = {
            **enqueues.handlers(),
            **attempts.handlers(),
            **schedules.handlers(),
            **workers.handlers(),
        }

    def attach(self, hub: Events) -> Callable[[], None]:
        """Listen from now on. Returns a function that stops it."""
        return hub.on(events.Event, self)

    def __call__(self, event: events.Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)


class SeriesTable:
    """Owns the attributes of all job functions. Each set is made once."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[tuple[str, str], _Series] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, queue: str, name: str) -> _Series:
        """The attributes of this job function in this queue."""
        series = self._known.get((queue, name))
        if series is None:
            known = name
            if self._find(name) is None:
                # Anyone who can enqueue may send new names without end. They share one entry, so
                # that they do not fill the table.
                known = OTHER
            if len(self._known) >= MOST_SERIES:
                queue = known = OTHER
            series = self._known.setdefault((queue, known), _Series(queue, known))
        return series


class _Series:
    """The attributes of one job function in one queue. Made once, because `Sum` compares sets of
    attributes by identity."""

    __slots__ = ("_ended", "finished", "job", "process", "send", "succeeded")

    def __init__(self, queue: str, name: str) -> None:
        self.job: Attributes = {QUEUE: queue, JOB: name}
        about = {SYSTEM: "asyncjobs", **self.job}
        self.send: Attributes = {**about, OPERATION: "enqueue", TYPE: "send"}
        self.process: Attributes = {**about, OPERATION: "process", TYPE: "process"}
        self._ended: dict[tuple[int, str, str], Attributes] = {}
        self.succeeded = self.ended(self.process, _SUCCEEDED, "")
        self.finished = self.ended(self.job, _SUCCEEDED, "")

    def failed(self, fault: str) -> Attributes:
        # Not bounded by MOST_ENDS: these are errors of asyncjobs and of backends, of few kinds.
        return self._ended.get((0, "", fault)) or self._ended.setdefault(
            (0, "", fault), {**self.send, ERROR: fault}
        )

    def tick(self, outcome: str) -> Attributes:
        """The attributes of a tick that was `fired`, `missed` or `skipped`."""
        key = (0, outcome, "")
        return self._ended.get(key) or self._ended.setdefault(key, {**self.job, TICK: outcome})

    def ended(self, base: Attributes, outcome: str, fault: str) -> Attributes:
        # `job` and `process` have different numbers of attributes, so this tells them apart.
        key = (len(base), outcome, fault)
        found = self._ended.get(key)
        if found is None:
            if fault and len(self._ended) >= MOST_ENDS:
                return self._ended.setdefault(
                    (len(base), outcome, OTHER), {**base, OUTCOME: outcome, ERROR: OTHER}
                )
            found = base | {OUTCOME: outcome}
            if fault:
                found[ERROR] = fault
            self._ended[key] = found
        return found


class _Enqueues:
    """Measures enqueues: how long callers wait, and what is stored."""

    def __init__(self, provider: MeterProvider, meter: Meter, series: SeriesTable) -> None:
        self._series = series
        self._operation = histogram(meter, "messaging.client.operation.duration")
        self._sent = sum_of(provider, meter, "messaging.client.sent.messages")
        self._deduplicated = sum_of(provider, meter, "asyncjobs.jobs.deduplicated")
        self._payload = histogram(meter, "asyncjobs.payload.size")

    def handlers(self) -> Handlers:
        return {
            events.JobEnqueued: self._on_enqueued,
            events.EnqueueFailed: self._on_failed,
        }

    def _on_enqueued(self, event: events.JobEnqueued) -> None:
        series = self._series.of(event.ref.queue, event.name)
        self._sent.add(1, series.send)
        self._operation.record(event.duration_s, series.send)
        self._payload.record(event.size, series.job)
        if not event.is_new:
            self._deduplicated.add(1, series.job)

    def _on_failed(self, event: events.EnqueueFailed) -> None:
        series = self._series.of(event.ref.queue, event.name)
        self._operation.record(event.duration_s, series.failed(class_name(type(event.error))))


class _Attempts:
    """Measures attempts on the workers of this process. Owns the record of running attempts."""

    def __init__(self, provider: MeterProvider, meter: Meter, series: SeriesTable) -> None:
        self._series = series
        self._running: dict[AttemptInfo, _Series] = {}
        self._latest: dict[JobRef, AttemptInfo] = {}
        """The newest attempt of each job that is counted as active."""
        self._consumed = sum_of(provider, meter, "messaging.client.consumed.messages")
        self._process = histogram(meter, "messaging.process.duration")
        self._queue_time = histogram(meter, "asyncjobs.job.queue_time")
        self._finished = sum_of(provider, meter, "asyncjobs.jobs.finished")
        self._active = sum_of(provider, meter, "asyncjobs.jobs.active")

    def handlers(self) -> Handlers:
        ends: dict[type[events.Event], Callable[[Any], None]] = {
            kind: partial(self._on_end, outcome=word, final=kind in FINAL_EVENTS)
            for kind, word in OUTCOMES.items()
        }
        return ends | {
            events.JobStarted: self._on_started,
            events.JobSucceeded: self._on_success,
            events.JobPutBack: self._on_put_back,
        }

    def _on_started(self, event: events.JobStarted) -> None:
        series = self._series.of(event.ref.queue, event.name)
        self._consumed.add(1, series.process)
        self._queue_time.record(event.queue_time_ms / 1000, series.job)
        if event.info is None:
            return
        # After a lost lease a job may run here twice, and the older attempt may end without an
        # event. A job is counted once, or the number would never fall to 0 again.
        if event.ref not in self._latest:
            self._active.add(1, series.job)
        self._latest[event.ref] = event.info
        self._running[event.info] = series

    def _ended(self, event: events.AttemptEnded) -> _Series | None:
        """The attributes of the attempt that has ended; None if it never started here."""
        info = event.info
        if info is None:
            return None
        series = self._running.pop(info, None)
        # If a newer attempt runs here, the job is still active.
        if series is not None and self._latest.get(event.ref) is info:
            del self._latest[event.ref]
            self._active.add(-1, series.job)
        return series

    def _on_end(self, event: events.AttemptEnded, outcome: str, final: bool = False) -> None:
        fault = _fault(event)
        series: _Series | None
        if isinstance(event, events.JobCancelled) and event.was_queued:
            series = self._series.of(event.ref.queue, event.name)  # no worker took it
        elif (series := self._ended(event)) is not None:
            self._process.record(event.duration_s, series.ended(series.process, outcome, fault))
        else:
            # The worker took the job, but no attempt started: it was given back, lost, cancelled,
            # expired, unreadable or unknown, or had crashed too often.
            series = self._series.of(event.ref.queue, event.name)
            self._consumed.add(1, series.process)
        if final:
            self._finished.add(1, series.ended(series.job, outcome, fault))

    def _on_success(self, event: events.JobSucceeded) -> None:
        # By far the most frequent end, so its attributes are ready-made.
        series = self._ended(event)
        if series is None:
            self._on_end(event, _SUCCEEDED, final=True)
            return
        self._process.record(event.duration_s, series.succeeded)
        self._finished.add(1, series.finished)

    def _on_put_back(self, event: events.JobPutBack) -> None:
        self._consumed.add(1, self._series.of(event.ref.queue, event.name).process)

    def end_silent(self) -> None:
        """Stop counting attempts that swallowed their cancellation. No event ends them."""
        for info in self._latest.values():
            self._active.add(-1, self._running[info].job)
        self._latest.clear()
        self._running.clear()


class _Schedules:
    """Measures the ticks of schedules that workers of this process have handled."""

    def __init__(self, provider: MeterProvider, meter: Meter, series: SeriesTable) -> None:
        self._series = series
        self._ticks = sum_of(provider, meter, "asyncjobs.schedule.ticks")
        self._lag = histogram(meter, "asyncjobs.schedule.lag")

    def handlers(self) -> Handlers:
        return {
            events.CronEnqueued: self._on_enqueued,
            events.CronMissed: self._on_missed,
            events.CronSkipped: self._on_skipped,
        }

    def _on_enqueued(self, event: events.CronEnqueued) -> None:
        series = self._series.of(event.queue, event.name)
        self._ticks.add(1, series.tick("fired"))
        self._lag.record(event.lag_s, series.job)

    def _on_missed(self, event: events.CronMissed) -> None:
        self._ticks.add(event.ticks, self._series.of(event.queue, event.name).tick("missed"))

    def _on_skipped(self, event: events.CronSkipped) -> None:
        self._ticks.add(event.ticks, self._series.of(event.queue, event.name).tick("skipped"))


class _Workers:
    """Measures the workers of this process. Owns the timer that measures the event loop."""

    def __init__(
        self, provider: MeterProvider, meter: Meter, on_last_end: Callable[[], None]
    ) -> None:
        """`on_last_end` is called when the last worker has stopped."""
        self._on_last_end = on_last_end
        self._present: list[events.WorkerStarted] = []
        self._reclaimed = sum_of(provider, meter, "asyncjobs.jobs.reclaimed")
        self._slots = sum_of(provider, meter, "asyncjobs.worker.slots")
        self._lag = LoopLag(histogram(meter, "asyncjobs.worker.event_loop.lag").record)

    def handlers(self) -> Handlers:
        return {
            events.JobsReclaimed: self._on_reclaimed,
            events.WorkerStarted: self._on_start,
            events.WorkerStopped: self._on_end,
        }

    def _on_reclaimed(self, event: events.JobsReclaimed) -> None:
        if event.jobs:
            self._reclaimed.add(event.jobs, _NONE)

    def _on_start(self, event: events.WorkerStarted) -> None:
        self._present.append(event)
        self._slots.add(event.concurrency, _NONE)
        self._lag.start()

    def _on_end(self, event: events.WorkerStopped) -> None:
        # By name, because the stop does not say how many slots the worker had.
        for started in self._present:
            if started.worker == event.worker:
                self._present.remove(started)
                self._slots.add(-started.concurrency, _NONE)
                break
        if not self._present:
            self._lag.stop()
            self._on_last_end()


def _fault(event: events.AttemptEnded) -> str:
    """The value of `error.type`; empty if the end was no error."""
    if isinstance(event, events.JobLost):
        return OUTCOMES[events.JobLost]
    if isinstance(event, events.JobDead):
        if event.error is None:
            return event.reason
        return class_name(type(event.error))
    if isinstance(event, events.JobRetryScheduled) and not is_on_purpose(event.error):
        if event.error is None:
            return OTHER
        return class_name(type(event.error))
    return ""
