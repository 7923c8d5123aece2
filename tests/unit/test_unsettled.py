"""What one exchange carries of the settlements that wait."""

from __future__ import annotations

from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.settlement import MOST_EFFECT_JOBS, Effects, Settlement
from asyncjobs.worker.engine.unsettled import BYTES_LIMIT, COUNT_LIMIT, Unsettled


def settlements(count: int, size: int) -> list[Settlement]:
    jobs = [TakenJob("work", f"job-{n}", 2, b"%d" % n, b"", 0, 1) for n in range(count)]
    return [Settlement.succeeded(job, bytes(size), 60_000) for job in jobs]


def test_an_exchange_carries_a_bounded_number() -> None:
    unsettled, made = Unsettled(), settlements(COUNT_LIMIT + 100, 1)
    for settlement in made:
        unsettled.append(settlement)
    assert unsettled.take() == made[:COUNT_LIMIT]
    assert unsettled.take() == made[COUNT_LIMIT:]
    assert len(unsettled) == 0


def test_an_exchange_carries_a_bounded_size() -> None:
    unsettled, made = Unsettled(), settlements(5, BYTES_LIMIT // 2)
    for settlement in made:
        unsettled.append(settlement)
    assert [len(unsettled.take()) for _ in range(3)] == [2, 2, 1]


def test_one_that_is_too_large_goes_alone() -> None:
    unsettled = Unsettled()
    (huge,) = settlements(1, BYTES_LIMIT * 2)
    unsettled.append(huge)
    assert unsettled.take() == [huge]


def test_the_jobs_that_successes_store_are_counted_too() -> None:
    """One script stores them all, and the server does nothing else meanwhile."""
    many = Effects(tuple(NewJob("work", f"n{n}", 2, b"x") for n in range(MOST_EFFECT_JOBS // 2)))
    large = Effects((NewJob("work", "n", 2, bytes(BYTES_LIMIT // 2)),))
    for effects in (many, large):
        unsettled = Unsettled()
        for settlement in settlements(5, 0):
            unsettled.append(settlement.causing(effects))
        assert [len(unsettled.take()) for _ in range(3)] == [2, 2, 1]
