"""`--metrics-port`: what this process measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from asyncjobs.app import AsyncJobs

__all__ = ["EXTRA_MISSING", "can_export", "shown"]

EXTRA_MISSING = "needs OpenTelemetry's exporter; pip install 'asyncjobs-framework[prometheus]'"


def can_export() -> bool:
    """True when the extra `prometheus` is installed."""
    try:
        import_module("opentelemetry.exporter.prometheus")
    except ImportError:
        return False
    return True


@contextmanager
def shown(app: AsyncJobs, host: str, port: int | None, process: int | None) -> Iterator[None]:
    """Measure the app and serve it at the port, if there is one. Raises ConfigError.

    `process`: the number under a parent, from 1. Each has a port of its own, counted from
    the first one's: one that all listen at would show another process at each scrape.
    """
    if port is None:
        yield
        return
    from asyncjobs.cli.shared.endpoint import Endpoint
    from asyncjobs.telemetry.metrics import Metrics

    endpoint = Endpoint(host, port + (process or 1) - 1)
    remove = Metrics(endpoint.provider, app.registry.find).attach(app.events)
    try:
        endpoint.open(patient=process is not None)
        yield
    finally:
        remove()
        endpoint.close()
