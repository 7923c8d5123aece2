"""Which queues there are: enqueues say their names, each client now and then."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from asyncjobs.errors import StoreError, StoreFull
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.redis.link import Command

__all__ = ["AGAIN_S", "QueueNames"]

logger = GuardedLog("asyncjobs.redis")

AGAIN_S: Final = 60.0
"""A name is said again after so long, for the store may have lost its data. lua/forget.lua keeps
a queue for longer than that after each enqueue."""


class QueueNames:
    """What this client has said to the list of all queues, and when. Owns no connection.

    A name is sent right behind the jobs, never before them: while a queue holds a job that was
    just stored it cannot be forgotten, so from then on it is in the list.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._said_s: dict[str, float] = {}

    def due(self, queues: Iterable[str]) -> list[str]:
        """Those of the names that have to be said with the next job."""
        since_s = time.monotonic() - AGAIN_S
        return [queue for queue in queues if self._said_s.get(queue, since_s) <= since_s]

    def command(self, queues: Iterable[str]) -> Command:
        """What enters these names."""
        return (b"SADD", self._key, *queues)

    def note(self, queues: Iterable[str], sent_s: float, reply: Any) -> None:
        """Names were sent at `sent_s`, each with a new job.

        Not with jobs that were there: these keep no queue from being forgotten, and the next
        new one must be said.
        """
        if isinstance(reply, StoreFull):
            return
        if isinstance(reply, StoreError):
            logger.error("jobs are stored, and their queues are in no list of queues: %s", reply)
        self._said_s.update(dict.fromkeys(queues, sent_s))
