"""Sleeps of a job that hold no slot."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.guard.untrusted import LAST_MS, read_whole
from asyncjobs.jobs.seat import Seat
from asyncjobs.jobs.steps import Steps
from asyncjobs.jobs.suspend import Suspend
from asyncjobs.model.clock import Seconds, at_ms, seconds
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.notes import SLEEP

__all__ = ["Sleeps"]

SHORT_MS: Final = 1_000
"""What is shorter is waited for in the slot: to come back costs more than to stay."""


class Sleeps:
    """The sleeps of one attempt, matched with those of earlier ones by name or by their order."""

    def __init__(self, seat: Seat, steps: Steps, function: str) -> None:
        self._seat = seat
        self._steps = steps
        self._function = function
        self._count = 0
        self._names: set[str] = set()

    async def sleep(self, delay: Seconds | None, until: datetime | None, name: str | None) -> None:
        until_ms = self._until_ms(delay, until)
        key = SLEEP + self._match(name)
        if self._seat.is_local:
            await asyncio.sleep(max(until_ms - self._seat.now_ms, 0) / 1000)
            return
        until_ms = await self._noted_ms(key, until_ms)
        left_ms = until_ms - self._seat.now_ms
        if left_ms >= SHORT_MS:
            raise Suspend(left_ms / 1000, "sleep")
        if left_ms > 0:
            await asyncio.sleep(left_ms / 1000)

    def _until_ms(self, delay: Seconds | None, until: datetime | None) -> int:
        if (delay is None) == (until is None):
            raise UsageError(
                f"ctx.sleep in {self._function} takes a delay or until=, one of the two"
            )
        if until is not None:
            return at_ms(until, field="until")
        assert delay is not None
        return self._seat.now_ms + round(seconds(delay, field="delay of ctx.sleep") * 1000)

    def _match(self, name: str | None) -> str:
        if name is None:
            self._count += 1
            return str(self._count)
        name = f"={name}"
        if name in self._names or len(name) > SHORT_MS:
            raise UsageError(
                f"{self._function} has two sleeps with the name {shown(name[1:])} in one attempt; "
                "give each its own"
            )
        self._names.add(name)
        return name

    async def _noted_ms(self, key: str, until_ms: int) -> int:
        """When the sleep ends: as an earlier attempt has said, or as this one says now."""
        raw = (await self._steps.book.read()).get(key)
        if raw is not None:
            try:
                return read_whole(read_fields(raw), "until", most=LAST_MS)
            except ValueError as error:
                raise BadRecord(f"the note of a sleep cannot be read: {error}") from None
        if until_ms - self._seat.now_ms >= SHORT_MS:
            # rule:24 a sleep that has begun is not begun again
            self._steps.book.note(
                key, to_json({"until": until_ms}), f"the sleep {shown(key)}", forward=False
            )
            await self._steps.write()
        return until_ms
