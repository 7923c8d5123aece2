"""When a lease is renewed, and when no more."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from asyncjobs.host.pulse import Pulse
from asyncjobs.store.answers import Heartbeat
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.worker.lease.heartbeat import Heartbeats
from asyncjobs.worker.lease.session import Session
from tests.hooked import HookedStore
from tests.simulation.loop import SimLoop
from tests.simulation.patching import in_simulation

pytestmark = pytest.mark.anyio


class Counting(HookedStore):
    """Counts the renewals."""

    def __init__(self) -> None:
        super().__init__()
        self.beats = 0

    async def beat(self, lease: MemoryLease, *, leaves: bool, info: bytes = b"") -> Heartbeat:
        self.beats += 1
        return await super().beat(lease, leaves=leaves, info=info)


async def renewals(*, silent_s: float, silence_s: float | None) -> int:
    """How often a lease is renewed while the loop has been silent for so long."""
    store = Counting()
    session = await Session.begin(store, LeaseSpec("w1", "w", ("default",), 1000))
    pulse = Pulse(1.0)
    beats = Heartbeats(store, session, lambda lease, beat: None, pulse, silence_s=silence_s)
    pulse.mark_s -= silent_s
    assert await beats._renew(store)
    await asyncio.sleep(0)
    return store.beats


def lost_beats(lost: int) -> float:
    """Seconds from one renewal to the next one that is answered, with so many between
    them on which nobody ever answers."""
    loop = SimLoop(Random(0))
    answered_s: list[float] = []

    class Losing(HookedStore):
        calls = 0

        async def beat(self, lease: MemoryLease, *, leaves: bool, info: bytes = b"") -> Heartbeat:
            self.calls += 1
            if 1 < self.calls < 2 + lost:
                await asyncio.sleep(1000)
            answered_s.append(loop.time())
            return await super().beat(lease, leaves=leaves, info=info)

    async def live() -> None:
        store = Losing()
        session = await Session.begin(store, LeaseSpec("w1", "w", ("default",), 15_000))
        pulse = Pulse(1.0)
        beats = Heartbeats(store, session, lambda lease, beat: None, pulse, silence_s=None)
        beats.start()
        while len(answered_s) < 2:
            await asyncio.sleep(0.1)
        await beats.stop()

    with in_simulation(loop, decided=lambda job: None):
        loop.run_until(loop.spawn(loop.outside, live()), 100.0)
    loop.bury()
    return answered_s[1] - answered_s[0]


def test_two_heartbeats_in_a_row_may_be_lost() -> None:
    lease = LeaseSpec("w1", "w", ("default",), 15_000)
    # More often than a silence that means that the store was away.
    assert lost_beats(0) * 1000 < lease.grace_ms
    assert lost_beats(2) * 1000 < lease.duration_ms


async def test_a_loop_that_turns_keeps_its_lease() -> None:
    assert await renewals(silent_s=1, silence_s=315) == 1


async def test_a_loop_that_stands_still_for_too_long_loses_it() -> None:
    assert await renewals(silent_s=316, silence_s=315) == 0


async def test_without_a_limit_it_is_kept_for_ever() -> None:
    assert await renewals(silent_s=100_000, silence_s=None) == 1
