"""The list of all queues: each client adds the names of those it enqueues into, now and then."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any, Final

from asyncjobs.errors import StoreError, StoreFull
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.redis.link import Command, Link
from asyncjobs.store.redis.scripts import run, script

__all__ = ["AGAIN_S", "QueueNames", "announce"]

logger = GuardedLog("asyncjobs.redis")

AGAIN_S: Final = 60.0
"""A name is sent again after so long, for the store may have lost its data. lua/forget.lua keeps
a queue for longer than that after each enqueue."""


class QueueNames:
    """The names that this client has added to the list, and when. Owns no connection.

    A name is sent right behind the jobs, never before them. A queue that holds a new job cannot
    be forgotten, so its name stays in the list. A name that came first could be taken off it
    before the job is there.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._said_s: dict[str, float] = {}

    def due(self, queues: Iterable[str]) -> list[str]:
        """The names that have to be sent with the next job."""
        since_s = time.monotonic() - AGAIN_S
        return [queue for queue in queues if self._said_s.get(queue, since_s) <= since_s]

    def command(self, queues: Iterable[str]) -> Command:
        """The command that adds these names."""
        return (b"SADD", self._key, *queues)

    def note(self, queues: Iterable[str], sent_s: float, reply: Any) -> None:
        """Note that these names were sent at `sent_s`, each behind a new job.

        Not behind a job that was there already. Such a job may have ended since, and then it
        keeps no queue from being forgotten.
        """
        if isinstance(reply, StoreFull):
            return
        if isinstance(reply, StoreError):
            logger.error("jobs are stored, and their queues are in no list of queues: %s", reply)
        self._said_s.update(dict.fromkeys(queues, sent_s))


async def announce(link: Link, key: bytes, queues: Collection[str]) -> None:
    """Add these names to the list at `key`, also when memory is full."""
    adds = script("announce")
    # Without `Script.command`, for this script has no keys of a queue.
    head: tuple[bytes | int, ...] = (b"EVALSHA", adds.digest, 1, key, b"")
    await run(link, adds, (*head, *queues))
