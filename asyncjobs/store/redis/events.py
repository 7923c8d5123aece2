"""Events on a server: from waits to commands and back, and sending in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.awaiting import Awaited, EventWait, NewEvent, Sent, Waited
from asyncjobs.model.ids import id_bytes
from asyncjobs.store.answers import EventSent
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.notes import job_steps, place_of
from asyncjobs.store.redis.scripts import Script, by_queue, run_each, script

__all__ = ["EventWaits", "send"]

_HOW: Final[dict[bytes, Waited]] = {b"come": "come", b"over": "over"}
_NOT_YET: Final = Sent("", 0)
WAKE_STEP: Final = 1_000
"""How many waiting jobs one call looks at: in between the server serves others."""


class EventWaits:
    """The calls that let jobs wait which a lease holds."""

    __slots__ = ("_steps", "_waits", "commands")

    def __init__(
        self,
        ask: Script,
        keys: StoreKeys,
        lease: LeaseSpec,
        pinned: bytes,
        waits: Sequence[EventWait],
    ) -> None:
        self._waits = waits
        self._steps = job_steps(lease, [wait.job for wait in waits])
        commands: list[Command] = []
        for queue, places in self._steps:
            args: list[bytes | str | int] = [pinned, lease.entry(queue)]
            for place in places:
                job, name, key, note, after, timeout_ms, over = waits[place]
                args += (id_bytes(job.id), place_of(job), _event_of(name, key))
                args += (note, after, timeout_ms, over)
            commands.append(ask.command(keys.queue(queue), *args))
        self.commands = tuple(commands)

    def read(self, replies: Sequence[Any]) -> list[Awaited | None]:
        """How each wait stands, None for a job that the lease does not hold."""
        found: list[Awaited | None] = [None] * len(self._waits)
        for (_, places), reply in zip(self._steps, replies, strict=True):
            for place, answer in zip(places, reply, strict=True):
                if isinstance(answer, list):
                    found[place] = _awaited(*answer)
        return found


def _awaited(how: bytes, what: Any, now_ms: int = 0) -> Awaited:
    if how == b"waits":
        return Awaited("waits", until_ms=what, left_ms=what - now_ms)
    return Awaited(_HOW[how], what)


def _event_of(name: str, key: str) -> bytes:
    """An event as lua/events.lua names it."""
    return b"%b\0%b" % (name.encode(), key.encode())


async def send(access: Access, event: NewEvent, queues: Sequence[str]) -> EventSent:
    """See `Backend.send_event`."""
    bring = script("send_event")
    settings = access.settings
    head = (
        *(_event_of(event.name, event.key), event.value, event.token, settings.event_ttl_ms),
        *(settings.event_max_count, settings.event_max_bytes, WAKE_STEP),
    )
    sent: dict[str, Sent] = {}
    refused: dict[str, StoreError] = {}
    # By queue, what the next call goes on with; at first nothing.
    left: dict[str, tuple[bytes, ...]] = dict.fromkeys(queues, ())
    # Each call looks at jobs behind those before it, and a job that waits anew waits for a later
    # event. So this ends.
    while left:
        commands = tuple(
            bring.command(access.keys.queue(queue), access.pinned(), *head, *behind)
            for queue, behind in left.items()
        )
        answers, away = by_queue(tuple(left), await run_each(access.link, bring, commands))
        refused.update(away)
        left = {}
        for queue, (id, woken, goes_on) in answers.items():
            before = sent.get(queue, _NOT_YET).woken
            sent[queue] = Sent(id.decode(), before + woken)
            if goes_on:
                left[queue] = (id, goes_on)
    # What a later call has refused is in doubt, although its first part was served.
    return EventSent({name: one for name, one in sent.items() if name not in refused}, refused)
