"""How an idle worker sleeps, with a store that a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

import anyio
import pytest

from asyncjobs.backends.base import (
    Backend,
    Demand,
    Exchange,
    Lease,
    LeaseSpec,
    Offer,
    Parked,
    StaleSequence,
)
from asyncjobs.errors import StoreUnavailable
from asyncjobs.worker.parking import FALLBACK_S, MOST_OFFERED, Parking, offer_for
from asyncjobs.worker.session import Session
from tests.tasks import every_task

pytestmark = pytest.mark.anyio
SPEC = LeaseSpec("lease", "worker", ("a", "b"), 15_000)
NOW_MS = 1_800_000_000_000


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: uvloop's handle of a time that is over has no `when()`."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class CallingLease:
    """Calls when a test says so. Counts the waits."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.waits = 0
        self.calls: asyncio.Queue[Collection[str] | Exception] = asyncio.Queue()

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        self.waits += 1
        answer = await self.calls.get()
        if isinstance(answer, Exception):
            raise answer
        return Parked(answer, None)


@pytest.fixture
async def store(anyio_backend: object) -> CallingLease:
    return CallingLease()


def parking_on(store: CallingLease) -> Parking:
    return Parking(cast(Lease, store))


def exchange(**next_due_ms: int | None) -> Exchange:
    return Exchange([], [], (), [], frozenset(), next_due_ms, None, NOW_MS)


async def sleep(parking: Parking, *, listen: bool = True) -> None:
    with anyio.fail_after(10):
        await parking.sleep(listen=listen)


async def sleep_until_due(parking: Parking) -> None:
    """A timer may fire early by its clock's resolution: then one sleeps again."""
    while not parking.due:
        await sleep(parking)


async def test_a_nudge_wakes_and_the_wait_goes_on(store: CallingLease) -> None:
    parking = parking_on(store)
    for _ in range(3):
        parking.nudge()
        await sleep(parking)
    await asyncio.sleep(0)
    assert store.waits == 1
    assert parking.called == set()
    await parking.close()


async def test_a_call_wakes(store: CallingLease) -> None:
    parking = parking_on(store)
    store.calls.put_nowait(("b",))
    await sleep(parking)
    assert parking.called == {"b"}
    await parking.close()


