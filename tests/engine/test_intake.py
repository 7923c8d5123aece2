"""The next step of the loop, one transition after the other. No store, no event loop."""

from __future__ import annotations

import pytest

from asyncjobs.store.answers import StaleSequence
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
from tests.engine.kit import (
    AWAY,
    BROKEN,
    NOW_MS,
    Worker,
    exchange,
    ids,
    job,
    jobs,
    resync,
    settled,
    slots_of,
)

A, B, C = jobs("a", "b", "c")

# ── the way of a job ─────────────────────────────────────────────────────────────────────


def test_a_new_worker_looks_into_all_of_its_queues() -> None:
    worker = Worker("one", "two", concurrency=5)
    assert slots_of(worker.trade()) == {"one": 3, "two": 2}
    assert worker.expect(Park).listens


def test_a_job_is_taken_started_and_settled() -> None:
    worker = Worker(concurrency=1)
    assert slots_of(worker.trade(A)) == {"q": 1}
    assert worker.start() == [A]
    assert worker.expect(Park) == Park(False, True, 0, float("inf"))
    worker.end(A)
    assert settled(worker.trade()) == [("a", "finish")]


def test_an_idle_worker_makes_an_offer() -> None:
    worker = Worker(concurrency=20)
    worker.trade()
    assert worker.expect(Park) == Park(True, False, 8, float("inf"))


@pytest.mark.parametrize("queues", [("one", "two"), ("q",)])
def test_no_offer_where_what_it_brings_could_not_start(queues: tuple[str, ...]) -> None:
    worker = Worker(*queues, threads=None if len(queues) > 1 else {})
    worker.trade()
    assert worker.expect(Park).slots == 0


def test_a_queue_that_holds_more_is_asked_before_its_jobs_start() -> None:
    """The request is on its way while they start."""
    worker = Worker(concurrency=2)
    worker.trade(A, left_ready=frozenset({"q"}))
    assert slots_of(worker.send()) == {"q": 1}
    assert worker.intake.holdings.take_arrived() == [A]


def test_a_full_worker_asks_for_nothing() -> None:
    worker = Worker(concurrency=1)
    worker.trade(A, left_ready=frozenset({"q"}))
    worker.start()
    assert isinstance(worker.next(), Park)


def test_jobs_that_wait_for_their_start_use_slots() -> None:
    worker = Worker(concurrency=2)
    worker.trade(A)
    worker.intake.appetite.hear_signal(["q"])
    assert slots_of(worker.send()) == {"q": 1}


def test_a_signal_is_passed_on_by_a_worker_that_is_full() -> None:
    worker = Worker(concurrency=1)
    worker.run(A)
    worker.intake.appetite.hear_signal(["q"])
    assert slots_of(worker.trade()) == {"q": 0}
    assert isinstance(worker.next(), Park)


def test_while_the_lease_is_not_sure_nothing_is_taken_or_started() -> None:
    worker = Worker()
    worker.trade(A)
    worker.is_sure = False
    assert not worker.expect(Park).listens
    worker.is_sure = True
    assert worker.start() == [A]


def test_what_has_ended_is_settled_while_the_lease_is_not_sure() -> None:
    """The store knows whether the lease has ended, and refuses it then."""
    worker = Worker()
    worker.run(A)
    worker.is_sure = False
    worker.end(A)
    trade = worker.trade()
    assert (settled(trade), slots_of(trade)) == ([("a", "finish")], {})


# ── when the next job is due ─────────────────────────────────────────────────────────────


def test_the_earliest_due_time_wakes_and_is_asked_for() -> None:
    worker = Worker()
    worker.trade(next_due_ms={"q": NOW_MS + 2_000})
    assert worker.expect(Park).wake_s == worker.now_s + 2
    worker.now_s += 1.999
    assert isinstance(worker.next(), Park)
    worker.now_s += 0.001
    assert slots_of(worker.trade()) == {"q": 2}
    assert worker.expect(Park).wake_s == float("inf")


def test_what_is_due_waits_for_a_slot() -> None:
    worker = Worker(concurrency=1)
    worker.trade(A, next_due_ms={"q": NOW_MS})
    worker.start()
    assert isinstance(worker.next(), Park)
    worker.end(A)
    assert slots_of(worker.trade()) == {"q": 1}


