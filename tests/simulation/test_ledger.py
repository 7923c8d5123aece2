"""A job that a copy of a call has taken: what the ledger excuses, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import State
from asyncjobs.store.lease import LeaseSpec, Offer
from asyncjobs.store.seam import EnqueueBatch
from tests.simulation.ledger import PROMPT_S, Ledger
from tests.simulation.load import APP, work
from tests.simulation.loop import Process, SimLoop
from tests.simulation.wire import Fate, Network, Wire
from tests.simulation.world import Store

LIMIT_S = 100.0
LEASE_MS = 1_000
PARK_S = 5.0


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(Random(0))
    yield loop
    loop.bury()


class Parked:
    """A worker parks with an offer. A copy of that call is the first one in the store, and takes
    a job there, of which the worker does not hear."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.ledger = Ledger(loop)
        self.process = Process("worker1", 1)
        self.job = work.options(id="a", queue="default").new_job((0.0, 0, ""), {})
        store = Store(APP.settings.store(), now_ms=loop.store_ms)
        store.ledger = self.ledger
        self._network = Network(loop, store, self.ledger, trouble=0.0)
        self._reply: asyncio.Future[Any] = loop.create_future()

    def let_it_start(self, *, after_s: float, knows_of_other: bool = True) -> list[str]:
        """It starts the job so long after the answer to its own call; what is wrong then."""
        body = self._live(after_s, self._reply if knows_of_other else None)
        self.loop.run_until(self.loop.spawn(self.process, body), LIMIT_S)
        return self.ledger.wrong

    async def _live(self, after_s: float, other: asyncio.Future[Any] | None) -> None:
        wire = Wire(self.loop, self._network, self.process)
        spec = LeaseSpec("first", "first", ("default",), LEASE_MS)
        await wire.lease(spec)
        park = self.process, "park", (spec, PARK_S, Offer(1, {"default": Demand(1)}))
        self.loop.after(0, self._network._arrive, *park, None, Fate.DOUBLE, other)
        self.loop.after(0.001, self._network._arrive, *park, self._reply, Fate.DOUBLE)
        await asyncio.sleep(0.01)
        self.ledger.expect(self.job, State.SUCCEEDED, 1)
        await wire.enqueue(EnqueueBatch("token", (self.job,)))
        answer = await self._reply
        assert answer.exchange is None, "its own call must be the one that was refused"
        await asyncio.sleep(after_s)
        self.ledger.started(self.job.ref, 1)


def test_a_job_that_a_copy_took_is_started_when_the_own_call_is_answered(loop: SimLoop) -> None:
    assert Parked(loop).let_it_start(after_s=0.1) == []


def test_it_must_not_be_started_later_than_that(loop: SimLoop) -> None:
    (wrong,) = Parked(loop).let_it_start(after_s=PROMPT_S + 0.1)
    assert "default/a: waited 4.1 s in worker1" in wrong


def test_whoever_waits_for_no_other_copy_has_no_excuse(loop: SimLoop) -> None:
    (wrong,) = Parked(loop).let_it_start(after_s=0.1, knows_of_other=False)
    assert "default/a: waited 5.1 s in worker1" in wrong
