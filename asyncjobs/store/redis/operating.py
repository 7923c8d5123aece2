"""What operators do to queues and workers on a server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from asyncjobs.errors import UsageError
from asyncjobs.model.ids import id_bytes
from asyncjobs.model.job import State
from asyncjobs.store.control import Order, OrderKind, Pause, Purge, Purged
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.bringing import bring
from asyncjobs.store.redis.scripts import run, run_all, script

__all__ = [
    "RedisControl",
    "RedisQueueControl",
    "RedisWorkerControl",
    "ordered_state",
    "read_orders",
]

_LETTERS: Final = ((State.HELD, "hb"), (State.READY, "r"), (State.SCHEDULED, "s"))
"""As lua/purge_waiting.lua knows the states, in the order in which it goes through them."""
_VALUE: Final = re.compile(rb"([pr])(\d{1,16}) (.*)", re.DOTALL)
"""A value of the hash `paused`, as lua/paused.lua says."""


class RedisControl:
    """See `Control`."""

    def __init__(self, access: Access) -> None:
        self.queues = RedisQueueControl(access)
        self.workers = RedisWorkerControl(access)


class RedisQueueControl:
    """See `QueueControl`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def pause(self, queues: Sequence[str], function: str | None, info: bytes) -> list[bool]:
        stop = script("pause")
        access = self._access
        commands = tuple(
            stop.command(
                access.keys.queue(queue),
                access.pinned(),
                _field(function),
                info,
                queue,
                more_keys=(access.keys.queues,),
            )
            for queue in queues
        )
        if not commands:
            return []
        replies = await run_all(access.link, stop, commands)
        for queue, (is_new, _) in zip(queues, replies, strict=True):
            if is_new < 0:
                raise UsageError(
                    f"1,000 job functions of the queue {queue!r} are paused, and no more can be: "
                    "pause the queue itself, or resume functions that are gone"
                )
        return [is_new == 1 for is_new, _ in replies]

    async def resume(self, queues: Sequence[str], function: str | None) -> list[bool]:
        start = script("resume")
        access = self._access
        answers = []
        for queue in queues:
            command = start.command(access.keys.queue(queue), access.pinned(), _field(function))
            # One after the other, for each may take several calls and a server serves others in
            # between.
            was_paused, has_more = await run(access.link, start, command)
            answers.append(was_paused == 1)
            # If this process dies here, exchanges go on: see lua/paused.lua. So nothing has to be
            # made good when a call fails.
            while has_more:
                _, has_more = await run(access.link, start, command)
        return answers

    async def paused(self, queues: Sequence[str]) -> list[list[Pause]]:
        look = script("paused_list")
        access = self._access
        commands = tuple(look.command(access.keys.queue(q), access.pinned()) for q in queues)
        if not commands:
            return []
        replies = await run_all(access.link, look, commands)
        return [
            sorted(
                (_pause(queue, reply[at], reply[at + 1]) for at in range(0, len(reply), 2)),
                key=lambda pause: pause.function or "",
            )
            for queue, reply in zip(queues, replies, strict=True)
        ]

    async def purge(self, purge: Purge, limit: int, after: bytes | None = None) -> Purged:
        # Without a state the script would begin with scheduled jobs.
        if not purge.states:
            return Purged(0, None)
        drop = script("purge_waiting")
        access = self._access
        ttl_ms = 0
        if purge.outcome is not None:
            ttl_ms = purge.result_ttl_ms
        command = drop.command(
            access.keys.queue(purge.queue),
            access.pinned(),
            access.settings.id_ttl_ms,
            ttl_ms,
            purge.outcome or b"",
            access.settings.history,
            limit,
            _field(purge.function),
            "".join(letter for state, letter in _LETTERS if state in purge.states),
            after or b"",
            int(purge.is_trial),
        )
        jobs, goes_on, has_posted = await run(access.link, drop, command)
        if has_posted:
            await bring(access, [purge.queue])
        return Purged(jobs, goes_on or None)


class RedisWorkerControl:
    """See `WorkerControl`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def order(
        self, entries: Sequence[tuple[str, str]], kind: OrderKind, value: str
    ) -> list[bool]:
        give = script("order")
        access = self._access
        commands = tuple(
            give.command(access.keys.queue(queue), access.pinned(), id_bytes(lease), kind, value)
            for queue, lease in entries
        )
        if not commands:
            return []
        return [reply == 1 for reply in await run_all(access.link, give, commands)]


_KINDS: Final = (OrderKind.STATE, OrderKind.WEIGHTS)
"""In the order in which lua/heartbeat.lua answers."""


def read_orders(answers: Sequence[Sequence[bytes | None]]) -> tuple[Order, ...]:
    """The last order of each kind, from the answers of all queues."""
    last: dict[OrderKind, Order] = {}
    for answer in answers:
        for kind, stored in zip(_KINDS, answer, strict=False):
            # Nearly always there is none. A foreign writer may have put anything there.
            if not stored or (found := _ORDER.fullmatch(stored)) is None:
                continue
            order = Order(kind, int(found[1]), found[2].decode("utf-8", "replace"))
            if kind not in last or order.number > last[kind].number:
                last[kind] = order
    return tuple(last.values())


def ordered_state(stored: bytes) -> str:
    """The state in an order, without its number."""
    found = _ORDER.fullmatch(stored)
    return found[2].decode("utf-8", "backslashreplace") if found else ""


_ORDER: Final = re.compile(rb"(\d{1,16}) (.*)", re.DOTALL)


def _field(function: str | None) -> bytes:
    return b"" if function is None else id_bytes(function)


def _pause(queue: str, name: bytes, value: bytes) -> Pause:
    function = name.decode("utf-8", "backslashreplace") or None
    found = _VALUE.fullmatch(value)
    if found is None:
        # A foreign writer has put it there. It is in force all the same.
        return Pause(queue, function, 0, b"{}")
    return Pause(queue, function, int(found[2]), found[3], is_resuming=found[1] == b"r")
