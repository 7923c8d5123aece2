"""The names of all keys. The keys of a queue share a hash tag, so they share a cluster slot."""

from __future__ import annotations

from typing import Final

from asyncjobs.model.ids import id_bytes
from asyncjobs.model.refs import JobRef

__all__ = ["QUEUE_KEYS", "QueueKeys", "StoreKeys"]

QUEUE_KEYS: Final = (
    "ready:0",
    "ready:1",
    "ready:2",
    "ready:3",
    "index",
    "scheduled",
    "scheduled:data",
    "workers",
    "workers:info",
    "sequence",
    "leaving",
    "wake",
    "cancel",
    "cancel:held",
    "returned",
    "crashes",
    "dead",
    "dead:data",
    "dead:bytes",
    "dead:noted",
    "progress",
    "noted",
    "upkeep",
    "known:0",
    "known:1",
    "known:2",
    "awaited",
    "stats",
    "largest",
    "gated",
    "paused",
    "history",
    "history:jobs",
    "unique",
    "unique:of",
    "unique:next",
    "unique:held",
    "unique:since",
    "unique:windows",
    "cron",
    "cron:next",
    "barriers:ends",
    "waits",
    "events",
    "events:of",
)
"""How the names of a queue's keys end. lua/shared.lua uses them."""


class QueueKeys:
    """The keys of one queue, as bytes ready to be sent."""

    __slots__ = ("all", "base", "control", "queue", "ready", "wake")

    def __init__(self, prefix: str, queue: str) -> None:
        self.queue = queue
        # The braces make a hash tag: a cluster puts all keys of a queue into one slot.
        self.base = f"{{{prefix}:{queue}}}:".encode()
        # Made once, for each call of a script needs some of them.
        self.all = tuple(self.base + name.encode() for name in QUEUE_KEYS)
        self.ready = self.all[:4]
        self.wake = self.base + b"wake"
        self.control = self.base + b"control"
        """This is a channel, not a key."""

    def result(self, job_id: str) -> bytes:
        """Where the outcome is kept. The channel that announces it has the same name."""
        return self.base + b"result:" + id_bytes(job_id)

    def notes(self, job_id: str) -> bytes:
        """Where the notes of a living job are kept."""
        return self.base + b"notes:" + id_bytes(job_id)

    def dead_notes(self, job_id: str) -> bytes:
        """Where the notes of a dead job are kept."""
        return self.base + b"dead:notes:" + id_bytes(job_id)

    def rule(self, schedule_id: str) -> bytes:
        """Where a schedule is kept."""
        return self.base + b"cron:of:" + id_bytes(schedule_id)

    def ran(self, schedule_id: str) -> bytes:
        """Where the jobs that a schedule has made are remembered."""
        return self.base + b"cron:ran:" + id_bytes(schedule_id)

    def batch(self, token: str) -> bytes:
        """Where the answer to an enqueue batch is kept."""
        return self.base + b"batch:" + token.encode()


class StoreKeys:
    """The keys of the whole store, and those of its queues. Each is made once."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.layout = f"{prefix}:layout".encode()
        self.queues = f"{prefix}:queues".encode()
        self.schedules = f"{prefix}:schedules".encode()
        self.survey = f"{prefix}:survey".encode()
        self._of_queue: dict[str, QueueKeys] = {}

    def queue(self, name: str) -> QueueKeys:
        keys = self._of_queue.get(name)
        if keys is None:
            keys = self._of_queue[name] = QueueKeys(self.prefix, name)
        return keys

    def result(self, ref: JobRef) -> bytes:
        return self.queue(ref.queue).result(ref.id)
