"""The audit after each test, of every store that it has touched."""

from __future__ import annotations

import weakref

import pytest
import redis

from asyncjobs.store.memory import MemoryBackend
from asyncjobs.testing import servers
from asyncjobs.testing.servers import Server
from tests.audit.memory import audit_memory
from tests.audit.rules import audit
from tests.audit.snapshot import ask, connected, prefixes

__all__ = ["Auditor", "look_at"]


class Auditor:
    """Knows the stores of this process: servers that run, and memory that was used.

    A finding is told once: a shared server still has it when the next test ends.
    """

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._memories: weakref.WeakSet[MemoryBackend] = weakref.WeakSet()
        self._make = MemoryBackend.__init__

    def begin(self) -> None:
        """Watch for stores in memory until `end`."""
        memories, make = self._memories, self._make

        def made(self: MemoryBackend, *args: object, **kwargs: object) -> None:
            make(self, *args, **kwargs)  # type: ignore[arg-type]  # whatever the caller gave
            memories.add(self)

        MemoryBackend.__init__ = made  # type: ignore[method-assign]  # undone by end()

    def end(self, item: pytest.Item) -> list[str]:
        """What is newly wrong after this test."""
        MemoryBackend.__init__ = self._make  # type: ignore[method-assign]  # as it was
        found = [what for memory in self._memories for what in audit_memory(memory)]
        self._memories.clear()
        for server in list(servers._running):
            where = str(server.port)
            new = [what for what in look_at(server) if (where, what) not in self._told]
            self._told.update((where, what) for what in new)
            found += new
        marker = item.get_closest_marker("unaudited")
        if marker is None:
            return found
        if not marker.args:
            return ["@pytest.mark.unaudited needs a reason"]
        return []


def look_at(server: Server) -> list[str]:
    """The findings in all stores of a server; none when it cannot be asked."""
    if server._process is None or server._process.poll() is not None:
        return []
    try:
        try:
            return _look_at(server)
        except redis.exceptions.OutOfMemoryError:
            # A full server refuses transactions, those that only read, too.
            server.command("CONFIG", "SET", "maxmemory", 0)
            return _look_at(server)
    except redis.RedisError as error:
        # Tests stop, fill and lock servers of their own; a shared one must answer.
        return [f"{server!r} could not be audited: {error}"]


def _look_at(server: Server) -> list[str]:
    with connected(server) as client:
        # redis_mode or server_mode, as the server's maker calls it.
        if b"_mode:sentinel" in ask(client, "INFO", "server"):
            return []  # it watches stores and is none
        if b"role:slave" in ask(client, "INFO", "replication"):
            # It has what its server has, also what tests have left wrong there on purpose.
            return []
        used, foreign = prefixes(client)
    found = [f"{key}: no key of a store" for key in foreign]
    return found + [f"{p}: {what}" for p in sorted(used) for what in audit(server, p)]
