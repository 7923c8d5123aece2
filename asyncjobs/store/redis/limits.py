"""Limits on a server: looking at them, changing them, and passing them outside of jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import UsageError
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse
from asyncjobs.store.limits import MOST_LIMITS, Acquired, LimitPage, LimitRecord
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.gates import gate_args, rule_text
from asyncjobs.store.redis.listing import QueueNames
from asyncjobs.store.redis.lookups import text
from asyncjobs.store.redis.scripts import run, script

__all__ = ["RedisLimits"]

_KINDS: Final = {b"c": LimitKind.CONCURRENCY, b"r": LimitKind.RATE}
_BOUNDS: Final = {
    LimitKind.CONCURRENCY: "how many jobs run at once",
    LimitKind.RATE: "how many jobs start in a time",
}
_FIELDS: Final = 8
"""What lua/limit_page.lua answers of each key."""


class RedisLimits:
    """See `Limits`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._listed = QueueNames(access.keys.queues)

    async def page(self, queue: str, after: str | None = None, limit: int = 500) -> LimitPage:
        """See `Limits.page`."""
        found: list[LimitRecord] = []
        most = max(min(limit, MOST_LIMITS), 1)
        place = "" if after is None else after
        while True:
            now_ms, goes_on, flat = await self._run("limit_page", queue, place, most)
            found += _records(queue, flat)
            place = text(goes_on)
            # Parts without a key follow each other: a page is empty only at the end.
            if found or not place:
                return LimitPage(found, place or None, now_ms)

    async def look(self, queue: str, limit: str, key: str) -> LimitRecord | None:
        """See `Limits.look`."""
        _, _, flat = await self._run("limit_page", queue, "=", 1, *_names(limit, key))
        return next(iter(_records(queue, flat)), None)

    async def set_rule(
        self, queue: str, limit: str, key: str | None, rule: LimitRule | None
    ) -> bool:
        """See `Limits.set_rule`."""
        name, own = _names(limit, key or "")
        new = b"" if rule is None else rule_text(rule)
        is_own = int(key is not None)
        place = b""
        while True:
            how, place = await self._run("limit_set", queue, name, is_own, own, new, place)
            if how == -1 and rule is not None:
                kind = _KINDS[place]
                raise UsageError(
                    f"the limit {limit!r} bounds {_BOUNDS[kind]}, and the new rule bounds "
                    f"{_BOUNDS[rule.kind]}: give a rule of the kind {kind.value!r}"
                )
            if how != 1 or not place:
                return bool(how)

    async def free(self, queue: str, limit: str, key: str) -> int:
        """See `Limits.free`."""
        freed = 0
        place = b""
        while True:
            number: int
            number, place = await self._run("limit_free", queue, *_names(limit, key), place)
            freed += number
            if not place:
                return freed

    async def acquire(
        self, queue: str, uses: Sequence[LimitUse], holder: str, ttl_ms: int
    ) -> Acquired:
        """See `Limits.acquire`."""
        gate = gate_args(Gate(tuple(uses)))
        is_in, again_ms = await self._run("limit_acquire", queue, gate, _bytes(holder), ttl_ms)
        await self._list(queue)
        return Acquired(bool(is_in), again_ms)

    async def renew(self, queue: str, holder: str, ttl_ms: int) -> bool:
        """See `Limits.renew`."""
        return bool(await self._run("limit_holder", queue, _bytes(holder), ttl_ms))

    async def give_back(self, queue: str, holder: str) -> None:
        """See `Limits.give_back`."""
        await self._run("limit_holder", queue, _bytes(holder), "")

    async def close(self, queue: str, uses: Sequence[LimitUse], for_ms: int) -> None:
        """See `Limits.close`."""
        await self._run("limit_close", queue, gate_args(Gate(tuple(uses))), for_ms)
        await self._list(queue)

    async def _list(self, queue: str) -> None:
        """Let the queue be found that may have had no job yet."""
        if self._listed.due([queue]):
            sent_s = time.monotonic()
            (reply,) = await self._access.link.calls((self._listed.command([queue]),))
            # Without it the permit counts all the same. Only a list of limits would miss it.
            self._listed.note([queue], sent_s, reply)

    async def _run(self, name: str, queue: str, *args: bytes | str | int) -> Any:
        access = self._access
        which = script(name)
        command = which.command(access.keys.queue(queue), access.pinned(), *args)
        return await run(access.link, which, command)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _names(limit: str, key: str) -> tuple[bytes, bytes]:
    return _bytes(limit), _bytes(key)


def _records(queue: str, flat: Sequence[Any]) -> list[LimitRecord]:
    found = []
    for at in range(0, len(flat), _FIELDS):
        limit, key, stored, is_set, running, waiting, oldest, opens = flat[at : at + _FIELDS]
        rule = _rule(stored)
        if rule is None:
            # Somebody has removed the rule by hand, and code has not said it again yet.
            continue
        found.append(
            LimitRecord(
                queue,
                text(limit),
                text(key),
                rule,
                bool(is_set),
                running,
                waiting,
                oldest if oldest >= 0 else None,
                opens if opens >= 0 else None,
            )
        )
    return found


def _rule(stored: bytes) -> LimitRule | None:
    kind = _KINDS.get(stored[:1])
    numbers = stored[1:].split(b" ")
    if kind is None or len(numbers) != 3:
        return None
    number, period_ms, burst = map(int, numbers)
    return LimitRule(kind, number, period_ms, burst)
