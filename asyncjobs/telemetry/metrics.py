"""Metrics of jobs and workers: a listener on events, nothing else."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from asyncjobs import events
from asyncjobs.events import Events
from asyncjobs.guarded import call
from asyncjobs.job import JobRef
from asyncjobs.model.ends import FINAL_EVENTS, OUTCOMES
from asyncjobs.policy.retry import class_name, is_on_purpose
from asyncjobs.telemetry.instruments import (
    ERROR,
    JOB,
    OPERATION,
    OTHER,
    OUTCOME,
    QUEUE,
    SCHEMA_URL,
    SYSTEM,
    TYPE,
    WORKER,
)

__all__ = ["Metrics", "global_provider", "new_meter"]

MOST_SERIES: Final = 1_000
"""Pairs of queue and job function that are told apart; all others are `_OTHER` together."""
MOST_ENDS: Final = 100
"""The same for the ends of each, whose number is that of error types."""
LAG_INTERVAL_S: Final = 0.5

Find = Callable[[str], object | None]
Attributes = dict[str, str]
_NONE: Final[Attributes] = {}
_SUCCEEDED: Final = OUTCOMES[events.JobSucceeded]
_INSTRUMENTS: Final = {instrument.name: instrument for instrument in WORKER}


def global_provider() -> MeterProvider | None:
    """The meter provider of this process, if somebody has set up one that measures."""
    provider = get_meter_provider()
    # The API's own providers stand in for one that is missing, and measure nothing.
    own = type(provider).__module__.split(".")[:2] == ["opentelemetry", "metrics"]
    return None if own else provider


def new_meter(provider: MeterProvider) -> Meter:
    """The meter of scope `asyncjobs`."""
    # Asked of the metadata here, it would be read from disk while the loop waits.
    release: str | None = getattr(sys.modules.get("asyncjobs"), "__version__", None)
    return provider.get_meter("asyncjobs", release, schema_url=SCHEMA_URL)


class Metrics:
    """Turns events into measurements. Owns what it knows of running attempts, and the timer
    that measures the event loop; never asks the store."""

    def __init__(self, provider: MeterProvider, find: Find) -> None:
        """`find` tells whether a name is of a job function: others are `_OTHER`."""
        meter = new_meter(provider)
        self._find = find
        self._series: dict[tuple[str, str], _Series] = {}
        self._running: dict[JobRef, _Attempt] = {}
        self._workers: list[events.WorkerStarted] = []
        self._operation = _histogram(meter, "messaging.client.operation.duration")
        self._sent = _sum(provider, meter, "messaging.client.sent.messages")
        self._consumed = _sum(provider, meter, "messaging.client.consumed.messages")
        self._process = _histogram(meter, "messaging.process.duration")
        self._queue_time = _histogram(meter, "asyncjobs.job.queue_time")
        self._finished = _sum(provider, meter, "asyncjobs.jobs.finished")
        self._reclaimed = _sum(provider, meter, "asyncjobs.jobs.reclaimed")
        self._deduplicated = _sum(provider, meter, "asyncjobs.jobs.deduplicated")
        self._active = _sum(provider, meter, "asyncjobs.jobs.active")
        self._slots = _sum(provider, meter, "asyncjobs.worker.slots")
        self._payload = _histogram(meter, "asyncjobs.payload.size")
        self._lag = _LoopLag(_histogram(meter, "asyncjobs.worker.event_loop.lag").record)
        self._handlers: dict[type[events.Event], Callable[[Any], None]] = {
            kind: partial(self._on_end, outcome=word, final=kind in FINAL_EVENTS)
            for kind, word in OUTCOMES.items()
        }
        self._handlers |= {
            events.JobEnqueued: self._on_enqueued,
            events.EnqueueFailed: self._on_failed,
            events.JobStarted: self._on_started,
            events.JobSucceeded: self._on_success,
            events.JobPutBack: self._on_put_back,
            events.JobsReclaimed: self._on_reclaimed,
            events.WorkerStarted: self._on_worker,
            events.WorkerStopped: self._on_worker_end,
        }

    def attach(self, hub: Events) -> Callable[[], None]:
        """Listen from now on; returns what ends it."""
        return hub.on(events.Event, self)

    def __call__(self, event: events.Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _of(self, queue: str, name: str) -> _Series:
        series = self._series.get((queue, name))
        if series is None:
            known = name if self._find(name) is not None else OTHER
            if len(self._series) >= MOST_SERIES:
                queue = name = known = OTHER
            # Unknown names are not kept: as many as a stranger likes would fill the table.
            series = self._series.setdefault((queue, known), _Series(queue, known))
        return series

    def _on_enqueued(self, event: events.JobEnqueued) -> None:
        series = self._of(event.ref.queue, event.name)
        self._sent.add(1, series.send)
        self._operation.record(event.duration_s, series.send)
        self._payload.record(event.size, series.job)
        if not event.is_new:
            self._deduplicated.add(1, series.job)

    def _on_failed(self, event: events.EnqueueFailed) -> None:
        series = self._of(event.ref.queue, event.name)
        self._operation.record(event.duration_s, series.failed(class_name(type(event.error))))

    def _on_started(self, event: events.JobStarted) -> None:
        series = self._of(event.ref.queue, event.name)
        self._consumed.add(1, series.process)
        self._queue_time.record(event.queue_time_ms / 1000, series.job)
        # Its last attempt here may have ended without a word, or the number would never fall.
        if event.ref not in self._running:
            self._active.add(1, series.job)
        attempt = self._running[event.ref] = _Attempt(self, event.ref, series)
        _started.set(attempt)

    def _ended(self, ref: JobRef) -> _Series | None:
        """Of the attempt that has ended; None when it never started here."""
        attempt = _started.get()
        if attempt is None or not attempt.is_open(self, ref):
            # Told from elsewhere: of one that ignores that it was told to stop, or has not started.
            attempt = self._running.get(ref)
        if attempt is None:
            return None
        attempt.is_over = True
        # Else its job was taken anew after a lost lease, and runs here for the second time.
        if self._running.get(ref) is attempt:
            del self._running[ref]
            self._active.add(-1, attempt.series.job)
        return attempt.series

    def _on_end(self, event: events.AttemptEnded, outcome: str, final: bool = False) -> None:
        fault = _fault(event)
        series: _Series | None
        if isinstance(event, events.JobCancelled) and event.was_queued:
            series = self._of(event.ref.queue, event.name)  # it came to no worker
        elif (series := self._ended(event.ref)) is not None:
            self._process.record(event.duration_s, series.ended(series.process, outcome, fault))
        else:
            # It came here and never started: given back, lost, cancelled, expired, unreadable,
            # unknown, or crashed too often.
            series = self._of(event.ref.queue, event.name)
            self._consumed.add(1, series.process)
        if final:
            self._finished.add(1, series.ended(series.job, outcome, fault))

    def _on_success(self, event: events.JobSucceeded) -> None:
        # By far the most frequent end: nothing is asked of it that is known.
        series = self._ended(event.ref)
        if series is None:
            self._on_end(event, _SUCCEEDED, final=True)
            return
        self._process.record(event.duration_s, series.succeeded)
        self._finished.add(1, series.finished)

    def _on_put_back(self, event: events.JobPutBack) -> None:
        self._consumed.add(1, self._of(event.ref.queue, event.name).process)

    def _on_reclaimed(self, event: events.JobsReclaimed) -> None:
        if event.jobs:
            self._reclaimed.add(event.jobs, _NONE)

    def _on_worker(self, event: events.WorkerStarted) -> None:
        self._workers.append(event)
        self._slots.add(event.concurrency, _NONE)
        self._lag.start()

    def _on_worker_end(self, event: events.WorkerStopped) -> None:
        for started in self._workers:
            if started.worker == event.worker:
                self._workers.remove(started)
                self._slots.add(-started.concurrency, _NONE)
                break
        if not self._workers:
            self._lag.stop()
            # Attempts that swallowed their cancellation have no end of their own.
            for attempt in self._running.values():
                self._active.add(-1, attempt.series.job)
            self._running.clear()


class _Attempt:
    """One attempt that has started here."""

    __slots__ = ("_owner", "_ref", "is_over", "series")

    def __init__(self, owner: Metrics, ref: JobRef, series: _Series) -> None:
        self._owner = owner
        self._ref = ref
        self.series = series
        self.is_over = False

    def is_open(self, owner: Metrics, ref: JobRef) -> bool:
        """Whether it is of this job, and has not ended."""
        return not self.is_over and self._ref == ref and self._owner is owner


_started: ContextVar[_Attempt | None] = ContextVar("asyncjobs_started_attempt", default=None)
"""In an attempt's own context it: the job may run twice in this process, after a lost lease."""


