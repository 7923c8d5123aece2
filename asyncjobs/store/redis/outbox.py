"""Outboxes on a server: what a step of one queue causes in others is brought there by a relay.

See lua/outbox.lua for what is kept. Any number of workers may relay one outbox at a time. Each
sends the entries in their order, and goes on to the next queue when the one before has them. So an
entry never takes effect before one that was noted earlier, and a target that is away holds up what
is behind it in this outbox, and no other outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias

from asyncjobs.errors import StoreError, StoreFull
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.answers import Relayed
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.listing import announce
from asyncjobs.store.redis.scripts import by_queue, run_each, script

__all__ = ["Outboxes"]

logger = GuardedLog("asyncjobs.redis")

NOTHING: Final = b"0-0"
"""The id before the first entry."""

_Entry: TypeAlias = tuple[bytes, bytes, bytes]
"""Id, target and text."""


class _Found(NamedTuple):
    """What an outbox holds. `before`: for each target the last entry that it has been sent."""

    entries: Sequence[_Entry]
    before: dict[bytes, bytes]
    look: Sequence[bytes]
    has_more: bool


class Outboxes:
    """Relays the outboxes of queues. Owns no connection."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def relay(self, queues: Sequence[str], limit: int) -> Relayed:
        """See `Backend.relay`."""
        read = script("outbox_read")
        names = list(dict.fromkeys(queues))
        commands = tuple(self._command("outbox_read", queue, limit) for queue in names)
        answers, unread = by_queue(names, await run_each(self._access.link, read, commands))
        away = dict(unread)
        moved = 0
        left: set[str] = set()
        for queue, answer in answers.items():
            if not answer:
                continue
            found = _read(answer)
            number, is_whole = await self._relay_one(queue, found, away, left)
            moved += number
            if found.has_more or not is_whole:
                left.add(queue)
        return Relayed(moved, frozenset(left), away)

    async def _relay_one(
        self, source: str, found: _Found, away: dict[str, StoreError], left: set[str]
    ) -> tuple[int, bool]:
        """Relay what was read from one outbox. Returns how many entries have come to their queues,
        and whether all have."""
        try:
            if found.look and not await self._look(source, found.look, away):
                return 0, False
            return await self._send(source, found, away, left)
        except StoreError as error:
            away[source] = error
            return 0, False

    async def _send(
        self, source: str, found: _Found, away: dict[str, StoreError], left: set[str]
    ) -> tuple[int, bool]:
        last: dict[bytes, bytes] = {}
        moved = 0
        is_whole = True
        for name, run in groupby(found.entries, lambda entry: entry[1]):
            entries = list(run)
            before = last.get(name, found.before.get(name, NOTHING))
            # rule:37 nothing is sent past a queue that does not answer
            if not await self._accept(source, name, before, entries, away, left):
                is_whole = False
                break
            last[name] = entries[-1][0]
            moved += len(entries)
        if moved:
            at = found.entries[moved - 1][0]
            await self._note(
                source, b"relayed", at, *(part for pair in last.items() for part in pair)
            )
        return moved, is_whole

    async def _accept(
        self,
        source: str,
        name: bytes,
        before: bytes,
        entries: Sequence[_Entry],
        away: dict[str, StoreError],
        left: set[str],
    ) -> bool:
        """Give these entries to their queue. False: it has not taken them all. What they cause
        there may be for other queues again: that one is `left` then."""
        target = _text(name)
        accept = script("outbox_accept")
        parts = (part for id, _, text in entries for part in (id, text))
        settings = self._access.settings
        head = (source, before, settings.id_ttl_ms, settings.history)
        command = self._command("outbox_accept", target, *head, *parts)
        listed: Command = (b"SADD", self._access.keys.queues, target)
        reply, known = await run_each(self._access.link, accept, (command,), last=(listed,))
        if isinstance(reply, StoreError):
            away[target] = reply
            return False
        if isinstance(known, StoreFull):
            # rule:6 a queue that first gets a job from an outbox is in the list of all queues
            await announce(self._access.link, self._access.keys.queues, [target])
        mark, _, unread, has_posted = reply
        if has_posted:
            # rule:37 what a relayed end causes elsewhere is relayed at once
            left.add(target)
        if unread:
            text = (
                "%d entries of the outbox of queue %r for queue %r could not be read, and are lost"
            )
            logger.error(text, unread, source, target)
        if _number(mark) < _number(before):
            await self._fall_back(source, name, mark)
            return False
        return True

    async def _look(self, source: str, look: Sequence[bytes], away: dict[str, StoreError]) -> bool:
        """Look whether the targets still have what they were sent some time ago. False: one of
        them does not."""
        upto, *sent = look
        targets = sent[::2]
        commands = [
            (b"HGET", self._access.keys.queue(_text(name)).base + b"inbox", source)
            for name in targets
        ]
        marks = await self._access.link.calls(commands)
        for name, id, mark in zip(targets, sent[1::2], marks, strict=True):
            if isinstance(mark, StoreError):
                away[_text(name)] = mark
                return True
            # rule:37 entries are kept until the target has them after longer than it may lose
            if _number(mark or NOTHING) < _number(id):
                await self._fall_back(source, name, mark or NOTHING)
                return False
        await self._note(source, b"looked", upto)
        return True

    async def _fall_back(self, source: str, name: bytes, mark: bytes) -> None:
        """A target has lost what it was sent. It is sent again from there."""
        logger.warning(
            "queue %r has lost what it got from the outbox of queue %r behind entry %s, as after a "
            "restart of its server; that is sent again",
            _text(name),
            source,
            _text(mark),
        )
        await self._note(source, b"behind", name, mark)

    async def _note(self, source: str, *what: bytes) -> None:
        note = script("outbox_note")
        (reply,) = await run_each(
            self._access.link, note, (self._command("outbox_note", source, *what),)
        )
        if isinstance(reply, StoreError):
            raise reply

    def _command(self, name: str, queue: str, *args: bytes | str | int) -> Command:
        keys = self._access.keys.queue(queue)
        return script(name).command(keys, self._access.pinned(), *args)


def _read(answer: Sequence[Any]) -> _Found:
    entries, before, look, more = answer
    pairs = dict(zip(before[::2], before[1::2], strict=True))
    return _Found([(id, name, text) for id, name, text in entries], pairs, look, bool(more))


def _number(id: bytes) -> tuple[int, int]:
    """The id of an entry, for comparing. What a foreign writer has put there is before all."""
    ms, _, number = id.partition(b"-")
    if not (ms.isdigit() and number.isdigit() and len(id) < 42):
        return 0, 0
    return int(ms), int(number)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
