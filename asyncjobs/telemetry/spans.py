"""The names and attributes of spans, shared by the modules that make them."""

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
TAGS: Final = "asyncjobs.job.tags"
MAX_ATTEMPTS: Final = "asyncjobs.job.max_attempts"
PRIORITY: Final = "asyncjobs.job.priority"
QUEUE_TIME: Final = "asyncjobs.job.queue_time_ms"
LINK: Final = "asyncjobs.link"
CREATION: Final = "creation"
PREVIOUS: Final = "previous_attempt"
ITEM: Final = "item"
PARENT: Final = "parent"
JOBS: Final = "asyncjobs.jobs"
LEASES: Final = "asyncjobs.leases"
SCHEDULE: Final = "asyncjobs.schedule.id"
TICK_LAG: Final = "asyncjobs.schedule.lag_ms"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION: Final = "messaging.message.conversation_id"
CLIENT: Final = "messaging.client.id"
GROUP: Final = "messaging.consumer.group.name"
BATCH: Final = "messaging.batch.message_count"

MOST_FIXED: Final = 1_000
"""Pairs of queue and job function that are remembered. Queues may have any names, without end."""

Attributes = dict[str, AttributeValue]
_told: set[str] = set()


def global_provider() -> TracerProvider | None:
    """The tracer provider of this process; None if none is set up that records."""
    provider = get_tracer_provider()
    # The API has providers of its own, which stand in for a missing one and record nothing.
    if type(provider).__module__.split(".")[:2] == ["opentelemetry", "trace"]:
        return None
    return provider


def new_tracer(provider: TracerProvider) -> Tracer:
    """The tracer of scope `asyncjobs`."""
    # Not from the metadata of the distribution: that would be read from disk, on the event loop.
    release: str | None = getattr(sys.modules.get("asyncjobs"), "__version__", None)
    return provider.get_tracer("asyncjobs", release, schema_url=SCHEMA_URL)


class Server:
    """The store's address as attributes. An app may be opened again with another address, so it
    is asked for each time."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._of = ""
        self._attributes: Attributes = {}

    def attributes(self) -> Attributes:
        """Empty for a store that is no server, and while the app is not open."""
        address = self._address()
        if address != self._of:
            self._of = address
            self._attributes = _server(address)
        return self._attributes


def _server(address: str) -> Attributes:
    try:
        parts = urlsplit(address)
        first = parts.netloc.rpartition("@")[2].partition(",")[0]  # the first of the sentinels
        host = urlsplit(f"//{first}")
        name = host.hostname
        port = host.port
    except ValueError:
        return {}  # a user's own backend may have addresses that are no URLs
    found: Attributes = {}
    if name:
        found["server.address"] = name
        if port:
            found["server.port"] = port
    elif parts.scheme == "unix":
        found["server.address"] = parts.path
    return found


def common(server: Server, queue: str, name: str, *, operation: str, type: str) -> Attributes:
    """The attributes that each span has from its creation, so that samplers can read them.

    An empty `queue` or `name` is left out.
    """
    found: Attributes = {SYSTEM: "asyncjobs", OPERATION: operation, TYPE: type}
    if queue:
        found[QUEUE] = queue
    if name:
        found[JOB] = name
    return found | server.attributes()


class Fixed:
    """The names and attributes that all spans of one operation share, for each job function in
    each queue. Each set is made once."""

    def __init__(self, server: Server, *, operation: str, type: str) -> None:
        self._server = server
        self._operation = operation
        self._type = type
        self._of: Attributes = {}
        self._made: dict[tuple[str, str], tuple[str, Attributes]] = {}

    def of(self, queue: str, name: str) -> tuple[str, Attributes]:
        """The name and the attributes of a span. Copy the attributes, do not change them."""
        # The server's attributes are in each set. `Server` makes new ones for another address.
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
    """Log an exception of OpenTelemetry or of a span processor, once for each `what`. It must not
    reach the job."""
    if what not in _told:
        _told.add(what)
        logger.error(
            "tracing: %s failed; jobs go on, and this is logged once",
            what,
            exc_info=sys.exception(),
        )
