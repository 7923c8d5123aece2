"""A worker that an operator has ordered to be quiet: it takes nothing, and stays."""

from __future__ import annotations

from collections import Counter

from asyncjobs.policy.fairness import QueueShares
from asyncjobs.worker.engine.steps import Land, Park, Trade
from tests.engine.kit import Worker, exchange, ids, job, settled, slots_of

A, B = job("a"), job("b")


def test_a_quiet_worker_finishes_what_runs_and_stays() -> None:
    worker = Worker()
    worker.run(A)
    worker.intake.appetite.rest(is_on=True)
    assert not worker.expect(Park).listens
    worker.end(A)
    assert settled(worker.trade()) == [("a", "finish")]
    park = worker.expect(Park)
    assert (park.listens, park.slots) == (False, 0)


def test_a_quiet_worker_passes_signals_on() -> None:
    worker = Worker()
    worker.trade()
    worker.intake.appetite.rest(is_on=True)
    worker.intake.appetite.hear_signal(["q"])
    assert slots_of(worker.trade(left_ready=frozenset({"q"}))) == {"q": 0}
    # What it left is for others. It does not ask again and again.
    worker.expect(Park)


def test_a_worker_that_is_resumed_looks_at_once() -> None:
    worker = Worker()
    worker.trade()
    worker.intake.appetite.rest(is_on=True)
    worker.expect(Park)
    worker.intake.appetite.rest(is_on=False)
    assert ids(worker.run(A, B)) == ["a", "b"]


def test_what_an_offer_brings_to_a_quiet_worker_is_given_back() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.rest(is_on=True)
    worker.intake.appetite.parked(["q"], exchange(A), worker.now_s)
    worker.expect(Land)
    orders = worker.intake.arrivals.landed(worker.now_s)
    assert orders is not None
    assert ids(orders.given_back) == ["a"]
    assert settled(worker.expect(Trade)) == [("a", "release")]


def test_a_worker_that_ends_may_be_quiet_before() -> None:
    worker = Worker()
    worker.trade()
    worker.intake.appetite.rest(is_on=True)
    worker.intake.appetite.is_quiet = True
    assert type(worker.next()).__name__ == "Done"


def test_other_weights_share_the_slots_anew() -> None:
    worker = Worker("a", "b", concurrency=12)
    assert slots_of(worker.send()) == {"a": 6, "b": 6}
    shares = worker.intake.appetite.shares
    shares.reweigh({"a": 3, "c": 9})
    assert shares.weights == {"a": 3, "b": 1}


def test_a_weight_that_was_large_starves_no_queue() -> None:
    shares = QueueShares({"a": 1, "b": 1})

    def asked(turns: int) -> Counter[str]:
        """How often each queue has the one slot that is free."""
        slots: Counter[str] = Counter()
        for _ in range(turns):
            shares.look = True
            slots.update({queue: each.slots for queue, each in shares.demand(1, 0).items()})
        return slots

    shares.reweigh({"a": 1_000_000})
    assert asked(100) == {"a": 100, "b": 0}
    shares.reweigh({"a": 1})
    assert asked(10) == {"a": 5, "b": 5}
