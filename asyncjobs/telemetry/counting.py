"""How metrics are counted: instruments of OpenTelemetry, and what costs less than they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
)

from asyncjobs.guard.guarded import call
from asyncjobs.telemetry.instruments import WORKER

__all__ = ["Attributes", "LoopLag", "Sum", "histogram", "sum_of"]

LAG_INTERVAL_S: Final = 0.5

Attributes = dict[str, str]
_INSTRUMENTS: Final = {instrument.name: instrument for instrument in WORKER}


def histogram(meter: Meter, name: str) -> Histogram:
    """The histogram of this name, with the boundaries that the table advises."""
    made = _INSTRUMENTS[name]
    return meter.create_histogram(
        name, made.unit, made.text, explicit_bucket_boundaries_advisory=made.buckets
    )


class Sum:
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


_sums: WeakKeyDictionary[MeterProvider, dict[str, Sum]] = WeakKeyDictionary()
_sums_lock = threading.Lock()


def sum_of(provider: MeterProvider, meter: Meter, name: str) -> Sum:
    """The one counter of this name: of a second one an SDK takes no numbers, and says nothing."""
    with _sums_lock:
        of_provider = _sums.setdefault(provider, {})
        if name not in of_provider:
            of_provider[name] = Sum(meter, name)
        return of_provider[name]


class LoopLag:
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