class _Series:
    """The attributes of one job function in one queue, made once: a job only refers to them."""

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
        # Errors of ours and of backends: few kinds, whatever the jobs are.
        return self._ended.get((0, "", fault)) or self._ended.setdefault(
            (0, "", fault), {**self.send, ERROR: fault}
        )

    def ended(self, base: Attributes, outcome: str, fault: str) -> Attributes:
        key = (len(base), outcome, fault)
        found = self._ended.get(key)
        if found is None:
            if fault and len(self._ended) >= MOST_ENDS:
                return self._ended.setdefault(
                    (len(base), outcome, OTHER), {**base, OUTCOME: outcome, ERROR: OTHER}
                )
            found = {**base, OUTCOME: outcome, ERROR: fault} if fault else base | {OUTCOME: outcome}
            self._ended[key] = found
        return found


class _Sum:
    """A counter: one number for each set of attributes, read when somebody reads metrics.

    An SDK takes some 20 µs to add to a counter of its own, more than all of a small job.
    Sets of attributes are told apart by identity: each is made once and kept.
    """

    def __init__(self, meter: Meter, name: str) -> None:
        self._cells: dict[int, tuple[Attributes, list[int]]] = {}
        # Enqueues come from threads, too.
        self._lock = threading.Lock()
        made = _INSTRUMENTS[name]
        create = (
            meter.create_observable_counter
            if made.kind == "counter"
            else meter.create_observable_up_down_counter
        )
        create(name, [self._observe], made.unit, made.text)

    def add(self, number: int, attributes: Attributes) -> None:
        with self._lock:
            cell = self._cells.get(id(attributes))
            if cell is None:
                self._cells[id(attributes)] = (attributes, [number])
            else:
                cell[1][0] += number

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        # Several apps have attributes of their own that are equal.
        together: dict[frozenset[tuple[str, str]], tuple[Attributes, int]] = {}
        with self._lock:
            for about, (number,) in self._cells.values():
                key = frozenset(about.items())
                together[key] = (about, together.get(key, (about, 0))[1] + number)
        return [Observation(number, about) for about, number in together.values()]


