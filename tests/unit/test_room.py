"""When a success that a full store has refused is sent again, and what is known after a lost
reply."""

from __future__ import annotations

import logging

import pytest

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.store.answers import Resync
from asyncjobs.worker.engine.doubt import InDoubt, Unanswered
from asyncjobs.worker.engine.room import FIRST_S, MOST_S, QUIET_S, Room
from asyncjobs.worker.engine.stuck import Again, Stuck


def job(id: str, queue: str = "work") -> TakenJob:
    return TakenJob(queue, id, 2, id.encode(), b"{}", 0, 0, "lease")


def causing(id: str, queue: str = "work") -> Settlement:
    return Settlement.succeeded(job(id, queue)).causing(Effects((NewJob(queue, "x", 2, b"{}"),)))


def test_the_pauses_grow_and_hold_a_slot(caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    now_s = 100.0
    pauses = []
    for _ in range(20):
        again = room.again([causing("a")], now_s)
        assert again.holds_slot
        assert not again.is_hopeless
        pauses.append(again.at_s - now_s)
        now_s = again.at_s
    assert pauses[0] <= FIRST_S
    assert MOST_S / 2 <= pauses[-1] <= MOST_S
    # One line, however often it is refused.
    assert [line.levelno for line in caplog.records] == [logging.ERROR]
    assert "the store is full" in caplog.text
    assert "work/a" in caplog.text
    now_s += QUIET_S + 1
    assert room.again([causing("b")], now_s).at_s - now_s <= FIRST_S
    assert len(caplog.records) == 2


def test_only_those_that_wait_for_room_hold_slots() -> None:
    stuck = Stuck()
    stuck.add([causing("a"), causing("b")], Again(5.0, holds_slot=True))
    stuck.add([causing("c")], Again(4.0))
    assert stuck.slots == 2
    assert stuck.pop_due(4.5) is not None
    assert stuck.slots == 2
    assert stuck.pop_due(5.0) is not None
    assert stuck.slots == 1


def test_a_resync_says_whether_a_success_with_effects_counts() -> None:
    plain, first, second = Settlement.succeeded(job("plain")), causing("first"), causing("second")
    late = Settlement.succeeded(job("late", "slow"))
    sent = Unanswered(StoreUnavailable("lost"), [plain, first, second, late])
    sent.sequence = 7
    # Their jobs are not named, so the answer has those that are still held.
    assert [each.id for each in sent.named_jobs()] == ["plain", "late"]
    doubt = InDoubt()
    doubt.exchange = sent
    assert [each.id for each in doubt.jobs()] == ["plain", "late"]
    answer = Resync({"work": 7, "slow": 6}, [job("second"), job("stranger")], ())
    again, left = sent.sort_out(answer)
    assert again == [late, second]
    assert left.missing == [job("stranger")]


def test_nothing_changes_without_effects() -> None:
    plain = Settlement.succeeded(job("plain"))
    sent = Unanswered(StoreUnavailable("lost"), [plain])
    sent.sequence = 7
    answer = Resync({"work": 6}, [job("stranger")], ())
    assert sent.sort_out(answer) == ([plain], answer)
