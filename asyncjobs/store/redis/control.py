"""The channel on which a worker hears at once what is said about its queues.

A cancel is the entry that holds the job, a space and the job's id, as lua/cancel.lua sends it.
Other signals begin with an exclamation mark, as no entry does; those that are unknown here
are of a later release, and passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelCall, QueueChanged, ReclaimDue, Signal
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Link

__all__ = ["ControlChannel", "decode_signal", "encode_signal"]

MARK: Final = b"!"
_KINDS: Final[dict[bytes, type[ReclaimDue | QueueChanged]]] = {
    b"!reclaim": ReclaimDue,
    b"!changed": QueueChanged,
}
_WORDS: Final = {kind: word for word, kind in _KINDS.items()}


def encode_signal(signal: Signal) -> bytes:
    """What is published on the channel of the queue that the signal is about."""
    if isinstance(signal, CancelCall):
        job_id = id_bytes(signal.ref.id)
        return b"%b %b" % (signal.holder.encode(), job_id)
    return _WORDS[type(signal)]


def decode_signal(queue: str, data: bytes) -> Signal | None:
    """None for what this release does not know."""
    if data.startswith(MARK):
        kind = _KINDS.get(data)
        return None if kind is None else kind(queue)
    holder, space, job_id = data.partition(b" ")
    if not space:
        return None
    return CancelCall(id_text(holder), JobRef(queue, id_text(job_id)))


class ControlChannel:
    """Owns one subscribed connection, made when first needed and again after a fault.

    While nothing is said, nothing is asked but once at the end of each silent call: a
    half-open connection would be silent for ever.
    """

    def __init__(self, link: Link, keys: StoreKeys, queues: Sequence[str]) -> None:
        self._link = link
        self._channels = {keys.queue(queue).control: queue for queue in queues}
        self._is_subscribed = False

    async def listen(self, timeout_s: float) -> Collection[Signal]:
        """See `Lease.listen`."""
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

    def _read(self, message: Any) -> Collection[Signal]:
        """What a message says; nothing when it is the answer to a SUBSCRIBE."""
        kind, channel, data = message
        if kind != b"message":
            return ()
        signal = decode_signal(self._channels[channel], data)
        return () if signal is None else (signal,)

    async def close(self) -> None:
        self._is_subscribed = False
        await self._link.close()
