"""Counts for metrics: by OpenTelemetry's instruments, and by a counter that costs less."""

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
    """Make the histogram of this name, with the boundaries from the table of instruments."""
    made = _INSTRUMENTS[name]
    return meter.create_histogram(
        name, made.unit, made.text, explicit_bucket_boundaries_advisory=made.buckets
    )


class Sum:
    """A counter: one number for each set of attributes, which the SDK reads on each collection.

    The counters of an SDK take about 20 µs for each addition, which is more than a small job
    costs. Sets of attributes are compared by identity, so make each of them once and keep it.
    """

    def __init__(self, meter: Meter, name: str) -> None:
        # By identity. The attributes are kept beside the number, so that no other set can get the
        # same `id`.
        self._cells: dict[int, tuple[Attributes, list[int]]] = {}
        # Threads may enqueue, so they count too.
        self._lock = threading.Lock()
        made = _INSTRUMENTS[name]
        if made.kind == "counter":
            meter.create_observable_counter(name, [self._observe], made.unit, made.text)
        else:
            meter.create_observable_up_down_counter(name, [self._observe], made.unit, made.text)

    def add(self, number: int, attributes: Attributes) -> None:
        with self._lock:
            cell = self._cells.get(id(attributes))
            if cell is None:
                self._cells[id(attributes)] = (attributes, [number])
            else:
                cell[1][0] += number

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        # Several apps may have equal sets of attributes. An SDK takes one number for each.
        together: dict[frozenset[tuple[str, str]], tuple[Attributes, int]] = {}
        with self._lock:
            for about, (number,) in self._cells.values():
                key = frozenset(about.items())
                together[key] = (about, together.get(key, (about, 0))[1] + number)
        return [Observation(number, about) for about, number in together.values()]


_sums: WeakKeyDictionary[MeterProvider, dict[str, Sum]] = WeakKeyDictionary()
_sums_lock = threading.Lock()


def sum_of(provider: MeterProvider, meter: Meter, name: str) -> Sum:
    """The counter of this name. There is one for each provider, because an SDK silently ignores
    the numbers of a second one."""
    with _sums_lock:
        of_provider = _sums.setdefault(provider, {})
        if name not in of_provider:
            of_provider[name] = Sum(meter, name)
        return of_provider[name]


class LoopLag:
    """Measures how late a timer on the event loop fires. It runs as long as a worker does."""

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
        # Set the next timer first: otherwise an SDK that raises once would end the measuring.
        # And call `record` guarded, because a SystemExit in a callback would end the loop.
        self._arm(loop)
        call("measuring the event loop's lag", self._record, late_s)