def test_jobs_that_wait_for_a_thread_are_looked_for_each_second() -> None:
    """Nobody listens for them: they would signal again and again."""
    worker = Worker(threads={"q": 0})
    worker.trade(left_ready=frozenset({"q"}))
    park = worker.expect(Park)
    assert (park.listens, park.wake_s) == (False, worker.now_s + 1)
    worker.now_s += 0.5
    assert worker.expect(Park).wake_s == worker.now_s + 0.5, "saying so again puts nothing off"
    worker.now_s += 0.5
    assert slots_of(worker.trade()) == {"q": 0}


# ── offers ───────────────────────────────────────────────────────────────────────────────


def test_slots_that_are_offered_are_not_asked_for_again() -> None:
    worker = Worker(concurrency=3)
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.hear_signal(["q"])
    assert slots_of(worker.trade()) == {"q": 1}
    worker.intake.appetite.parked((), exchange(A), worker.now_s)
    assert worker.expect(Land).exchange.jobs == [A]
    assert worker.intake.arrivals.landed(worker.now_s) is None
    assert worker.start() == [A]
    worker.intake.appetite.hear_signal(["q"])
    assert slots_of(worker.trade()) == {"q": 2}


def test_what_is_due_comes_by_the_offer_when_all_slots_are_offered() -> None:
    worker = Worker()
    worker.trade(next_due_ms={"q": NOW_MS + 1_000})
    worker.offer(2)
    worker.now_s += 1
    assert slots_of(worker.trade()) == {"q": 0}
    assert isinstance(worker.next(), Park), "asked once"


def test_what_lands_is_taken_in_before_anything_is_asked() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.parked(["q"], exchange(A), worker.now_s)
    worker.intake.appetite.hear_signal(["q"])
    assert isinstance(worker.next(), Land)


def test_a_signal_for_jobs_that_are_gone_is_passed_on() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.parked(["q"], exchange(), worker.now_s)
    worker.expect(Land)
    worker.intake.arrivals.landed(worker.now_s)
    assert slots_of(worker.trade()) == {"q": 2}


def test_what_lands_in_a_worker_that_is_quiet_is_given_back() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.parked(["q"], exchange(A), worker.now_s)
    worker.intake.appetite.is_quiet = True
    worker.expect(Land)
    orders = worker.intake.arrivals.landed(worker.now_s)
    assert orders is not None
    assert ids(orders.given_back) == ["a"]
    assert settled(worker.trade()) == [("a", "release")]
    assert isinstance(worker.next(), Done)


@pytest.mark.parametrize("fails", [True, False], ids=["error", "refused"])
def test_an_offer_without_an_answer_leads_to_a_resync(fails: bool) -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    if fails:
        worker.intake.appetite.park_failed(AWAY)
    worker.intake.appetite.parked((), None, worker.now_s)
    assert isinstance(worker.expect(Recover).cause, type(AWAY) if fails else StaleSequence)
    assert worker.intake.arrivals.recovered(resync(A), worker.now_s) is None
    worker.trade()
    assert worker.start() == [A]


def test_what_an_offer_brings_after_a_resync_is_not_started_again() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.appetite.hear_fault(AWAY)
    worker.expect(Recover)
    worker.intake.arrivals.recovered(resync(A), worker.now_s)
    worker.intake.appetite.parked(["q"], exchange(A), worker.now_s)
    assert slots_of(worker.trade()) == {"q": 1}, "the signal is passed on"
    assert worker.start() == [A]


def test_an_offer_that_two_beats_with_work_find_unanswered_is_given_up() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    for ready in (["q"], [], ["q"]):
        worker.intake.arrivals.hear_beat(ready, {}, worker.now_s)
        if ready:
            worker.trade()
        assert isinstance(worker.next(), Park)
    worker.intake.arrivals.hear_beat(["q"], {}, worker.now_s)
    assert isinstance(worker.next(), Recover)


# ── lost replies ─────────────────────────────────────────────────────────────────────────


