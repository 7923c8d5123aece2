"""The channel on which a worker hears of cancels and other signals at once.

A cancel is the entry that holds the job, a space, and the id of the job: lua/cancel.lua sends
it. All other signals begin with an exclamation mark, as no entry does. A signal that is unknown
here comes from a later release, and is ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelCall, QueueChanged, ReclaimDue, Signal, WorkerOrdered
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Link

__all__ = ["ControlChannel", "decode_signal", "encode_signal"]

MARK: Final = b"!"
_KINDS: Final[dict[bytes, type[ReclaimDue | QueueChanged]]] = {
    b"!reclaim": ReclaimDue,
    b"!changed": QueueChanged,
}
ORDER: Final = b"!order "
"""The entry of a lease follows: lua/order.lua sends it."""
_WORDS: Final = {kind: word for word, kind in _KINDS.items()}


def encode_signal(signal: Signal) -> bytes:
    """What is published on the channel of the queue that the signal is about."""
    if isinstance(signal, CancelCall):
        job_id = id_bytes(signal.ref.id)
        return b"%b %b" % (signal.holder.encode(), job_id)
    if isinstance(signal, WorkerOrdered):
        return ORDER + id_bytes(signal.lease)
    return _WORDS[type(signal)]


def decode_signal(queue: str, data: bytes) -> Signal | None:
    """None for a signal that this release does not know."""
    if data.startswith(ORDER):
        return WorkerOrdered(queue, id_text(data.removeprefix(ORDER)))
    if data.startswith(MARK):
        kind = _KINDS.get(data)
        if kind is None:
            return None
        return kind(queue)
    holder, space, job_id = data.partition(b" ")
    if not space:
        return None
    return CancelCall(id_text(holder), JobRef(queue, id_text(job_id)))


class ControlChannel:
    """Owns one subscribed connection. It is made when first needed, and again after a fault.

    At the end of each call without a signal the server is asked something. Otherwise a
    half-open connection would be silent for ever, and nobody would notice.
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
            # A confirmation or message may still be on its way, so the next call subscribes again.
            await self.close()
            raise

    async def _subscribe(self) -> None:
        if self._is_subscribed:
            return
        await self._link.push((b"SUBSCRIBE", *self._channels))
        # The server confirms each channel by itself.
        for _ in self._channels:
            await self._answer()
        self._is_subscribed = True

    async def _next(self, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._link.next_message()
        except TimeoutError:
            # Subscribing again changes nothing and is answered. Unlike PING it needs no right
            # that this user may lack.
            await self._link.push((b"SUBSCRIBE", next(iter(self._channels))))
            return await self._answer()

    async def _answer(self) -> Any:
        """The next message, after the server was asked for one."""
        try:
            async with asyncio.timeout(self._link.timeout_s):
                return await self._link.next_message()
        except TimeoutError:
            raise self._link.silent() from None

    def _read(self, message: Any) -> Collection[Signal]:
        """The signal in a message, nothing in the answer to a SUBSCRIBE."""
        kind, channel, data = message
        if kind != b"message":
            return ()
        signal = decode_signal(self._channels[channel], data)
        if signal is None:
            return ()
        return (signal,)

    async def close(self) -> None:
        self._is_subscribed = False
        await self._link.close()
