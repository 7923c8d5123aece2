"""When a lease is renewed, and when no more."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs.backends.base import Heartbeat, Lease, StoreSettings
from asyncjobs.backends.memory import MemoryBackend
from asyncjobs.worker.lease import Heartbeats
from asyncjobs.worker.pulse import Pulse
from asyncjobs.worker.session import Session

pytestmark = pytest.mark.anyio


class Counting(MemoryBackend):
    """Counts the renewals."""

    def __init__(self) -> None:
        super().__init__(StoreSettings())
        self.beats = 0

    async def heartbeat(self, lease: Lease) -> Heartbeat:
        self.beats += 1
        return await super().heartbeat(lease)


async def renewals(*, silent_s: float, silence_s: float | None) -> int:
    """How often a lease is renewed while the loop has been silent for so long."""
    store = Counting()
    session = Session(store, Lease("w1", "w", ("default",), 1000))
    await store.register(session.lease)
    pulse = Pulse(1.0)
    beats = Heartbeats(store, session, lambda lease, beat: None, pulse, silence_s=silence_s)
    pulse.mark_s -= silent_s
    assert await beats._renew(store)
    await asyncio.sleep(0)
    return store.beats


async def test_a_loop_that_turns_keeps_its_lease() -> None:
    assert await renewals(silent_s=1, silence_s=315) == 1


async def test_a_loop_that_stands_still_for_too_long_loses_it() -> None:
    assert await renewals(silent_s=316, silence_s=315) == 0


async def test_without_a_limit_it_is_kept_for_ever() -> None:
    assert await renewals(silent_s=100_000, silence_s=None) == 1
