"""What a worker adds up of its attempts."""

from __future__ import annotations

from asyncjobs.errors import StoreError
from asyncjobs.model.figures import MINUTE_MS, Figures
from asyncjobs.model.histogram import ENDS_MS, histogram_of
from asyncjobs.model.history import never_begun
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.worker.engine.counting import (
    MOST_TIMES,
    RunCounts,
    that_count,
    that_were_applied,
)

NOW = 60 * MINUTE_MS


def taken(number: int = 0, queue: str = "work") -> TakenJob:
    return TakenJob(queue, f"job-{number}", 2, b"%d" % number, b"", 0, NOW - 50)


def done(job: TakenJob, name: str = "send", lasted_s: float = 0.25) -> Settlement:
    run = (name, 1, NOW - 60, job.ready_ms + 40, 7.0, 7.0 + lasted_s)
    return Settlement.succeeded(job, run=run)


def failed(job: TakenJob, error: str) -> Settlement:
    run = (*(done(job).run or ()), error)
    return Settlement.reschedule(job, b"", 10).telling(run)


(QUEUED,) = histogram_of([40], ENDS_MS)
(RAN,) = histogram_of([0.25])
(LONG,) = histogram_of([2.0])


def test_successes_by_function_queue_and_minute() -> None:
    counts = RunCounts()
    counts.note_time(NOW)
    counts.add([done(taken(n)) for n in range(3)])
    counts.note_time(NOW + MINUTE_MS - 1)
    counts.add([done(taken(3), "pay", 2.0), done(taken(4, "mail"))])
    counts.note_time(NOW + MINUTE_MS)
    counts.add([done(taken(5))])
    assert sorted(counts.take(), key=lambda each: each[:3]) == [
        Figures("mail", "send", NOW, 1, 0, {QUEUED: 1}, {RAN: 1}),
        Figures("work", "pay", NOW, 1, 0, {QUEUED: 1}, {LONG: 1}),
        Figures("work", "send", NOW, 3, 0, {QUEUED: 3}, {RAN: 3}),
        Figures("work", "send", NOW + MINUTE_MS, 1, 0, {QUEUED: 1}, {RAN: 1}),
    ]
    assert counts.take() == []


def test_failures_and_what_never_ran() -> None:
    counts = RunCounts()
    counts.note_time(NOW)
    job = taken()
    run = done(job).run
    counts.add(
        [
            done(job),
            failed(job, "ValueError: no"),
            failed(job, ""),  # a snooze
            Settlement.dead(job, b"").telling((*(run or ()), "ValueError: no")),
            Settlement.discarded(job).telling((*(run or ()), "nothing to do")),
            Settlement.cancelled(job).telling(run),
            Settlement.discarded(job).telling(never_begun("send", 1, 5, "expired")),
            Settlement.release(job),
            Settlement.succeeded(job),
        ]
    )
    assert counts.take() == [Figures("work", "send", NOW, 6, 2, {QUEUED: 6}, {RAN: 6})]


def test_what_is_kept_is_bounded() -> None:
    counts = RunCounts()
    counts.note_time(NOW)
    for _ in range(5):
        counts.add([done(taken(n)) for n in range(MOST_TIMES)])
        assert all(len(found.ran_s) <= 2 * MOST_TIMES for found in counts._open.values())
    (found,) = counts.take()
    assert (found.attempts, found.ran) == (5 * MOST_TIMES, {RAN: 5 * MOST_TIMES})


def answer(**about: object) -> Exchange:
    return Exchange([], [], (), [], frozenset(), {}, None, NOW)._replace(**about)  # type: ignore[arg-type]


def test_only_settlements_that_count() -> None:
    a, b, c = done(taken(1)), done(taken(2)), done(taken(3, "mail"))
    assert that_count([a, b, c], answer()) == [a, b, c]
    assert that_count([a, b, c], answer(not_yours=[b])) == [a, c]
    assert that_count([a, b, c], answer(lost=("work",))) == [c]
    assert that_count([a, b, c], answer(away={"mail": StoreError("")})) == [a, b]


def test_an_exchange_without_a_reply() -> None:
    a, c = done(taken(1)), done(taken(3, "mail"))
    assert that_were_applied([a, c], 5, {"work": 5, "mail": 4}) == [a]
    assert that_were_applied([a, c], 5, {"work": 4}) == []