_sums: WeakKeyDictionary[MeterProvider, dict[str, _Sum]] = WeakKeyDictionary()
_sums_lock = threading.Lock()


def _sum(provider: MeterProvider, meter: Meter, name: str) -> _Sum:
    """The one counter of this name: of a second one an SDK takes no numbers, and says nothing."""
    with _sums_lock:
        of_provider = _sums.setdefault(provider, {})
        if name not in of_provider:
            of_provider[name] = _Sum(meter, name)
        return of_provider[name]


class _LoopLag:
    """Measures how late a timer on the running loop is; runs while a worker does."""

    def __init__(self, record: Callable[[float], None]) -> None:
        self._record = record
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.stop()
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + LAG_INTERVAL_S
        self._timer = loop.call_at(due_s, self._tick, loop, due_s)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        late_s = max(loop.time() - due_s, 0.0)
        # First, or an SDK that raises once would end the measuring. And a SystemExit of a
        # callback would end the loop.
        self._arm(loop)
        call("measuring the event loop's lag", self._record, late_s)


def _fault(event: events.AttemptEnded) -> str:
    """The value of `error.type`; empty when the end was no error."""
    if isinstance(event, events.JobRetryScheduled):
        if is_on_purpose(event.error):
            return ""
        return class_name(type(event.error)) if event.error is not None else OTHER
    if isinstance(event, events.JobDead):
        return event.reason if event.error is None else class_name(type(event.error))
    return OUTCOMES[events.JobLost] if isinstance(event, events.JobLost) else ""


def _histogram(meter: Meter, name: str) -> Histogram:
    made = _INSTRUMENTS[name]
    return meter.create_histogram(
        name, made.unit, made.text, explicit_bucket_boundaries_advisory=made.buckets
    )
