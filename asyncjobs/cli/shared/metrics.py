"""`--metrics-port`: the metrics of this process, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from asyncjobs.app import AsyncJobs

__all__ = ["EXTRA_MISSING", "can_export", "shown"]

EXTRA_MISSING = "needs OpenTelemetry's exporter; pip install 'asyncjobs-framework[prometheus]'"


def can_export() -> bool:
    """Whether the extra `prometheus` is installed."""
    try:
        import_module("opentelemetry.exporter.prometheus")
    except ImportError:
        return False
    return True


@contextmanager
def shown(app: AsyncJobs, host: str, port: int | None, process: int | None) -> Iterator[None]:
    """Collect the metrics of the app and serve them at `port`; None does nothing.

    `process`: the number of this process under its parent, from 1. Each process listens at a port
    of its own, counted up from `port`: with a shared port, each scrape would reach another process.

    Raises ConfigError.
    """
    if port is None:
        yield
        return
    from asyncjobs.cli.shared.endpoint import Endpoint
    from asyncjobs.telemetry.metrics import Metrics

    endpoint = Endpoint(host, port + (process or 1) - 1)
    remove = Metrics(endpoint.provider, app.registry.find).attach(app.events)
    try:
        # Under a parent, the process that this one replaces may still hold the port.
        endpoint.open(patient=process is not None)
        yield
    finally:
        remove()
        endpoint.close()
