"""What people ask about unique keys on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Until
from asyncjobs.store.locks import MOST_LOCKS, LockPage, LockRef, UniqueLock
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.lookups import STEP
from asyncjobs.store.redis.scripts import run, run_all, script

__all__ = ["RedisUniqueKeys"]

_UNTIL: Final[dict[bytes, Until]] = {b"f": "finished", b"s": "started", b"w": "window"}


class RedisUniqueKeys:
    """See `UniqueKeys`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def page(self, queue: str, after: bytes | None = None, limit: int = 500) -> LockPage:
        access = self._access
        look = script("locks")
        count = min(limit, MOST_LOCKS)
        command = look.command(access.keys.queue(queue), access.pinned(), after or b"0", count)
        now_ms, cursor, found = await run(access.link, look, command)
        locks = []
        # Six fields for each lock, as the script answers.
        for at in range(0, len(found), 6):
            key, mode, over, first, holder, following = found[at : at + 6]
            ref = LockRef(queue, key, JobRef(queue, id_text(holder)))
            waits = JobRef(queue, id_text(following)) if following else None
            locks.append(UniqueLock(ref, _UNTIL[mode], int(first), int(over), waits))
        return LockPage(locks, None if cursor == b"0" else cursor, now_ms)

    async def free(self, locks: Sequence[LockRef]) -> list[bool]:
        access = self._access
        drop = script("free_locks")
        steps: list[Sequence[int]] = []
        commands: list[Command] = []
        for queue, places in places_by_queue(lock.queue for lock in locks).items():
            for step in pieces(places, STEP):
                args: list[bytes] = []
                for place in step:
                    args += (locks[place].key, id_bytes(locks[place].holder.id))
                steps.append(step)
                commands.append(drop.command(access.keys.queue(queue), access.pinned(), *args))
        were_held = [False] * len(locks)
        answers = await run_all(access.link, drop, tuple(commands))
        for step, answer in zip(steps, answers, strict=True):
            for place, letter in zip(step, answer, strict=True):
                were_held[place] = letter == ord("1")
        return were_held