async def test_a_call_that_comes_while_busy_is_kept(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.nudge()
    await sleep(parking)
    store.calls.put_nowait(("a",))
    while not parking.called:
        await asyncio.sleep(0)
    assert parking.called == {"a"}
    # It has already been heard: the next sleep must not sleep it away.
    await sleep(parking, listen=False)
    await parking.close()


async def test_a_busy_worker_listens_when_that_lasts(
    store: CallingLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.parking.BRIEF_S", 600.0)
    parking = parking_on(store)

    def offer() -> None:
        raise AssertionError("a busy worker offers nothing")

    async def nap(*, is_busy: bool) -> None:
        parking.nudge()
        with anyio.fail_after(10):
            await parking.sleep(listen=True, is_busy=is_busy, offer=offer)

    await nap(is_busy=True)
    await asyncio.sleep(0)
    assert store.waits == 0
    # It does not begin anew with each nap, or jobs that end all the time would put it off.
    later = parking._later
    await nap(is_busy=True)
    assert later is not None
    assert parking._later is later
    later.cancel()
    parking._start_wait(None)
    await asyncio.sleep(0)
    assert store.waits == 1
    await nap(is_busy=True)
    assert parking._later is None
    store.calls.put_nowait(("a",))
    while not parking.called:
        await asyncio.sleep(0)
    await parking.close()


async def test_an_idle_worker_listens_at_once(store: CallingLease) -> None:
    parking = parking_on(store)
    for is_busy in (True, False):
        parking.nudge()
        await parking.sleep(listen=True, is_busy=is_busy)
    await asyncio.sleep(0)
    assert (store.waits, parking._later) == (1, None)
    await parking.close()


async def test_an_offer_that_has_no_answer_while_there_is_work_is_given_up(
    store: CallingLease,
) -> None:
    parking = parking_on(store)
    parking._offer = Offer(1, {"a": Demand(3)})
    for ready in (("a",), (), ("a",)):
        parking.hear_beat(ready)
        assert (parking.offered, parking.broken) == (3, None)
    parking.hear_beat(("a",))
    assert parking.offered == 0
    assert isinstance(parking.broken, StaleSequence)


async def test_an_offer_is_small(store: CallingLease) -> None:
    two = Session(cast(Backend, None), cast(Lease, store))
    assert offer_for(two, 3) is None
    store.spec = LeaseSpec("lease", "worker", ("a",), 15_000)
    one = Session(cast(Backend, None), cast(Lease, store))
    for free, slots in ((3, 3), (1_000, MOST_OFFERED)):
        offer = offer_for(one, free)
        assert offer is not None
        assert offer.demand == {"a": Demand(slots)}


async def test_without_listening_nobody_waits(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.nudge()
    await sleep(parking, listen=False)
    assert store.waits == 0
    await parking.close()


async def test_the_earliest_due_time_wakes(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.note_due(exchange(a=NOW_MS + 600_000, b=NOW_MS + 20))
    await sleep_until_due(parking)
    assert parking.due == {"b"}
    left_s = parking.next_due_in_s()
    assert left_s is not None
    assert 500 < left_s < 600
    await parking.close()


async def test_a_time_that_is_over_wakes_at_once(store: CallingLease) -> None:
    parking = parking_on(store)
    for due_ms in (NOW_MS, NOW_MS - 5000, NOW_MS):
        parking.note_due(exchange(a=due_ms))
    await sleep_until_due(parking)
    assert parking.due == {"a"}
    await parking.close()


async def test_a_due_time_that_is_gone_does_not_wake(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.note_due(exchange(a=NOW_MS + 1, b=NOW_MS + 30))
    parking.note_due(exchange(a=None))
    await sleep_until_due(parking)
    assert parking.due == {"b"}
    assert parking.next_due_in_s() is None
    await parking.close()


async def test_an_earlier_time_moves_the_timer(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.note_due(exchange(a=NOW_MS + 600_000))
    parking.note_due(exchange(a=NOW_MS + 20))
    await sleep_until_due(parking)
    assert parking.due == {"a"}
    await parking.close()


async def test_a_store_that_is_away_makes_nobody_spin(
    store: CallingLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.parking.FALLBACK_S", 0.1)
    parking = parking_on(store)
    store.calls.put_nowait(StoreUnavailable("away"))
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    await sleep(parking)
    assert loop.time() - before_s >= 0.09
    assert parking.called == set()
    await parking.close()


async def test_closing_ends_the_wait(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.nudge()
    await sleep(parking)
    await asyncio.sleep(0)
    assert store.waits == 1
    await parking.close()
    assert [task for task in every_task() if task.get_name() == "asyncjobs-wait"] == []


async def test_nudges_do_not_put_off_the_time_to_look(store: CallingLease) -> None:
    parking = parking_on(store)
    nudges = 0
    while not parking.look and nudges < 200:
        nudges += 1
        asyncio.get_running_loop().call_later(0.005, parking.nudge)
        with anyio.fail_after(10):
            await parking.sleep(listen=False, limit_s=0.1)
    assert parking.look
    await parking.close()


async def test_while_heartbeats_come_a_wait_that_ends_asks_nothing(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.hear_beat(())
    parking.hear_beat(())
    store.calls.put_nowait(())
    await sleep(parking)  # the nudge of the heartbeat
    await sleep(parking)
    assert store.waits == 1
    assert not parking.look
    assert parking.called == set()
    await parking.close()


async def test_a_heartbeat_finds_work_that_nobody_was_called_for(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.hear_beat(("b",))
    await sleep(parking)
    assert parking.called == {"b"}
    await parking.close()


async def test_without_recent_heartbeats_it_is_time_to_look(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.hear_beat(())
    parking.hear_beat(())
    parking._beat_s -= 2 * FALLBACK_S  # as long ago as with a lease of 30 s
    store.calls.put_nowait(())
    await sleep(parking)
    await sleep(parking)
    assert parking.look
    await parking.close()


async def test_while_heartbeats_are_rare_a_recent_one_is_no_look(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.hear_beat(())
    parking._beat_s -= 2 * FALLBACK_S
    parking.hear_beat(())
    store.calls.put_nowait(())
    await sleep(parking)
    await sleep(parking)
    assert parking.look
    await parking.close()


async def test_a_worker_that_shall_end_always_looks(store: CallingLease) -> None:
    parking = parking_on(store)
    parking.always_looks = True
    parking.hear_beat(())
    store.calls.put_nowait(())
    await sleep(parking)
    await sleep(parking)
    assert parking.look
    await parking.close()