def test_what_had_no_effect_is_sent_again_and_what_had_is_not() -> None:
    for applied, again in ((1, [("a", "finish")]), (2, [])):
        worker = Worker()
        worker.run(A)
        worker.end(A)
        worker.send()
        worker.intake.failed(AWAY)
        assert worker.expect(Recover).cause is AWAY
        assert worker.intake.holdings.jobs() == [A], "it is named, so it does not come again"
        worker.intake.arrivals.recovered(resync(applied={"q": applied}), worker.now_s)
        trade = worker.expect(Trade)
        assert settled(trade) == again


def test_a_worker_that_is_cut_off_in_a_trade_recovers_when_it_runs_again() -> None:
    worker = Worker()
    worker.send()
    assert isinstance(worker.next(), Recover)


def test_jobs_that_a_resync_finds_are_started() -> None:
    worker = Worker()
    worker.send()
    worker.intake.failed(AWAY)
    worker.expect(Recover)
    worker.intake.arrivals.recovered(resync(A), worker.now_s)
    worker.trade()
    assert worker.start() == [A]


def test_a_worker_that_is_quiet_gives_back_what_a_resync_finds() -> None:
    worker = Worker()
    worker.send()
    worker.intake.failed(AWAY)
    worker.intake.appetite.is_quiet = True
    worker.expect(Recover)
    orders = worker.intake.arrivals.recovered(resync(A), worker.now_s)
    assert orders is not None
    assert ids(orders.given_back) == ["a"]
    assert settled(worker.trade()) == [("a", "release")]


def test_heartbeats_that_fail_let_a_busy_worker_ask() -> None:
    worker = Worker(concurrency=1)
    worker.run(A)
    worker.intake.appetite.hear_fault(AWAY)
    assert worker.expect(Recover).cause is AWAY


# ── cancels ──────────────────────────────────────────────────────────────────────────────


def test_a_job_that_has_not_started_is_settled_when_it_is_cancelled() -> None:
    worker = Worker()
    worker.trade(A, B)
    orders = worker.intake.arrivals.cancel([A.ref])
    assert orders == Orders([A.ref], cancelled=[A])
    assert worker.start() == [B]


@pytest.mark.parametrize("way", ["trade", "offer", "resync"])
def test_a_cancel_may_come_before_its_job(way: str) -> None:
    worker = Worker()
    if way == "offer":
        worker.trade()
        worker.offer(2)
        worker.intake.arrivals.cancel([A.ref])
        worker.intake.appetite.parked([], exchange(A, B), worker.now_s)
        worker.expect(Land)
        orders = worker.intake.arrivals.landed(worker.now_s)
    elif way == "resync":
        worker.send()
        worker.intake.failed(AWAY)
        worker.expect(Recover)
        worker.intake.arrivals.cancel([A.ref])
        orders = worker.intake.arrivals.recovered(resync(A, B), worker.now_s)
        worker.trade()
    else:
        trade = worker.send()
        worker.intake.arrivals.cancel([A.ref])
        orders = worker.intake.arrivals.answered(trade, exchange(A, B), worker.now_s)
    assert orders is not None
    assert orders.cancelled == [A]
    assert worker.start() == [B]


def test_a_cancel_is_forgotten_when_its_job_cannot_be_on_its_way() -> None:
    worker = Worker()
    worker.trade()
    worker.intake.arrivals.cancel([A.ref])
    worker.intake.appetite.hear_signal(["q"])
    worker.trade(A)
    assert worker.start() == [A]


def test_an_exchange_tells_of_cancels() -> None:
    worker = Worker()
    trade = worker.send()
    orders = worker.intake.arrivals.answered(
        trade, exchange(A, cancels=[A.ref, B.ref]), worker.now_s
    )
    assert orders == Orders([A.ref, B.ref], lost=set(), cancelled=[A])


# ── the lease is lost ────────────────────────────────────────────────────────────────────


def test_a_lost_queue_is_entered_again_and_looked_into() -> None:
    worker = Worker("one", "two")
    worker.trade()
    assert worker.intake.arrivals.lose(["one"]).lost == {"one"}
    assert worker.intake.arrivals.lose(["one"]).lost == set(), "told once"
    assert worker.expect(Rejoin).queues == ["one"]
    worker.intake.arrivals.rejoined(["one"], {}, worker.now_s)
    assert set(worker.trade().demand) == {"one", "two"}


