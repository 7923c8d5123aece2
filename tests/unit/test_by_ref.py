"""Cancels find their attempts without looking through all of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asyncjobs.model.refs import JobRef
from asyncjobs.worker.engine import by_ref
from asyncjobs.worker.engine.attempt import Reason
from asyncjobs.worker.engine.running import Running


class Attempt(SimpleNamespace):
    """What `Running` asks of an attempt."""

    def __init__(self, id: str, queue: str = "one") -> None:
        super().__init__(job=SimpleNamespace(ref=JobRef(queue, id), crashes=0), reasons=[])

    def stop(self, reason: Reason) -> None:
        self.reasons.append(reason)

    __hash__ = object.__hash__


class Counted(dict[Any, None]):
    """Attempts that say how often somebody looks through all of them."""

    looks = 0

    def __iter__(self) -> Any:
        self.looks += 1
        return super().__iter__()


def running(*attempts: Any) -> tuple[Running, Counted]:
    under_way, looks = Running(3, max_crashes=6), Counted()
    under_way._attempts = looks
    for attempt in attempts:
        under_way.add(attempt)
    return under_way, looks


def test_thousands_of_cancels_look_through_all_attempts_once() -> None:
    attempts: list[Any] = [Attempt(str(number)) for number in range(2000)]
    under_way, looks = running(*attempts[:1000])
    for attempt in attempts:
        under_way.cancel([attempt.job.ref])
        if attempt is attempts[999]:
            for late in attempts[1000:]:
                under_way.add(late)
    assert [attempt.reasons for attempt in attempts] == [[Reason.CANCEL]] * 2000
    assert looks.looks <= 1


def test_no_cancel_looks_at_nothing() -> None:
    under_way, looks = running(Attempt("a"))
    under_way.cancel([])
    assert (looks.looks, under_way._by_ref) == (0, None)


def test_an_attempt_that_has_ended_is_not_stopped() -> None:
    one: Any
    two: Any
    one, two = Attempt("a"), Attempt("b")
    under_way, _ = running(one, two)
    under_way.cancel([JobRef("one", "x")])
    assert under_way.remove(one)
    under_way.cancel([one.job.ref, two.job.ref])
    assert (one.reasons, two.reasons) == ([], [Reason.CANCEL])


def test_both_attempts_of_a_job_are_stopped() -> None:
    # The first has lost its lease and has not ended yet when its job comes again.
    old: Any
    new: Any
    elsewhere: Any
    old, new, elsewhere = Attempt("a"), Attempt("a"), Attempt("a", queue="two")
    under_way, _ = running(old, elsewhere)
    under_way.cancel([JobRef("one", "x")])
    under_way.add(new)
    under_way.cancel([new.job.ref])
    assert [one.reasons for one in (old, new, elsewhere)] == [[Reason.CANCEL], [Reason.CANCEL], []]
    assert under_way.remove(old)
    under_way.cancel([new.job.ref])
    assert [len(one.reasons) for one in (old, new)] == [1, 2]


def test_without_cancels_the_index_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_ref, "KEPT_FOR", 5)
    under_way, _ = running()
    under_way.cancel([JobRef("one", "x")])
    for number in range(5):
        assert under_way._by_ref is not None
        under_way.add(Attempt(str(number)))  # type: ignore[arg-type]  # all that is asked of one
    assert under_way._by_ref is None
    last: Any = Attempt("last")
    under_way.add(last)
    under_way.cancel([last.job.ref])
    assert last.reasons == [Reason.CANCEL]
