"""The channel on which a worker hears at once that a job of its queues was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from asyncjobs.backends.base import CancelCall
from asyncjobs.backends.redis.exchange import id_of
from asyncjobs.backends.redis.keys import StoreKeys
from asyncjobs.backends.redis.link import Link
from asyncjobs.job import JobRef

__all__ = ["ControlChannel"]


class ControlChannel:
    """Owns one subscribed connection, made when first needed and again after a fault.

    While nothing is said, nothing is asked but once at the end of each silent call: a
    half-open connection would be silent for ever.
    """

    def __init__(self, link: Link, keys: StoreKeys, queues: Sequence[str]) -> None:
        self._link = link
        self._channels = {keys.queue(queue).control: queue for queue in queues}
        self._is_subscribed = False

    async def listen(self, timeout_s: float) -> Collection[CancelCall]:
        """See `Backend.listen`."""
        try:
            await self._subscribe()
            return self._read(await self._next(timeout_s))
        except BaseException:
            await self.close()
            raise

    async def _subscribe(self) -> None:
        if self._is_subscribed:
            return
        await self._link.push((b"SUBSCRIBE", *self._channels))
        for _ in self._channels:
            await self._answer()
        self._is_subscribed = True

    async def _next(self, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._link.next_message()
        except TimeoutError:
            # Subscribing again changes nothing, is answered, and unlike PING needs no right
            # that this user does not have anyway.
            await self._link.push((b"SUBSCRIBE", next(iter(self._channels))))
            return await self._answer()

    async def _answer(self) -> Any:
        """The next message, when one has been asked for."""
        try:
            async with asyncio.timeout(self._link.timeout_s):
                return await self._link.next_message()
        except TimeoutError:
            raise self._link.silent() from None

    def _read(self, message: Any) -> Collection[CancelCall]:
        """What a message says; nothing when it is the answer to a SUBSCRIBE."""
        kind, channel, data = message
        if kind != b"message":
            return ()
        holder, _, job_id = data.partition(b" ")
        return (CancelCall(holder.decode(), JobRef(self._channels[channel], id_of(job_id))),)

    async def close(self) -> None:
        self._is_subscribed = False
        await self._link.close()
