"""An HTTP endpoint for Prometheus, of OpenTelemetry's own exporter: the names are its own.

Needs the extra `prometheus`; nothing else imports this module.
"""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from asyncjobs.errors import ConfigError
from asyncjobs.guarded import GuardedLog

__all__ = ["Endpoint"]

logger = GuardedLog("asyncjobs.telemetry")

AGAIN_S = 1.0
"""How often a patient endpoint looks whether its port has become free."""


class Endpoint:
    """Owns a meter provider and the server that shows its metrics, in threads of their own:
    a job that blocks the event loop does not hide what is measured of it.

    What else this process has registered with prometheus_client is shown, too.
    """

    def __init__(self, host: str, port: int) -> None:
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        self.provider = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
        self._host, self._port = host, port
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._serving: tuple[WSGIServer, threading.Thread] | None = None
        self._waiting: threading.Thread | None = None

    def open(self, *, patient: bool = False) -> None:
        """Listen; blocks. `patient`: a port that is taken is waited for in a thread, for a
        process that is replaced may still be there. Else raises ConfigError."""
        try:
            self._listen()
        except OSError as error:
            if not patient:
                raise ConfigError(
                    f"cannot listen at {self._host}:{self._port} for Prometheus: {error}; "
                    "choose another host or port"
                ) from error
            logger.info("metrics: port %d is taken, waiting for it", self._port)
            self._waiting = threading.Thread(
                target=self._listen_later, name="asyncjobs-metrics", daemon=True
            )
            self._waiting.start()

    def close(self) -> None:
        """Blocks until nobody is served any more."""
        self._closed.set()
        if self._waiting is not None:
            self._waiting.join()
        with self._lock:
            serving, self._serving = self._serving, None
        if serving is not None:
            server, thread = serving
            server.shutdown()
            server.server_close()
            thread.join()
        self.provider.shutdown()

    def _listen(self) -> None:
        with self._lock:
            self._serving = start_http_server(self._port, self._host)
        logger.info("metrics: %s", self.url)

    def _listen_later(self) -> None:
        while not self._closed.wait(AGAIN_S):
            try:
                self._listen()
            except OSError:
                continue
            return
