"""An HTTP endpoint for Prometheus. Needs the extra `prometheus`."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Final

from asyncjobs.errors import ConfigError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.health.server import Answer, ProbeServer, Request, listen
from asyncjobs.telemetry.prometheus import Exposition

__all__ = ["Endpoint"]

logger = GuardedLog("asyncjobs.telemetry")

RETRY_S: Final = 1.0
"""How often a patient endpoint tries again to listen at its port."""


class Endpoint:
    """Owns the metrics of this process and the server that shows them.

    The server runs in threads of its own, so metrics stay readable while a job blocks the event
    loop. It is the server that also answers probes. The one of prometheus_client takes a thread
    and a file for each connection, without a limit: idle connections would use up the files of
    the process, and the worker could no longer reach its store.
    """

    def __init__(self, host: str, port: int) -> None:
        shown = host
        if ":" in host:
            # In a URL, an IPv6 address needs brackets.
            shown = f"[{host}]"
        self.url = f"http://{shown}:{port}/metrics"
        self._exposition = Exposition()
        self.provider = self._exposition.provider
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server: ProbeServer | None = None
        self._waiting: threading.Thread | None = None

    def open(self, *, patient: bool = False) -> None:
        """Start to listen; blocks. Raises ConfigError when the port is taken.

        `patient`: wait for the port in a thread instead of raising. The process that this one
        replaces may still hold it.
        """
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
                target=self._listen_later, name="asyncjobs-metrics-port", daemon=True
            )
            self._waiting.start()

    def close(self) -> None:
        """Stop the server; blocks until its requests are answered, a few seconds at most."""
        self._closed.set()
        if self._waiting is not None:
            self._waiting.join()
        with self._lock:
            server = self._server
            self._server = None
        if server is not None:
            server.stop()
        self._exposition.close()

    def _listen(self) -> None:
        listener = listen(self._host, self._port)
        pages = {"/metrics": self._answer, "/": self._answer}
        with self._lock:
            self._server = ProbeServer(listener, {}, slow=pages, name="asyncjobs-metrics")
            self._server.start()
        logger.info("metrics: %s", self.url)

    def _listen_later(self) -> None:
        while not self._closed.wait(RETRY_S):
            try:
                self._listen()
            except OSError:
                continue
            return

    def _answer(self, request: Request) -> Answer:
        accept = request.headers.get("accept", "")
        encodings = request.headers.get("accept-encoding", "")
        headers, body = self._exposition.page(request.query, accept, encodings)
        kind = dict(headers)["Content-Type"]
        more = tuple((name, value) for name, value in headers if name != "Content-Type")
        return Answer(HTTPStatus.OK, body, kind, more)
