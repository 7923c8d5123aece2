"""What watches one app: its traces and its metrics, from when somebody wants them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.events import Events
from asyncjobs.options.app import AppSettings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from asyncjobs.telemetry.sending import Maker
    from asyncjobs.telemetry.tracing import Tracing

__all__ = ["Telemetry"]


class Telemetry:
    """Owns what listens to an app for OpenTelemetry. Imports nothing of it before `start`:
    a process that only defines jobs does not pay for it."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        """None: the process's own, if one is set up when the app opens."""
        self.tracing: Tracing | None = None
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._is_metered = False
        self._locks: dict[int, threading.Lock] = {}

    def start(
        self,
        settings: AppSettings,
        hub: Events,
        middlewares: Middlewares,
        find: Callable[[str], object],
        address: Callable[[], str],
    ) -> None:
        """Measure and trace from now on, once, if there is who wants it: an SDK may be set up
        after the app was made."""
        # Of each process: one that another thread holds while a process forks stays shut.
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self.tracing is None:
                from asyncjobs.telemetry.spans import global_provider as global_tracers

                tracers = self._tracer_provider or global_tracers()
                if tracers is not None:
                    from asyncjobs.telemetry.tracing import Tracing

                    self.tracing = Tracing(tracers, settings, address)
                    self.tracing.attach(hub, middlewares)
            if not self._is_metered:
                from asyncjobs.telemetry.metrics import Metrics, global_provider

                meters = self._meter_provider or global_provider()
                if meters is not None:
                    self._is_metered = True
                    Metrics(meters, find).attach(hub)

    def enqueue(self, templates: Sequence[JobTemplate]) -> AbstractContextManager[Sequence[Maker]]:
        """What surrounds one call that enqueues jobs by these templates, and makes them."""
        if self.tracing is None:
            return nullcontext(templates)
        return self.tracing.enqueue(templates)
