"""Looking at limits in memory, changing them, and passing them outside of jobs."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.terms import LimitKind, LimitRule, LimitUse
from asyncjobs.store.limits import MOST_LIMITS, Acquired, LimitPage, LimitRecord
from asyncjobs.store.memory.permits import LimitKey, Use
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryLimits"]


class MemoryLimits:
    """See `Limits`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def page(self, queue: str, after: str | None = None, limit: int = 500) -> LimitPage:
        """See `Limits.page`. In the order of limits and keys."""
        self._queues.raise_broken([queue])
        now = self._queues.now_ms()
        found = self._queues.by_name.get(queue)
        keys: list[LimitKey] = []
        if found is not None:
            gates = found.waiting.gates
            gates.open(now)
            gates.keys.forget(now)
            keys = sorted(gates.keys, key=_place)
            found.signal_news()
        if after is not None:
            keys = [key for key in keys if _place(key) > after]
        limit = min(limit, MOST_LIMITS)
        page = [_record(found, key, now) for key in keys[:limit] if found is not None]
        next_page = None
        if len(keys) > limit:
            next_page = _place(keys[limit - 1])
        return LimitPage(page, next_page, now)

    async def look(self, queue: str, limit: str, key: str) -> LimitRecord | None:
        self._queues.raise_broken([queue])
        found = self._queues.by_name.get(queue)
        if found is None or not found.waiting.gates.keys.is_known(limit):
            return None
        now = self._queues.now_ms()
        found.waiting.gates.open(now)
        there = found.waiting.gates.keys.find((limit, key))
        return _record(found, there or LimitKey((limit, key)), now)

    async def set_rule(
        self, queue: str, limit: str, key: str | None, rule: LimitRule | None
    ) -> bool:
        self._queues.raise_broken([queue])
        found = self._queues.by_name.get(queue)
        if found is None or not found.waiting.gates.keys.is_known(limit):
            return False
        now = self._queues.now_ms()
        gates = found.waiting.gates
        for changed in gates.keys.set_rule(limit, key, rule):
            gates.lanes.rule_changed(changed, now)
            gates.keys.drop_idle(changed)
        found.signal_all()
        return True

    async def free(self, queue: str, limit: str, key: str) -> int:
        """See `Limits.free`. Always 0: in memory a permit stands with who holds it."""
        self._queues.raise_broken([queue])
        found = self._queues.by_name.get(queue)
        there = None if found is None else found.waiting.gates.keys.find((limit, key))
        if found is not None and there is not None:
            there.closed_ms = 0
            found.waiting.gates.lanes.let_in_all(there, self._queues.now_ms())
            found.waiting.gates.keys.drop_idle(there)
            found.signal_all()
        return 0

    async def acquire(
        self, queue: str, uses: Sequence[LimitUse], holder: str, ttl_ms: int
    ) -> Acquired:
        own = self._sound(queue)
        now = self._queues.now_ms()
        answer = own.waiting.gates.outside.acquire(uses, holder, ttl_ms, now)
        own.signal_all()
        return answer

    async def renew(self, queue: str, holder: str, ttl_ms: int) -> bool:
        own = self._sound(queue)
        is_in = own.waiting.gates.outside.renew(holder, ttl_ms, self._queues.now_ms())
        own.signal_all()
        return is_in

    async def give_back(self, queue: str, holder: str) -> None:
        own = self._sound(queue)
        own.waiting.gates.outside.give_back(holder, self._queues.now_ms())
        own.signal_all()

    async def close(self, queue: str, uses: Sequence[LimitUse], for_ms: int) -> None:
        own = self._sound(queue)
        now = self._queues.now_ms()
        own.waiting.gates.close(uses, now + for_ms, now)
        own.signal_all()

    def _sound(self, queue: str) -> Queue:
        found = self._queues.sound(queue)
        self._queues.note_used(queue)
        return found


def _place(key: LimitKey) -> str:
    """Where a key stands in the order of pages."""
    limit, name = key.name
    return f"{limit}\0{name}"


def _record(queue: Queue, key: LimitKey, now: int) -> LimitRecord:
    keys = queue.waiting.gates.keys
    limit, name = key.name
    rule = keys.rule(key.name)
    opens_ms = keys.opens_ms(Use(key, 1), now)
    if rule.kind is LimitKind.CONCURRENCY:
        # However many permits are taken: that it is closed is told apart.
        opens_ms = key.closed_ms
    if opens_ms is not None and opens_ms <= now:
        opens_ms = None
    oldest = (ms for lane in key.barred if (ms := lane.oldest_ms()) is not None)
    return LimitRecord(
        queue.name,
        limit,
        name,
        rule,
        keys.is_set(key.name),
        key.running,
        key.waiting(),
        min(oldest, default=None),
        opens_ms,
    )
