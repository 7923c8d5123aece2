"""A settlement that a fault keeps from being sent: when it is tried again, and what is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asyncjobs import State
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.events import Events, JobDead
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.redaction import Redaction
from asyncjobs.worker.engine.burst import Burst
from asyncjobs.worker.engine.misfits import PATIENCE_S, RARELY_S, Misfits
from asyncjobs.worker.engine.steps import Done, Park, Recover, Trade
from asyncjobs.worker.lease.session import ExchangeFault
from tests.engine.kit import NOW_MS, Worker, resync, settled

SECRET = "hunter2-hunter2"


def taken(id: str) -> TakenJob:
    raw = Envelope("subject", [SECRET], {}, enqueued_ms=1).encode()
    return TakenJob("q", id, 2, id.encode(), raw, 0, NOW_MS)


A, B, C = taken("a"), taken("b"), taken("c")


class Case:
    """A worker whose store meets a fault when the test says so."""

    def __init__(self, redaction: Redaction | None = None) -> None:
        self.worker = Worker(concurrency=5)
        self.intake = self.worker.intake
        hub = Events()
        self.dead: list[JobDead] = []
        hub.on(JobDead, self.dead.append)
        function: Any = SimpleNamespace(redaction=redaction or Redaction())
        self.misfits = Misfits(AppSettings(), hub, self.intake, lambda name: function)
        self.worker.trade()

    def meet(self, trade: Trade, text: str = "planted") -> Trade:
        """This trade meets the fault, and a resync says that it had no effect."""
        fault = ExchangeFault(text)
        fault.__cause__ = TypeError(text)
        self.misfits.isolate(trade, fault, self.worker.now_s)
        self.recover(0)
        return trade

    def recover(self, applied: int) -> None:
        self.worker.expect(Recover)
        self.intake.arrivals.recovered(resync(applied={"q": applied}), self.worker.now_s)

    def look(self) -> None:
        """The look into all queues that follows a resync. It settles nothing."""
        assert self.worker.trade().settlements == []

    def sleep(self) -> None:
        """The loop sleeps until its timer wakes it."""
        wake_s = self.worker.expect(Park).wake_s
        assert self.worker.now_s < wake_s < float("inf")
        self.worker.now_s = wake_s

    def stick(self, *jobs: TakenJob, text: str = "planted") -> None:
        """The retries of these jobs meet the fault, together and then each alone."""
        for each in jobs:
            self.intake.ended(Settlement.reschedule(each, b"{}", 0))
        assert not self.meet(self.worker.send(), text).is_alone
        for _ in jobs:
            assert self.meet(self.worker.send(), text).is_alone
        self.look()

    def fail_until_replaced(self) -> Trade:
        """The trade with what is sent instead of the stuck settlement, in the end."""
        while True:
            self.sleep()
            (tried,) = self.meet(self.worker.send()).settlements
            assert tried.kind is SettlementKind.RESCHEDULE
            if self.intake.holdings.unsettled:
                return self.worker.send()
            self.look()


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_fault_that_passes_costs_no_job_its_next_attempt(case: Case) -> None:
    case.stick(A)
    began_s = case.worker.now_s
    tries = 0
    while True:
        case.sleep()
        if case.worker.now_s - began_s >= PATIENCE_S:
            break
        (tried,) = case.meet(case.worker.send()).settlements
        assert tried.kind is SettlementKind.RESCHEDULE
        case.look()
        tries += 1
    # The pauses grow.
    assert 5 < tries < 30
    # The fault is over.
    assert settled(case.worker.trade()) == [("a", "reschedule")]
    assert not case.intake.holdings.jobs()
    assert case.dead == []


def test_a_lasting_fault_makes_it_plainer_and_later_the_real_one_is_tried(case: Case) -> None:
    case.stick(A)
    began_s = case.worker.now_s
    trade = case.fail_until_replaced()
    assert case.worker.now_s - began_s >= PATIENCE_S
    for _ in range(3):
        # Not even the plainer one can be sent.
        assert trade.is_alone
        assert trade.settlements[0].state is State.DEAD
        case.meet(trade)
        case.look()
        failed_s = case.worker.now_s
        case.sleep()
        assert case.worker.now_s == failed_s + RARELY_S
        (tried,) = case.meet(case.worker.send()).settlements
        assert tried.kind is SettlementKind.RESCHEDULE
        trade = case.worker.send()
    assert len(case.dead) == 1


def test_stuck_settlements_take_turns_with_all_others(case: Case) -> None:
    case.stick(A, B)
    case.intake.ended(Settlement.succeeded(C))
    # It does not wait for those that are stuck.
    assert settled(case.worker.trade()) == [("c", "finish")]
    case.worker.now_s += 10
    case.intake.ended(Settlement.succeeded(C))
    trades = [case.worker.trade() for _ in range(3)]
    assert [settled(trade)[0][0] for trade in trades] in (["a", "c", "b"], ["b", "c", "a"])
    assert [trade.is_alone for trade in trades] == [True, False, True]


def test_a_stop_does_not_wait_for_them(case: Case) -> None:
    case.stick(A)
    case.intake.appetite.is_quiet = True
    assert case.intake.holds_nothing()
    case.worker.expect(Done)


def test_a_worker_that_ends_by_itself_waits_as_long_as_there_is_hope(case: Case) -> None:
    case.intake.appetite.burst = Burst(burst_wait_s=0)
    case.stick(A)
    case.meet(case.fail_until_replaced())
    case.look()
    case.worker.expect(Done)


def test_those_of_a_lost_queue_are_dropped(case: Case) -> None:
    case.stick(A)
    assert case.intake.holdings.jobs() == [A]
    case.intake.arrivals.lose(["q"])
    assert case.intake.holdings.jobs() == []


def test_one_that_took_effect_is_not_tried_again(case: Case) -> None:
    case.stick(A)
    case.sleep()
    trade = case.worker.send()
    case.misfits.isolate(trade, ExchangeFault("planted"), case.worker.now_s)
    case.recover(case.worker.sequence)
    assert case.intake.holdings.jobs() == []


def test_a_fault_that_quotes_a_sensitive_value_does_not_show_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(Redaction(frozenset({0})))
    text = f"cannot write {SECRET}"
    case.stick(A, text=text)
    case.worker.now_s += PATIENCE_S
    case.meet(case.worker.send(), text)
    assert "cannot be told its end: TypeError: cannot write" in caplog.text
    assert SECRET not in caplog.text
    (instead,) = case.worker.send().settlements
    assert instead.outcome is not None
    assert b"cannot write" in instead.outcome
    assert SECRET.encode() not in instead.outcome