def test_jobs_of_a_lost_queue_are_neither_started_nor_settled() -> None:
    worker = Worker("one", "two", concurrency=9)
    one, two = job("a", "one"), job("b", "two")
    ended = job("c", "one")
    worker.run(ended)
    worker.intake.appetite.hear_signal(["one"])
    worker.trade(one, two)
    worker.end(ended)
    worker.intake.arrivals.lose(["one"])
    worker.expect(Rejoin)
    worker.intake.arrivals.rejoined(["one"], {}, worker.now_s)
    assert settled(worker.trade()) == []
    assert worker.start() == [two]


@pytest.mark.parametrize("is_reply_lost", [False, True])
def test_a_reply_that_comes_after_the_loss_brings_nothing(is_reply_lost: bool) -> None:
    """What it brings was taken under the lost entry: others run it."""
    worker = Worker()
    worker.run(C)
    worker.end(C)
    trade = worker.send()
    worker.intake.arrivals.lose(["q"])
    if is_reply_lost:
        worker.intake.failed(AWAY)
        worker.expect(Recover)
        worker.intake.arrivals.recovered(resync(A, applied={"q": 0}), worker.now_s)
    else:
        worker.intake.arrivals.answered(trade, exchange(A), worker.now_s)
    assert worker.intake.holds_nothing()


def test_an_offer_made_under_a_lost_entry_brings_nothing() -> None:
    worker = Worker()
    worker.trade()
    worker.offer(2)
    worker.intake.arrivals.lose(["q"])
    worker.intake.appetite.parked(["q"], exchange(A), worker.now_s)
    assert isinstance(worker.next(), Rejoin)


def test_nothing_of_a_lost_queue_is_given_back() -> None:
    worker = Worker("one", "two")
    trade = worker.send()
    worker.intake.arrivals.lose(["one"])
    worker.intake.arrivals.release()
    brought = exchange(job("a", "one"), job("b", "two"))
    orders = worker.intake.arrivals.answered(trade, brought, worker.now_s)
    assert orders is not None
    assert ids(orders.given_back) == ["b"]


# ── queues that do not answer, beside others that do ─────────────────────────────────────


def test_a_queue_that_is_away_is_left_out_and_asked_again_by_itself() -> None:
    worker = Worker("bad", "good", concurrency=4)
    bad = job("a", "bad")
    worker.run(bad)
    worker.end(bad)
    worker.trade(away={"bad": BROKEN})
    assert worker.intake.holdings.jobs() == [bad]
    worker.intake.appetite.hear_signal(["bad", "good"])
    assert set(worker.trade().demand) == {"good"}
    wake_s = worker.expect(Park).wake_s
    assert 0 < wake_s - worker.now_s < 1
    worker.now_s = wake_s
    assert worker.expect(AskAgain).queues == ["bad"]
    worker.intake.arrivals.asked_again(resync(applied={"bad": 1}), worker.now_s)
    trade = worker.trade()
    assert settled(trade) == [("a", "finish")]
    assert set(trade.demand) == {"bad", "good"}


def test_a_queue_that_is_still_away_is_asked_after_a_longer_pause() -> None:
    worker = Worker("bad", "good")
    worker.trade(away={"bad": BROKEN})
    first_s = worker.expect(Park).wake_s - worker.now_s
    worker.now_s += first_s
    worker.expect(AskAgain)
    worker.intake.arrivals.asked_again(resync(applied={}, away={"bad": BROKEN}), worker.now_s)
    worker.trade()
    assert worker.expect(Park).wake_s - worker.now_s == pytest.approx(2 * first_s)


def test_when_the_question_fails_it_is_no_longer_about_this_queue() -> None:
    worker = Worker("bad", "good")
    worker.trade(away={"bad": BROKEN})
    worker.now_s = worker.expect(Park).wake_s
    worker.expect(AskAgain)
    worker.intake.failed(AWAY)
    assert worker.expect(Recover).cause is AWAY


