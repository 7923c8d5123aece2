"""The telemetry of one app: starts traces and metrics when their providers are set up."""

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

    from asyncjobs.telemetry.parents import LookUp
    from asyncjobs.telemetry.sending import Maker
    from asyncjobs.telemetry.tracing import Tracing

__all__ = ["Telemetry"]


class Telemetry:
    """Owns the tracing and the metrics of an app. Imports OpenTelemetry only in `start`, so a
    process that only defines jobs does not pay for it."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        """None stands for the process's own provider, if one is set up when the app opens."""
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
        look_up: LookUp,
    ) -> None:
        """Start tracing and metrics if their providers are set up. Does each at most once.

        Called at each opening, because an SDK may be set up after the app was made.
        """
        # One lock for each process: a lock that is held while another thread forks stays locked
        # in the child for ever.
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self.tracing is None:
                # Imported here, not above: OpenTelemetry takes long to import.
                from asyncjobs.telemetry.spans import global_provider as global_tracers

                tracers = self._tracer_provider or global_tracers()
                if tracers is not None:
                    from asyncjobs.telemetry.tracing import Tracing

                    self.tracing = Tracing(tracers, settings, address, look_up)
                    self.tracing.attach(hub, middlewares)
            if not self._is_metered:
                from asyncjobs.telemetry.metrics import Metrics, global_provider

                meters = self._meter_provider or global_provider()
                if meters is not None:
                    self._is_metered = True
                    Metrics(meters, find).attach(hub)

    def enqueue(
        self, templates: Sequence[JobTemplate], together: str = ""
    ) -> AbstractContextManager[Sequence[Maker]]:
        """The spans of one call that enqueues jobs. Entering returns a maker for each template.

        `together`: the conversation of jobs that nothing else has led to, such as those of a flow.
        """
        if self.tracing is None:
            return nullcontext(templates)
        return self.tracing.enqueue(templates, together)
