"""The inspection of a server, for command line, dashboard and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.ends import STATE_OF_CODE
from asyncjobs.model.headers import PUT_BACK_MARK
from asyncjobs.model.ids import id_text
from asyncjobs.model.notes import Notes
from asyncjobs.model.refs import JobRef
from asyncjobs.store.activity import ENQUEUED, RESCHEDULED, flow_of
from asyncjobs.store.inspect import (
    Finding,
    Leftover,
    QueueCounts,
    QueueFlow,
    Survey,
    WorkerEntry,
)
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.diagnosis import diagnose
from asyncjobs.store.redis.history import RedisHistory
from asyncjobs.store.redis.jobs import RedisJobInspection
from asyncjobs.store.redis.locks import RedisUniqueKeys
from asyncjobs.store.redis.notes import read_notes
from asyncjobs.store.redis.operating import ordered_state
from asyncjobs.store.redis.scripts import run, run_all, script

__all__ = ["RedisInspection", "RedisQueueInspection"]

MOST_WORKERS: Final = 1000
_WORDS: Final[dict[bytes, str]] = {b"e": ENQUEUED, b"r": RESCHEDULED, **STATE_OF_CODE}


class RedisInspection:
    """See `Inspection`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.queues = RedisQueueInspection(access)
        self.history = RedisHistory(access)
        self.jobs = RedisJobInspection(access, self.history)
        self.unique = RedisUniqueKeys(access)

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        replies = await _ask(self._access, "workers", queues, MOST_WORKERS)
        return [
            _worker(queue, now_ms, *found[at : at + 6])
            for queue, (now_ms, found) in zip(queues, replies, strict=True)
            for at in range(0, len(found), 6)
        ]

    async def notes(self, ref: JobRef, *, is_dead: bool) -> Notes:
        keys = self._access.keys.queue(ref.queue)
        key = keys.notes(ref.id)
        if is_dead:
            key = keys.dead_notes(ref.id)
        try:
            reply = await self._access.link.call(b"HGETALL", key)
        except StoreUnavailable:
            # After a restart of the server each connection fails once.
            reply = await self._access.link.call(b"HGETALL", key)
        return read_notes(reply)

    async def diagnose(self) -> list[Finding]:
        return await diagnose(self._access.link)


class RedisQueueInspection:
    """See `QueueInspection`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def names(self) -> list[str]:
        return sorted(
            map(_name, await self._access.link.call(b"SMEMBERS", self._access.keys.queues))
        )

    async def survey(self, asker: str, about: int, turn_ms: int) -> Survey:
        look = script("survey")
        keys = (self._access.keys.queues, self._access.keys.survey)
        command = (b"EVALSHA", look.digest, len(keys), *keys, b"", asker, about, turn_ms)
        is_turn, is_last, names = await run(self._access.link, look, command)
        return Survey(bool(is_turn), bool(is_last), list(map(_name, names)))

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        return [
            # In the order in which lua/counts.lua answers.
            QueueCounts(queue, (r[0], r[1], r[2], r[3]), *r[4:])
            for queue, r in zip(queues, await _ask(self._access, "counts", queues), strict=True)
        ]

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]:
        replies = await _ask(self._access, "flow", queues)
        return [
            flow_of(queue, now_ms, _time(oldest), _counters(stored), _time(due))._replace(
                outbox=posted, oldest_outbox_ms=_time(since)
            )
            for queue, (now_ms, oldest, stored, due, posted, since) in zip(
                queues, replies, strict=True
            )
        ]

    async def put_back(self, queues: Sequence[str], limit: int) -> list[list[bytes]]:
        return await _ask(self._access, "put_back", queues, limit, PUT_BACK_MARK)

    async def forget(self, queues: Sequence[str], idle_ms: int) -> list[Leftover]:
        drop = script("forget")
        commands = tuple(
            drop.command(
                self._access.keys.queue(queue),
                self._access.pinned(),
                idle_ms,
                queue,
                more_keys=(self._access.keys.queues,),
            )
            for queue in queues
        )
        if not commands:
            return []
        replies = await run_all(self._access.link, drop, commands)
        return [Leftover(queue, *reply) for queue, reply in zip(queues, replies, strict=True)]


async def _ask(access: Access, name: str, queues: Sequence[str], *args: int | bytes) -> list[Any]:
    """The answers of a script that looks at one queue, in the order of the queues."""
    if not queues:
        return []
    which = script(name)
    return await run_all(
        access.link,
        which,
        tuple(which.command(access.keys.queue(q), access.pinned(), *args) for q in queues),
    )


def _worker(
    queue: str, now_ms: int, lease: bytes, end_ms: int, info: bytes, *state: Any
) -> WorkerEntry:
    running, leaves, ordered = state
    about = (info, running, leaves == 1, ordered_state(ordered))
    return WorkerEntry(queue, id_text(lease), end_ms, now_ms, *about)


def _time(reply: int) -> int | None:
    """A time as the scripts answer it: below 0 there is none."""
    return None if reply < 0 else reply


def _name(raw: bytes) -> str:
    """The name of a queue. A foreign writer's bytes are shown as escapes: they are no reason to
    show nothing at all."""
    return raw.decode("utf-8", "backslashreplace")


def _counters(stored: list[bytes]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for field, number in zip(stored[::2], stored[1::2], strict=True):
        minute, _, code = field.partition(b":")
        # A foreign writer may have put something else there. It is not counted.
        is_number = minute.isdigit() and number.isdigit() and len(minute) + len(number) < 40
        if code in _WORDS and is_number:
            found[int(minute), _WORDS[code]] = int(number)
    return found
