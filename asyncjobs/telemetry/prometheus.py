"""Metrics as Prometheus reads them. OpenTelemetry's exporter makes the page, and its names.

Needs the extra `prometheus`, so nothing imports this module before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import make_wsgi_app

__all__ = ["Exposition"]


class Exposition:
    """Owns a meter provider, and shows its measurements as a page for Prometheus.

    The page also has what else this process has registered with prometheus_client.
    """

    def __init__(self) -> None:
        # Without its hook at exit: `close` ends it.
        self.provider = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
        # Their own page, because it knows the formats and encodings that a client may ask for.
        self._page: Callable[..., Sequence[bytes]] = make_wsgi_app()

    def page(
        self, query: str, accept: str, accept_encoding: str
    ) -> tuple[list[tuple[str, str]], bytes]:
        """The headers and the body. Blocks while the metrics are collected."""
        headers: list[tuple[str, str]] = []

        def start(status: str, found: list[tuple[str, str]], *more: Any) -> None:
            headers.extend(found)

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": query,
            "HTTP_ACCEPT": accept,
            "HTTP_ACCEPT_ENCODING": accept_encoding,
        }
        return headers, b"".join(self._page(environ, start))

    def close(self) -> None:
        self.provider.shutdown()