def test_what_ends_meanwhile_in_a_queue_that_is_away_is_kept() -> None:
    worker = Worker("bad", "good", concurrency=4)
    bad = job("a", "bad")
    worker.run(bad)
    worker.intake.arrivals.hear_beat([], {"bad": BROKEN}, worker.now_s)
    worker.end(bad)
    trade = worker.trade()
    assert (settled(trade), set(trade.demand)) == ([], {"good"})
    assert worker.intake.holdings.jobs() == [bad]
    assert not worker.intake.holds_nothing()


def test_nothing_is_taken_where_the_lease_is_not_renewed() -> None:
    """Whatever the queue answers: its jobs would be given to others."""
    worker = Worker("bad", "good")
    worker.trade()
    worker.intake.arrivals.hear_beat([], {"bad": BROKEN}, worker.now_s)
    worker.now_s += 60
    assert worker.expect(Park).wake_s == float("inf"), "a pause that is over wakes nobody"
    worker.intake.arrivals.hear_beat([], {}, worker.now_s)
    assert worker.expect(AskAgain).queues == ["bad"]


def test_a_queue_that_was_never_entered_is_entered_after_a_pause() -> None:
    worker = Worker("bad", "good")
    worker.intake.arrivals.start_without({"bad": BROKEN}, worker.now_s)
    assert set(worker.trade().demand) == {"good"}
    worker.now_s = worker.expect(Park).wake_s
    assert worker.expect(Rejoin).queues == ["bad"]
    worker.intake.arrivals.rejoined(["bad"], {}, worker.now_s)
    assert set(worker.trade().demand) == {"bad", "good"}


def test_a_worker_all_of_whose_queues_are_away_asks_nothing() -> None:
    worker = Worker("bad", can_offer=True)
    worker.trade(away={"bad": BROKEN})
    worker.intake.appetite.hear_signal(["bad"])
    park = worker.expect(Park)
    assert not park.listens
    assert worker.now_s < park.wake_s < float("inf")


def test_a_queue_that_is_away_while_a_reply_is_lost_keeps_its_settlements() -> None:
    """They are sent again whatever the number says: half a script may have taken effect."""
    worker = Worker("bad", "good", concurrency=4)
    bad = job("a", "bad")
    worker.run(bad)
    worker.end(bad)
    worker.send()
    worker.intake.failed(AWAY)
    worker.expect(Recover)
    answer = resync(applied={"good": 9}, away={"bad": BROKEN})
    worker.intake.arrivals.recovered(answer, worker.now_s)
    worker.trade()
    worker.now_s = worker.expect(Park).wake_s
    worker.expect(AskAgain)
    worker.intake.arrivals.asked_again(resync(applied={"bad": 9}), worker.now_s)
    assert settled(worker.trade()) == [("a", "finish")]


# ── the end ──────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_is_quiet_finishes_what_runs() -> None:
    worker = Worker()
    worker.run(A)
    worker.intake.appetite.is_quiet = True
    assert not worker.expect(Park).listens
    worker.end(A)
    assert settled(worker.trade()) == [("a", "finish")]
    assert isinstance(worker.next(), Done)


def test_what_a_trade_brings_to_a_worker_that_became_quiet_is_started() -> None:
    """It had slots for that when it asked, and has its grace."""
    worker = Worker()
    trade = worker.send()
    worker.intake.appetite.is_quiet = True
    worker.intake.arrivals.answered(trade, exchange(A), worker.now_s)
    assert worker.start() == [A]


def test_what_a_trade_brings_to_a_worker_that_releases_is_given_back() -> None:
    worker = Worker()
    trade = worker.send()
    worker.intake.arrivals.release()
    orders = worker.intake.arrivals.answered(trade, exchange(A), worker.now_s)
    assert orders is not None
    assert ids(orders.given_back) == ["a"]
    assert settled(worker.trade()) == [("a", "release")]
    assert isinstance(worker.next(), Done)


def test_a_release_gives_back_what_has_not_started() -> None:
    worker = Worker()
    worker.trade(A)
    assert ids(worker.intake.arrivals.release().given_back) == ["a"]
    assert settled(worker.trade()) == [("a", "release")]


def test_a_signal_is_passed_on_before_the_end() -> None:
    worker = Worker()
    worker.trade()
    worker.intake.appetite.hear_signal(["q"])
    worker.intake.appetite.is_quiet = True
    assert slots_of(worker.trade()) == {"q": 0}
    assert isinstance(worker.next(), Done)


