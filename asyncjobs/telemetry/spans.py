"""The names and attributes of spans, and what all that make spans share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.trace import Tracer, TracerProvider, get_tracer_provider
from opentelemetry.util.types import AttributeValue

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.telemetry.instruments import JOB, OPERATION, QUEUE, SCHEMA_URL, SYSTEM, TYPE

__all__ = ["Attributes", "Fixed", "Server", "common", "failed", "global_provider", "new_tracer"]

logger = GuardedLog("asyncjobs.telemetry")

ATTEMPT: Final = "asyncjobs.job.attempt"
MAX_ATTEMPTS: Final = "asyncjobs.job.max_attempts"
PRIORITY: Final = "asyncjobs.job.priority"
QUEUE_TIME: Final = "asyncjobs.job.queue_time_ms"
LINK: Final = "asyncjobs.link"
CREATION: Final = "creation"
PREVIOUS: Final = "previous_attempt"
JOBS: Final = "asyncjobs.jobs"
LEASES: Final = "asyncjobs.leases"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION: Final = "messaging.message.conversation_id"
CLIENT: Final = "messaging.client.id"
GROUP: Final = "messaging.consumer.group.name"
BATCH: Final = "messaging.batch.message_count"

MOST_FIXED: Final = 1_000
"""Pairs of queue and job function that are remembered: a queue may have any name."""

Attributes = dict[str, AttributeValue]
_told: set[str] = set()


def global_provider() -> TracerProvider | None:
    """The tracer provider of this process, if somebody has set up one that records."""
    provider = get_tracer_provider()
    # The API's own providers stand in for one that is missing, and record nothing.
    own = type(provider).__module__.split(".")[:2] == ["opentelemetry", "trace"]
    return None if own else provider


def new_tracer(provider: TracerProvider) -> Tracer:
    """The tracer of scope `asyncjobs`."""
    # Asked of the metadata here, it would be read from disk while the loop waits.
    release: str | None = getattr(sys.modules.get("asyncjobs"), "__version__", None)
    return provider.get_tracer("asyncjobs", release, schema_url=SCHEMA_URL)


class Server:
    """The store's address as attributes. Asks for it each time: an app may open anew."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._of = ""
        self._attributes: Attributes = {}

    def attributes(self) -> Attributes:
        """Nothing for a store that is no server, and while the app is not open."""
        address = self._address()
        if address != self._of:
            self._of, self._attributes = address, _server(address)
        return self._attributes


def _server(address: str) -> Attributes:
    try:
        parts = urlsplit(address)
        first = parts.netloc.rpartition("@")[2].partition(",")[0]  # of several sentinels
        host = urlsplit(f"//{first}")
        name, port = host.hostname, host.port
    except ValueError:
        return {}  # of a backend with addresses of its own kind: no reason to have no span
    if name:
        found: Attributes = {"server.address": name}
        return found | {"server.port": port} if port else found
    return {"server.address": parts.path} if parts.scheme == "unix" else {}


def common(server: Server, queue: str, name: str, *, operation: str, type: str) -> Attributes:
    """What samplers may read, so it is there when a span is created. '' is left out."""
    found: Attributes = {SYSTEM: "asyncjobs", OPERATION: operation, TYPE: type}
    if queue:
        found[QUEUE] = queue
    if name:
        found[JOB] = name
    return found | server.attributes()


class Fixed:
    """What all spans of one operation on one job function in one queue share, made once."""

    def __init__(self, server: Server, *, operation: str, type: str) -> None:
        self._server = server
        self._operation = operation
        self._type = type
        self._of: Attributes = {}
        self._made: dict[tuple[str, str], tuple[str, Attributes]] = {}

    def of(self, queue: str, name: str) -> tuple[str, Attributes]:
        """The name of the span, and its attributes: not to be changed."""
        server = self._server.attributes()
        if server is not self._of or len(self._made) > MOST_FIXED:
            self._of = server
            self._made.clear()
        made = self._made.get((queue, name))
        if made is None:
            operation = self._operation
            found = common(self._server, queue, name, operation=operation, type=self._type)
            made = self._made[queue, name] = (f"{operation} {name}".rstrip(), found)
        return made


def failed(what: str) -> None:
    """An exception of OpenTelemetry's or of its processors: a job must not know of it."""
    if what not in _told:
        _told.add(what)
        logger.error("tracing: %s failed; jobs go on, told once", what, exc_info=sys.exception())
