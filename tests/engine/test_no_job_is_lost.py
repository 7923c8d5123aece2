"""Whatever happens in whatever order: the intake loses no job and starts none twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.store.answers import Exchange, Resync
from asyncjobs.store.lease import Offer
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.engine.steps import (
    AskAgain,
    Done,
    Land,
    Orders,
    Park,
    Recover,
    Rejoin,
    Start,
    Trade,
)
from asyncjobs.worker.engine.stuck import Again
from tests.engine.kit import AWAY, BROKEN, Worker, exchange, job

SLOTS = 3
QUEUES = ("a", "b")
MISHAPS = ("request lost", "reply lost", "request faulty", "reply faulty")
FAULT = TypeError("planted")


class Store:
    """What a store does for one lease, as far as the intake can tell."""

    def __init__(self) -> None:
        self.ready: dict[str, list[TakenJob]] = {queue: [] for queue in QUEUES}
        self.held: dict[TakenJob, None] = {}
        self.ended: list[TakenJob] = []
        self.applied = dict.fromkeys(QUEUES, 0)
        self.lost: set[str] = set()
        self.broken: set[str] = set()

    def take(self, demand: dict[str, Demand]) -> list[TakenJob]:
        taken: list[TakenJob] = []
        for queue, asked in demand.items():
            taken += self.ready[queue][: asked.slots]
            del self.ready[queue][: asked.slots]
        self.held |= dict.fromkeys(taken)
        return taken

    def settle(self, settlement: Settlement) -> None:
        if settlement.job not in self.held:
            return
        del self.held[settlement.job]
        if settlement.kind is SettlementKind.RELEASE:
            self.ready[settlement.job.queue].append(settlement.job)
        else:
            self.ended.append(settlement.job)

    def exchange(self, trade: Trade, sequence: int) -> Exchange:
        asked = {*trade.demand, *(each.job.queue for each in trade.settlements)}
        there = asked - self.broken - self.lost
        for settlement in trade.settlements:
            if settlement.job.queue in there:
                self.settle(settlement)
        for queue in there:
            self.applied[queue] = sequence
        demand = {queue: each for queue, each in trade.demand.items() if queue in there}
        brought = self.take(demand)
        return exchange(
            *brought,
            lost=tuple(asked & self.lost),
            away=dict.fromkeys(asked & self.broken, BROKEN),
            left_ready=frozenset(queue for queue in demand if self.ready[queue]),
        )

    def resync(self, holding: list[TakenJob], queues: set[str]) -> Resync:
        there = queues - self.broken - self.lost
        missing = [each for each in self.held if each.queue in there and each not in holding]
        return Resync(
            {queue: self.applied[queue] for queue in there},
            missing,
            tuple(queues & self.lost),
            dict.fromkeys(queues & self.broken, BROKEN),
        )


class Plan(RuleBasedStateMachine):
    """The loop, a store, and chance."""

    queues: tuple[str, ...] = QUEUES
    max_jobs: int | None = None
    burst_wait_s: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.worker = Worker(*self.queues, concurrency=SLOTS)
        self.intake = self.worker.intake
        burst = Burst(self.max_jobs, self.burst_wait_s)
        self.intake.appetite.burst = burst
        self.intake.appetite.signals.always_looks = burst.is_burst
        self.started: list[TakenJob] = []
        self.enqueued = 0
        self.entries = 0
        self.trade: Trade | None = None
        self.reply: Exchange | None = None
        self.offer: Offer | None = None
        self.has_fault = False
        self.done = False

    # -- what the loop does ------------------------------------------------------------

    def obey(self, orders: Orders | None) -> None:
        if orders is None:
            return
        lost = self.intake.holdings.lost
        self.worker.running[:] = [each for each in self.worker.running if each.queue not in lost]
        for each in orders.cancelled:
            self.intake.ended(Settlement.cancelled(each))

    @precondition(lambda self: self.trade is None and not self.done)
    @rule(fate=st.sampled_from(["reply", "reply", "reply", *MISHAPS]))
    def step(self, fate: str) -> None:
        worker, intake, now_s = self.worker, self.intake, self.worker.now_s
        match worker.next():
            case Trade() as trade:
                worker.sequence += 1
                intake.sent(worker.sequence)
                self.trade, self.reply = trade, None
                if fate not in ("request lost", "request faulty"):
                    self.reply = self.store.exchange(trade, worker.sequence)
                if fate != "reply":
                    self.reply = None
                self.has_fault = fate.endswith("faulty") and bool(trade.settlements)
            case Start(jobs):
                self.run(jobs)
            case Park(_, _, slots, wake_s):
                if slots and self.offer is None:
                    self.offer = worker.offer(slots)
                    (queue,) = self.queues
                    self.offer = self.offer._replace(demand={queue: Demand(slots)})
                    intake.appetite.offer.withdraw()
                    intake.appetite.offered(self.offer)
                elif wake_s < float("inf"):
                    worker.now_s = wake_s
            case Land():
                self.obey(intake.arrivals.landed(now_s))
            case Recover():
                self.offer = None
                held = [*worker.running, *intake.holdings.jobs()]
                self.obey(intake.arrivals.recovered(self.store.resync(held, {*self.queues}), now_s))
            case AskAgain(queues):
                if len(self.queues) == 1:
                    self.offer = None
                held = [*worker.running, *intake.holdings.jobs()]
                self.obey(intake.arrivals.asked_again(self.store.resync(held, {*queues}), now_s))
            case Rejoin(queues):
                there = [queue for queue in queues if queue not in self.store.broken]
                self.store.lost.difference_update(there)
                away = {queue: BROKEN for queue in queues if queue not in there}
                intake.arrivals.rejoined(queues, away, now_s)
            case Done():
                self.done = True

    def run(self, jobs: list[TakenJob]) -> None:
        self.started += jobs
        self.worker.running += jobs

    @precondition(lambda self: self.trade is not None)
    @rule()
    def overlap(self) -> None:
        if self.worker.is_sure:
            self.run(self.intake.holdings.take_arrived())

    @precondition(lambda self: self.trade is not None)
    @rule(when=st.sampled_from(["at once", "at once", "later"]))
    def answer(self, when: str = "at once") -> None:
        assert self.trade is not None
        trade, self.trade = self.trade, None
        if self.has_fault:
            if trade.is_alone:
                assert not trade.demand
                (settlement,) = trade.settlements
                again = None if when == "at once" else Again(self.worker.now_s + 5)
                self.intake.send_instead(settlement, again)
            self.intake.broke(FAULT)
        elif self.reply is None:
            self.intake.failed(AWAY)
        else:
            self.obey(self.intake.arrivals.answered(trade, self.reply, self.worker.now_s))

    # -- what happens ------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES), signals=st.booleans())
    def enqueue(self, queue: str, signals: bool) -> None:
        queue = queue if queue in self.queues else self.queues[0]
        self.enqueued += 1
        self.store.ready[queue].append(job(f"j{self.enqueued}", queue))
        if signals:
            self.intake.appetite.hear_signal([queue])

    @precondition(lambda self: bool(self.worker.running))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.worker.end(data.draw(st.sampled_from(self.worker.running)))

    @precondition(lambda self: bool(self.store.held))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        found = data.draw(st.sampled_from([*self.store.held]))
        orders = self.intake.arrivals.cancel([found.ref])
        self.obey(orders)
        if found in self.worker.running:
            self.worker.end(found)

    @precondition(lambda self: self.offer is not None)
    @rule(fate=st.sampled_from(["lands", "lands", "fails", "reply lost"]))
    def land(self, fate: str) -> None:
        assert self.offer is not None
        offer, self.offer = self.offer, None
        (queue,) = self.queues
        brought: Exchange | None = None
        if fate != "fails" and queue not in self.store.lost | self.store.broken:
            brought = exchange(*self.store.take({**offer.demand}))
        if fate in ("fails", "reply lost"):
            self.intake.appetite.park_failed(AWAY)
            brought = None
        self.intake.appetite.parked([queue], brought, self.worker.now_s)

    @precondition(lambda self: self.offer is None)
    @rule(queue=st.sampled_from([None, *QUEUES]), has_failed=st.booleans())
    def wait_ends(self, queue: str | None, has_failed: bool) -> None:
        """By a signal, by time, or because the store was away for a moment."""
        signalled = [queue] if queue in self.queues else []
        self.intake.appetite.parked(signalled, None, self.worker.now_s, has_failed=has_failed)

    @rule(queue=st.sampled_from(QUEUES), heard=st.booleans())
    def lose(self, queue: str, heard: bool) -> None:
        """The lease ends; its jobs are given to another worker, which leaves them there."""
        if queue not in self.queues or queue in self.store.lost:
            return
        self.store.lost.add(queue)
        if len(self.queues) == 1:
            self.offer = None
        for each in [each for each in self.store.held if each.queue == queue]:
            del self.store.held[each]
            self.entries += 1
            # A new holder: what is told of the old one must not count.
            self.store.ready[queue].append(each._replace(holder=f"{self.entries}"))
        if heard:
            self.obey(self.intake.arrivals.lose([queue]))

    @rule(queue=st.sampled_from(QUEUES), breaks=st.booleans())
    def break_or_mend(self, queue: str, breaks: bool) -> None:
        if queue in self.queues:
            (self.store.broken.add if breaks else self.store.broken.discard)(queue)

    @rule(ready=st.booleans())
    def beat(self, ready: bool) -> None:
        away = dict.fromkeys(self.store.broken & {*self.queues}, BROKEN)
        found = [queue for queue in self.queues if ready and self.store.ready[queue]]
        self.intake.arrivals.hear_beat(found, away, self.worker.now_s)
        if self.offer is not None and not self.intake.appetite.offer.slots:
            self.offer = None

    @rule(is_sure=st.booleans())
    def renew(self, is_sure: bool) -> None:
        self.worker.is_sure = is_sure

    @rule(releases=st.booleans(), chance=st.integers(0, 9))
    def stop(self, releases: bool, chance: int) -> None:
        if chance:
            return
        self.intake.appetite.is_quiet = True
        if releases:
            self.obey(self.intake.arrivals.release())

    # -- what must be true -------------------------------------------------------------

    @invariant()
    def nothing_is_started_twice(self) -> None:
        assert len(self.started) == len(set(self.started))

    @invariant()
    def there_are_no_more_than_slots(self) -> None:
        here = [*self.worker.running, *self.intake.holdings.arrived]
        assert len([each for each in here if each in self.store.held]) <= SLOTS

    @invariant()
    def each_job_is_in_one_place(self) -> None:
        here = [*self.worker.running, *self.intake.holdings.jobs()]
        assert len(here) == len(set(here))

    def teardown(self) -> None:
        """When nothing disturbs it any more, the worker settles all that it has and leaves."""
        self.store.broken.clear()
        self.worker.is_sure = True
        self.intake.arrivals.hear_beat([], {}, self.worker.now_s)
        self.intake.appetite.is_quiet = True
        self.obey(self.intake.arrivals.release())
        self.worker.now_s += 60
        for _ in range(200):
            if self.trade is not None:
                self.answer()
            for each in list(self.worker.running):
                self.worker.end(each)
            if self.done:
                break
            if self.offer is not None:
                self.land("lands")
            self.step("reply")
            self.nothing_is_started_twice()
        assert self.done, self.worker.next()
        # What cannot be settled is given back by the end of the lease. So is what a queue that is
        # left out has handed out without a word: a worker that leaves does not wait for it.
        stuck = self.store.held.keys()
        known = {each for each in stuck if each.queue not in self.intake.holdings.doubt.queues}
        assert known <= {*self.intake.holdings.stuck.jobs()}
        waiting = sum(len(jobs) for jobs in self.store.ready.values())
        assert waiting + len(self.store.ended) + len(stuck) == self.enqueued


class PlanOfOneQueue(Plan):
    """With offers: those are for a worker of one queue."""

    queues = ("a",)


class PlanOfABurst(Plan):
    """It ends by itself when nothing is left."""

    burst_wait_s = 5.0


class PlanOfFewJobs(Plan):
    """It ends by itself after so many jobs."""

    max_jobs = 4


class PlanOfOneQueueAndFewJobs(PlanOfOneQueue):
    """It never offers slots."""

    max_jobs = 4


MACHINES = [Plan, PlanOfOneQueue, PlanOfABurst, PlanOfFewJobs, PlanOfOneQueueAndFewJobs]


@pytest.mark.parametrize("machine", MACHINES)
def test_no_job_is_lost_or_started_twice(
    machine: Callable[[], RuleBasedStateMachine], caplog: pytest.LogCaptureFixture
) -> None:
    options = settings(max_examples=120, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(machine, settings=options)
    assert "no next step" not in caplog.text
