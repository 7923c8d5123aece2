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

AGAIN_S: Final = 1.0
"""How often a patient endpoint looks whether its port has become free."""


class Endpoint:
    """Owns what is measured and the server that shows it, in threads of their own: a job that
    blocks the event loop does not hide what is measured of it.

    The server is the one that answers probes. prometheus_client's own has a thread and a file
    for each connection that somebody opens, without a limit: idle ones would take all files of
    the process, and the worker could not reach its store again.
    """

    def __init__(self, host: str, port: int) -> None:
        # An IPv6 address stands in brackets.
        shown = f"[{host}]" if ":" in host else host
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
                target=self._listen_later, name="asyncjobs-metrics-port", daemon=True
            )
            self._waiting.start()

    def close(self) -> None:
        """Blocks until nobody is served any more, a few seconds at the most."""
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
        while not self._closed.wait(AGAIN_S):
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
