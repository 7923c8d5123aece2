"""How an idle worker sleeps, with a lease that a test plays."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import anyio
import pytest

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.demand import Demand
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Parked
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.parking import Parking
from asyncjobs.worker.engine.slots import Slots
from asyncjobs.worker.engine.steps import Park
from asyncjobs.worker.lease.session import Session
from tests.tasks import every_task

pytestmark = pytest.mark.anyio
NEVER_S = float("inf")
IDLE = Park(True, False, 0, NEVER_S)
BUSY = IDLE._replace(is_busy=True)
DEAF = IDLE._replace(listens=False)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: uvloop's handle of a time that is over has no `when()`."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class SignallingLease:
    """Signals when a test says so. Knows the offers of the waits."""

    def __init__(self) -> None:
        self.spec = LeaseSpec("lease", "worker", ("a",), 15_000)
        self.offers: list[Offer | None] = []
        self.answers: asyncio.Queue[Parked | Exception] = asyncio.Queue()

    async def park(self, timeout_s: float, offer: Offer | None = None) -> Parked:
        self.offers.append(offer)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def signal(self, *queues: str) -> None:
        self.answers.put_nowait(Parked(queues, None))


@pytest.fixture
async def lease(anyio_backend: object) -> SignallingLease:
    return SignallingLease()


def parking_on(lease: SignallingLease) -> tuple[Parking, Appetite]:
    slots = Slots(9, in_use=lambda: 0, most=lambda arrived: {}, room=lambda arrived: ())
    appetite = Appetite(QueueShares({"a": 1}), slots, can_offer=True)
    session = Session(cast(Any, None), cast(Any, lease))
    return Parking(session, appetite), appetite


async def sleep(parking: Parking, park: Park = IDLE) -> None:
    with anyio.fail_after(10):
        await parking.sleep(park)


async def test_a_nudge_wakes_and_the_wait_goes_on(lease: SignallingLease) -> None:
    parking, appetite = parking_on(lease)
    for _ in range(3):
        parking.nudge()
        await sleep(parking)
    await asyncio.sleep(0)
    assert len(lease.offers) == 1
    assert appetite.signals.signalled == set()
    await parking.close()


async def test_a_signal_wakes(lease: SignallingLease) -> None:
    parking, appetite = parking_on(lease)
    lease.signal("a")
    await sleep(parking)
    assert appetite.signals.signalled == {"a"}
    await parking.close()


async def test_a_signal_that_comes_while_busy_is_kept(lease: SignallingLease) -> None:
    parking, appetite = parking_on(lease)
    parking.nudge()
    await sleep(parking)
    lease.signal("a")
    while not appetite.signals.signalled:
        await asyncio.sleep(0)
    # It has already been heard: the next sleep must not sleep it away.
    await sleep(parking, DEAF)
    assert appetite.signals.signalled == {"a"}
    await parking.close()


async def test_a_busy_worker_listens_when_that_lasts(
    lease: SignallingLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.BRIEF_S", 0.02)
    parking, _ = parking_on(lease)
    parking.nudge()
    await sleep(parking, BUSY._replace(slots=3))
    await asyncio.sleep(0)
    assert lease.offers == []
    # It does not begin anew with each nap, or jobs that end all the time would put it off.
    with anyio.fail_after(10):
        while not lease.offers:
            parking.nudge()
            await sleep(parking, BUSY._replace(slots=3))
            await asyncio.sleep(0.005)
    assert lease.offers == [None], "a busy worker offers nothing"
    await parking.close()


async def test_a_worker_that_is_full_does_not_begin_to_listen(
    lease: SignallingLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.BRIEF_S", 0.0)
    parking, _ = parking_on(lease)
    for park in (BUSY, DEAF):
        parking.nudge()
        await sleep(parking, park)
    for _ in range(10):
        await asyncio.sleep(0)
    assert lease.offers == []
    await parking.close()


async def test_an_idle_worker_listens_at_once_and_offers_slots(lease: SignallingLease) -> None:
    parking, appetite = parking_on(lease)
    for park in (BUSY, IDLE._replace(slots=3)):
        parking.nudge()
        await sleep(parking, park)
    await asyncio.sleep(0)
    assert lease.offers == [Offer(1, {"a": Demand(3)})]
    assert appetite.offer.slots == 3
    await parking.close()


async def test_without_listening_nobody_waits(lease: SignallingLease) -> None:
    parking, _ = parking_on(lease)
    parking.nudge()
    await sleep(parking, DEAF)
    assert lease.offers == []
    await parking.close()


async def test_a_time_wakes(lease: SignallingLease) -> None:
    parking, _ = parking_on(lease)
    now_s = asyncio.get_running_loop().time()
    for wake_s in (now_s + 600, now_s + 0.02):
        parking.nudge()
        await sleep(parking, DEAF._replace(wake_s=wake_s))
    await sleep(parking, DEAF._replace(wake_s=now_s + 0.02))
    await parking.close()


async def test_a_time_that_is_over_wakes_at_once(lease: SignallingLease) -> None:
    parking, _ = parking_on(lease)
    over_s = asyncio.get_running_loop().time() - 5
    for _ in range(3):
        await sleep(parking, DEAF._replace(wake_s=over_s))
    await parking.close()


async def test_a_time_that_is_taken_back_does_not_wake(lease: SignallingLease) -> None:
    parking, _ = parking_on(lease)
    loop = asyncio.get_running_loop()
    parking.nudge()
    await sleep(parking, DEAF._replace(wake_s=loop.time() + 0.01))
    parking.nudge()
    await sleep(parking, DEAF)
    nap = asyncio.create_task(parking.sleep(DEAF))
    await asyncio.wait({nap}, timeout=0.05)
    assert not nap.done()
    parking.nudge()
    await nap
    await parking.close()


async def test_a_store_that_is_away_makes_nobody_spin(
    lease: SignallingLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncjobs.worker.engine.parking.FALLBACK_S", 0.1)
    parking, appetite = parking_on(lease)
    lease.answers.put_nowait(StoreUnavailable("away"))
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    parking.nudge()
    while loop.time() - before_s < 0.09:
        await sleep(parking, IDLE._replace(wake_s=before_s + 0.09))
    assert len(lease.offers) == 1
    assert appetite.signals.signalled == set()
    await parking.close()


async def test_an_offer_to_a_store_that_is_away_is_broken_at_once(lease: SignallingLease) -> None:
    parking, appetite = parking_on(lease)
    error = StoreUnavailable("away")
    lease.answers.put_nowait(error)
    await sleep(parking, IDLE._replace(slots=3))
    assert (appetite.offer.broken, appetite.offer.slots) == (error, 0)
    await parking.close()


async def test_a_wait_that_fails_for_another_reason_is_logged_and_a_look_due(
    lease: SignallingLease, caplog: pytest.LogCaptureFixture
) -> None:
    parking, appetite = parking_on(lease)
    appetite.shares.look = False
    lease.answers.put_nowait(RuntimeError("a bug of ours"))
    await sleep(parking)
    assert appetite.shares.look
    assert "waiting for signals failed" in caplog.text
    await parking.close()


async def test_closing_ends_the_wait(lease: SignallingLease) -> None:
    parking, _ = parking_on(lease)
    parking.nudge()
    await sleep(parking)
    await asyncio.sleep(0)
    assert len(lease.offers) == 1
    await parking.close()
    assert [task for task in every_task() if task.get_name() == "asyncjobs-wait"] == []
