"""Follows what operators order: take no more jobs, take jobs again, end, other weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.control import WorkerState
from asyncjobs.store.control import Order, OrderKind
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.stop_request import StopRequest

__all__ = ["Orders"]

logger = GuardedLog("asyncjobs.worker")

MOST_WEIGHT: Final = 1_000_000


class Orders:
    """Follows each order once. Runs on the worker's loop.

    hasten: makes a heartbeat leave now, so that operators see the new state at once.
    """

    def __init__(
        self,
        processor: Processor,
        stop_request: StopRequest,
        hub: events.Events,
        hasten: Callable[[], None],
    ) -> None:
        self._processor = processor
        self._stop_request = stop_request
        self._events = hub
        self._hasten = hasten
        self._about = read_fields(processor.session.spec.info)
        self._followed: dict[OrderKind, int] = {}

    def hear_beat(self, orders: Sequence[Order]) -> None:
        """The orders that a heartbeat has brought, old and new ones."""
        for order in orders:
            if order.number <= self._followed.get(order.kind, -1):
                continue
            # rule:22 an order is followed once, whatever happens to the worker later
            self._followed[order.kind] = order.number
            if order.kind is OrderKind.STATE:
                self._follow_state(order.value)
            else:
                self._follow_weights(order.value)

    def _follow_state(self, value: str) -> None:
        try:
            state = WorkerState(value)
        except ValueError:
            # A later release may know more states. To do nothing is safe.
            logger.warning("an order is unknown to this release, and is ignored: %.100s", value)
            return
        # rule:22 a worker that ends follows no other order about its state
        if self._stop_request.is_made:
            logger.info("ordered to be %s, but it ends already", state.value)
            return
        match state:
            case WorkerState.STOPPING:
                logger.info("ordered to stop: it takes no more jobs, and ends within the grace")
                self._stop_request.ask()
                return
            case WorkerState.QUIET:
                logger.info("ordered to be quiet: it takes no more jobs until it is resumed")
            case WorkerState.RUNNING:
                logger.info("ordered to take jobs again")
        self._processor.intake.appetite.rest(is_on=state is WorkerState.QUIET)
        self._processor.parking.nudge()
        self._say(state=state.value)
        spec = self._processor.session.spec
        kind: type[events.WorkerQuiet | events.WorkerResumed] = events.WorkerResumed
        if state is WorkerState.QUIET:
            kind = events.WorkerQuiet
        self._events.emit(kind(spec.worker, spec.queues))

    def _follow_weights(self, value: str) -> None:
        try:
            weights = read_fields(value.encode())
        except BadRecord:
            weights = {}
        wanted = {
            queue: weight
            for queue, weight in weights.items()
            if type(weight) is int and 1 <= weight <= MOST_WEIGHT
        }
        # Queues that it does not serve are left out: to serve another queue takes a lease there.
        shares = self._processor.intake.appetite.shares
        shares.reweigh(wanted)
        changed = dict(shares.weights)
        logger.info("ordered to share its slots by other weights: %s", changed)
        self._say(queues=changed)

    def _say(self, **fields: Any) -> None:
        """Show operators from now on that the order was followed."""
        self._about |= fields
        self._processor.session.info = orjson.dumps(self._about)
        self._hasten()
