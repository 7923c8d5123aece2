"""Gauges of queues. One process of a fleet exports them: if each did, sums would count a job many
times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.apart import apart
from asyncjobs.store.control import paused_wholly
from asyncjobs.store.flows import FlowState
from asyncjobs.store.inspect import QueueCounts, QueueFlow
from asyncjobs.store.seam import Backend
from asyncjobs.telemetry.instruments import FLEET, FLOW_STATE, LIMIT, QUEUE, STATE
from asyncjobs.telemetry.limits import LimitCounts, limits_of
from asyncjobs.telemetry.metrics import new_meter

__all__ = ["QueueGauges", "QueueView", "look_at_queues"]

logger = GuardedLog("asyncjobs.telemetry")

FRESH_S: Final = 1.0
"""A look at the store stays fresh this long, so that all gauges of one scrape share it."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """All queues at one moment. `paused`: those that are paused as a whole. `refused`: the queues
    that cannot be read, and why."""

    counts: Sequence[QueueCounts] = ()
    flows: Sequence[QueueFlow] = ()
    refused: Mapping[str, StoreError] = field(default_factory=dict)
    paused: Collection[str] = ()
    workflows: Mapping[str, Mapping[FlowState, int]] = field(default_factory=dict)
    """How many flows of each home queue are in which state."""
    limits: Sequence[LimitCounts] = ()


async def look_at_queues(store: Backend) -> QueueView:
    """Read all queues. One that cannot be read does not hide the others.

    Raises StoreError if the store cannot be asked at all.
    """
    counts = await apart(store.inspect.queues.counts, await store.inspect.queues.names())
    flows = await apart(store.inspect.queues.flow, list(counts.answers))
    paused: Collection[str] = ()
    # Without the capability nothing can be paused.
    if store.capabilities.control:
        paused = await paused_wholly(store.control.queues, list(flows.answers))
    workflows: dict[str, Mapping[FlowState, int]] = {}
    if store.capabilities.flows:
        homes = list(flows.answers)
        workflows = dict(zip(homes, await store.flows.counts(homes), strict=True))
    limits = await limits_of(store, list(flows.answers))
    # Counts and flow are asked one after the other. A queue that fails the second question is
    # left out of both, or a scrape would show one half of it.
    return QueueView(
        [count for queue, count in counts.answers.items() if queue in flows.answers],
        list(flows.answers.values()),
        counts.refused | flows.refused,
        paused,
        workflows,
        limits,
    )


class QueueGauges:
    """Looks at the store when somebody asks for metrics, and never otherwise.

    While the store is unavailable there are no values. Old ones would say that all is well.
    """

    def __init__(self, look: Callable[[], QueueView]) -> None:
        """`look` is called in the thread that reads the metrics. It may raise."""
        self._look = look
        self._lock = threading.Lock()
        self._view = QueueView()
        self._looked_s = float("-inf")
        self._is_away = False
        self._refused: set[str] = set()

    def attach(self, provider: MeterProvider) -> None:
        meter = new_meter(provider)
        callbacks = (
            self._jobs,
            self._oldest_age,
            self._scheduler_lag,
            self._paused,
            self._outbox,
            self._oldest_outbox,
            self._flows,
            self._limits_running,
            self._limits_parked,
            self._limits_oldest,
        )
        for instrument, callback in zip(FLEET, callbacks, strict=True):
            meter.create_observable_gauge(
                instrument.name, [callback], instrument.unit, instrument.text
            )

    def _fresh(self) -> QueueView:
        # Two readers may ask at the same time. The second one waits, and uses the first one's look.
        with self._lock:
            if time.monotonic() - self._looked_s > FRESH_S:
                try:
                    self._view = self._look()
                    self._is_away = False
                    self._tell_refused(self._view.refused)
                except Exception as error:
                    self._view = QueueView()
                    # Once for each outage: scrapes come every few seconds.
                    if not self._is_away:
                        logger.warning(
                            "no metrics of queues: %s", str(error) or type(error).__name__
                        )
                    self._is_away = True
                self._looked_s = time.monotonic()
            return self._view

    def _tell_refused(self, refused: Mapping[str, StoreError]) -> None:
        """Log once for each queue, until it can be read again."""
        for queue in sorted(refused.keys() - self._refused):
            logger.warning("no metrics of queue %r: %s", queue, refused[queue])
        self._refused = set(refused)

    def _jobs(self, _: CallbackOptions) -> Iterable[Observation]:
        for count in self._fresh().counts:
            numbers = {
                "ready": sum(count.ready),
                "held": count.held,
                "running": count.running,
                "scheduled": count.scheduled,
                "dead": count.dead,
            }
            for state, number in numbers.items():
                yield Observation(number, {QUEUE: count.queue, STATE: state})

    def _oldest_age(self, _: CallbackOptions) -> Iterable[Observation]:
        for flow in self._fresh().flows:
            yield Observation(_since_s(flow, flow.oldest_ready_ms), {QUEUE: flow.queue})

    def _scheduler_lag(self, _: CallbackOptions) -> Iterable[Observation]:
        for flow in self._fresh().flows:
            yield Observation(_since_s(flow, flow.next_due_ms), {QUEUE: flow.queue})

    def _paused(self, _: CallbackOptions) -> Iterable[Observation]:
        view = self._fresh()
        for count in view.counts:
            yield Observation(int(count.queue in view.paused), {QUEUE: count.queue})

    def _outbox(self, _: CallbackOptions) -> Iterable[Observation]:
        for flow in self._fresh().flows:
            yield Observation(flow.outbox, {QUEUE: flow.queue})

    def _oldest_outbox(self, _: CallbackOptions) -> Iterable[Observation]:
        for flow in self._fresh().flows:
            yield Observation(_since_s(flow, flow.oldest_outbox_ms), {QUEUE: flow.queue})

    def _flows(self, _: CallbackOptions) -> Iterable[Observation]:
        for queue, counts in self._fresh().workflows.items():
            # A queue that is the home of no flow has no line: most queues are none.
            for state, number in counts.items():
                yield Observation(number, {QUEUE: queue, FLOW_STATE: state.value})

    def _limits_running(self, _: CallbackOptions) -> Iterable[Observation]:
        for limit in self._fresh().limits:
            yield Observation(limit.running, _of_limit(limit))

    def _limits_parked(self, _: CallbackOptions) -> Iterable[Observation]:
        for limit in self._fresh().limits:
            yield Observation(limit.waiting, _of_limit(limit))

    def _limits_oldest(self, _: CallbackOptions) -> Iterable[Observation]:
        for limit in self._fresh().limits:
            yield Observation(limit.oldest_s, _of_limit(limit))


def _of_limit(limit: LimitCounts) -> dict[str, str]:
    return {QUEUE: limit.queue, LIMIT: limit.limit}


def _since_s(flow: QueueFlow, moment_ms: int | None) -> float:
    if moment_ms is None:
        return 0.0
    return max(flow.now_ms - moment_ms, 0) / 1000