def test_a_worker_takes_no_more_jobs_than_it_was_told() -> None:
    worker = Worker(concurrency=9)
    worker.intake.appetite.burst = Burst(max_jobs=2)
    assert slots_of(worker.trade(A, B)) == {"q": 2}
    worker.start()
    assert not worker.expect(Park).listens
    assert worker.intake.appetite.is_quiet
    worker.end(A, B)
    worker.trade()
    assert isinstance(worker.next(), Done)


@pytest.mark.parametrize("burst", [Burst(max_jobs=9), Burst(burst_wait_s=0)])
def test_a_worker_that_ends_by_itself_sleeps_while_all_slots_are_busy(
    burst: Burst, caplog: pytest.LogCaptureFixture
) -> None:
    """After an outage there may be work in any queue, and no slot for it."""
    worker = Worker(concurrency=1)
    worker.run(A)
    worker.intake.appetite.burst = burst
    worker.intake.appetite.parked([], None, worker.now_s, has_failed=True)
    assert not worker.expect(Park).listens
    assert caplog.records == []
    worker.end(A)
    assert slots_of(worker.trade()) == {"q": 1}


@pytest.mark.parametrize("burst", [Burst(max_jobs=9), Burst(burst_wait_s=0)])
def test_a_worker_that_ends_by_itself_sleeps_while_its_lease_is_not_sure(
    burst: Burst, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()
    worker.intake.appetite.burst = burst
    worker.intake.appetite.parked([], None, worker.now_s, has_failed=True)
    worker.is_sure = False
    assert isinstance(worker.next(), Park)
    assert caplog.records == []
    worker.is_sure = True
    assert slots_of(worker.trade()) == {"q": 2}


def test_a_burst_looks_once_more_after_its_last_job() -> None:
    """The job may have enqueued another one, also when its end is not ours to record."""
    worker = Worker(concurrency=1)
    worker.intake.appetite.burst = Burst(burst_wait_s=0)
    worker.run(A)
    worker.intake.appetite.hear_signal(["q"])
    worker.trade()
    worker.running.clear()
    worker.intake.ended(None)
    assert slots_of(worker.trade()) == {"q": 1}
    assert isinstance(worker.next(), Done)


def test_a_burst_waits_for_what_is_due_soon() -> None:
    worker = Worker()
    worker.intake.appetite.burst = Burst(burst_wait_s=5)
    worker.trade(next_due_ms={"q": NOW_MS + 4_000})
    assert isinstance(worker.next(), Park)
    worker.now_s += 4
    worker.trade(next_due_ms={"q": NOW_MS + 60_000})
    assert isinstance(worker.next(), Done)


def test_a_burst_waits_for_the_jobs_of_a_worker_that_died() -> None:
    worker = Worker()
    worker.intake.appetite.burst = Burst(burst_wait_s=5)
    worker.trade(next_lease_end_ms=NOW_MS - 1)
    assert isinstance(worker.next(), Park)


def test_a_burst_does_not_take_a_queue_that_is_away_for_empty() -> None:
    worker = Worker("bad", "good")
    worker.intake.appetite.burst = Burst(burst_wait_s=0)
    worker.trade(away={"bad": BROKEN})
    assert isinstance(worker.next(), Park)
    assert not worker.intake.appetite.is_quiet


def test_suspects_are_asked_for_when_there_is_room() -> None:
    worker = Worker(concurrency=9)
    suspect = job("s", crashes=1)
    worker.trade(suspect, suspects={"q": 1}, next_due_ms={"q": None})
    worker.start()
    assert isinstance(worker.next(), Park)
    worker.end(suspect)
    worker.trade(suspects={"q": 1}, next_due_ms={"q": None})
    assert worker.send().demand["q"].suspects == (1,)


def test_a_start_hands_each_job_out_once() -> None:
    worker = Worker()
    worker.trade(A, B)
    assert worker.expect(Start).jobs == [A, B]
    assert isinstance(worker.next(), Trade | Park)
    assert worker.intake.holdings.take_arrived() == []
