"""Limits on how many jobs start in a time: exact in every window, whatever the burst."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.job import State, held_at
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import LimitKind, LimitRule, LimitUse
from asyncjobs.testing.conformance.gates import (
    enqueue,
    fill,
    finish,
    gate,
    gated,
    need_gates,
    states,
    use,
)
from asyncjobs.testing.conformance.store import SHORT_S, Store, Worker, ids, ref

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


def rate(
    number: int = 6,
    period_ms: int = MINUTE_MS,
    burst: int = 1,
    key: str = "acme",
    limit: str = "mail",
    **own: Any,
) -> LimitUse:
    """At most `number` starts in any such time; by default one each ten seconds."""
    return LimitUse(limit, key, LimitRule(LimitKind.RATE, number, period_ms, burst), **own)


async def starts(store: Store, worker: Worker, until_ms: int, step_ms: int = 250) -> list[int]:
    """When jobs start until then, in ms from now on, by a worker that asks all the time."""
    begin = store.clock.ms
    found: list[int] = []
    while store.clock.ms <= begin + until_ms:
        jobs = await worker.take()
        found += [store.clock.ms - begin] * len(jobs)
        await finish(worker, *jobs)
        store.clock.ms += step_ms
    return found


def most_in_a_window(times: list[int], window_ms: int) -> int:
    """The most of these times that any window of this length has."""
    return max(sum(begin <= ms < begin + window_ms for ms in times) for begin in times)


async def test_starts_are_spread_over_the_time(store: Store) -> None:
    await fill(store, 10, gate(rate()))
    worker = await store.worker()
    assert await starts(store, worker, 30_000) == [0, 10_000, 20_000, 30_000]


@pytest.mark.parametrize(
    ("number", "period_ms", "burst"),
    [(6, MINUTE_MS, 1), (6, MINUTE_MS, 3), (6, MINUTE_MS, 6), (7, 9_001, 2), (10, 3_000, 9)],
)
async def test_no_window_sees_more_starts_than_the_rate(
    store: Store, number: int, period_ms: int, burst: int
) -> None:
    await fill(store, 60, gate(rate(number, period_ms, burst)))
    worker = await store.worker()
    times = await starts(store, worker, 3 * period_ms, period_ms // 60)
    assert most_in_a_window(times, period_ms) == number
    assert times[burst - 1] == 0
    # It is used up, too: as many as are left follow in each window.
    assert len(times) >= burst + 2 * (number - burst + 1)
    await store.backend.cancel([ref(f"j{n}") for n in range(60)], None, 0)


async def test_a_burst_is_there_again_after_a_rest(store: Store) -> None:
    await fill(store, 3, gate(rate(6, burst=3)))
    worker = await store.worker()
    first = await worker.take()
    assert len(first) == 3
    await finish(worker, *first)
    store.clock.ms += 2 * MINUTE_MS
    await fill(store, 5, gate(rate(6, burst=3)), name="k")
    assert len(await worker.take()) == 3


async def test_each_key_has_a_rate_of_its_own(store: Store) -> None:
    await fill(store, 2, gate(rate(key="a")), name="a")
    await fill(store, 2, gate(rate(key="b")), name="b")
    assert sorted(ids(await (await store.worker()).take())) == ["a0", "b0"]


async def test_who_comes_too_early_is_held_until_the_key_opens(store: Store) -> None:
    await fill(store, 3, gate(rate()))
    worker = await store.worker()
    (job,) = (await worker.exchange(demand=100)).jobs
    record = await store.look("j1")
    assert (record.state, record.held_by) == (State.HELD, held_at("mail", "acme"))
    # Its end opens nothing: starts count.
    answer = await worker.exchange(Settlement.succeeded(job), demand=100)
    assert (answer.jobs, answer.left_ready) == ([], frozenset())
    assert answer.next_due_ms == {"work": store.clock.ms + 10_000}
    store.clock.ms += 9_999
    assert await worker.take() == []
    store.clock.ms += 1
    assert ids(await worker.take()) == ["j1"]


async def test_a_key_that_opens_before_all_others_signals(store: Store) -> None:
    """A worker that sleeps until the next time that it knows of must learn of an earlier one."""
    slow, fast = gate(rate(limit="slow")), gate(rate(60, limit="fast"))
    await enqueue(store, gated("a0", slow), gated("b0", fast))
    worker = await store.worker()
    assert len(await worker.take()) == 2
    await enqueue(store, gated("a1", slow))
    await worker.settle_signals()
    # It is the first one, then one that opens earlier, then one that opens with the first.
    await enqueue(store, gated("b1", fast))
    assert await worker.signalled() == ["work"]
    assert (await worker.exchange()).next_due_ms == {"work": store.clock.ms + 1_000}
    await enqueue(store, gated("a2", slow))
    assert await worker.signalled(SHORT_S) == []


async def test_a_key_that_has_opened_is_work_for_an_idle_worker(store: Store) -> None:
    await fill(store, 2, gate(rate()))
    worker = await store.worker()
    await finish(worker, *await worker.take())
    assert (await worker.lease.beat()).ready == ()
    store.clock.ms += 10_000
    assert (await worker.lease.beat()).ready == ("work",)
    assert ids(await worker.take()) == ["j1"]


async def test_a_job_counts_for_its_tokens(store: Store) -> None:
    heavy = gate(rate(10, 10_000, 5, tokens=5))
    light = gate(rate(10, 10_000, 5))
    await enqueue(store, gated("heavy0", heavy), gated("heavy1", heavy))
    worker = await store.worker()
    assert ids(await worker.take()) == ["heavy0"]
    await enqueue(store, gated("light", light))
    # A start each 10 s / 6; five of them are paid for before the next heavy one.
    store.clock.ms += 8_333
    assert "heavy1" not in ids(await worker.take())
    store.clock.ms += 1_700
    assert "heavy1" in ids(await worker.take())


async def test_one_that_counts_for_more_than_a_burst_waits_longer_and_starts(store: Store) -> None:
    need_gates(store)
    number, period_ms = 10, 10_000
    light, heavy = gate(rate(number, period_ms)), gate(rate(number, period_ms, tokens=4))
    await enqueue(store, gated("light", light))
    worker = await store.worker()
    assert ids(await worker.take()) == ["light"]
    await enqueue(store, gated("heavy", heavy))
    times = await starts(store, worker, 20_000, 100)
    # One for itself, and three more that are paid for before it.
    assert times == [4_000]


async def test_no_window_sees_more_tokens_than_the_rate(store: Store) -> None:
    """Also behind a start that counts for more than a burst: its tokens are in a window with those
    of others on both of its sides."""
    number, period_ms, burst = 10, 10_000, 2
    sizes = (1, 6, 10)
    for tokens in sizes:
        its = gate(rate(number, period_ms, burst, tokens=tokens))
        await fill(store, 20, its, name=f"{tokens}-")
    worker = await store.worker()
    begin = store.clock.ms
    counted: list[int] = []
    seen: set[str] = set()
    while store.clock.ms <= begin + 6 * period_ms:
        jobs = await worker.take()
        for job in jobs:
            tokens_of = job.id.partition("-")[0]
            seen.add(tokens_of)
            counted += [store.clock.ms] * int(tokens_of)
        await finish(worker, *jobs)
        store.clock.ms += 200
    assert most_in_a_window(counted, period_ms) <= number
    assert seen == {str(tokens) for tokens in sizes}
    left = [ref(f"{tokens}-{n}") for tokens in sizes for n in range(20)]
    await store.backend.cancel(left, None, 0)


async def test_a_slow_rate_lets_nobody_start_before_its_time(store: Store) -> None:
    hour_ms = 3_600_000
    await fill(store, 1, gate(rate(1, hour_ms)))
    worker = await store.worker()
    await finish(worker, *await worker.take())
    store.clock.ms += hour_ms - 1
    # It comes a moment too early, when nobody waits.
    await fill(store, 1, gate(rate(1, hour_ms)), name="k")
    assert await worker.take() == []
    store.clock.ms += 1
    assert ids(await worker.take()) == ["k0"]


async def test_a_release_pays_for_no_second_start(store: Store) -> None:
    """What has started counts as started: the rate holds for whoever is called."""
    await fill(store, 2, gate(rate()))
    worker = await store.worker()
    (job,) = await worker.take()
    assert (await worker.exchange(Settlement.release(job), demand=100)).jobs == []
    store.clock.ms += 10_000
    assert ids(await worker.take()) == ["j0"]


async def test_a_reclaimed_job_counts_as_another_start(store: Store) -> None:
    await fill(store, 1, gate(rate(6, 3 * 3_600_000)))
    worker, other = await store.worker(), await store.worker()
    assert len(await worker.take()) == 1
    await store.end_leases(other)
    assert await other.take() == []
    await store.pass_time(1_800_000, other)
    assert ids(await other.take()) == ["j0"]


async def test_a_retry_counts_as_another_start(store: Store) -> None:
    await fill(store, 1, gate(rate()))
    worker = await store.worker()
    (job,) = await worker.take()
    await worker.exchange(Settlement.reschedule(job, b"again", 1_000))
    store.clock.ms += 1_000
    assert await worker.take() == []
    assert await store.state("j0") is State.HELD
    store.clock.ms += 9_000
    assert ids(await worker.take()) == ["j0"]


async def test_rates_and_permits_are_passed_together(store: Store) -> None:
    both = gate(use(1), rate())
    await fill(store, 3, both)
    worker = await store.worker()
    (first,) = await worker.take()
    store.clock.ms += 10_000
    # The rate is open again, the permit is taken: nothing is paid for in vain.
    assert await worker.take() == []
    assert (await store.look("j1")).held_by == held_at("api", "acme")
    (second,) = await finish(worker, first, slots=100)
    await finish(worker, second)
    # Now the permit is free, and the rate is not.
    assert await worker.take() == []
    assert (await store.look("j2")).held_by == held_at("mail", "acme")
    assert (await store.backend.limits.look("work", "api", "acme")) is not None
    store.clock.ms += 10_000
    assert ids(await worker.take()) == ["j2"]


async def test_many_lanes_at_one_rate_have_their_turns(store: Store) -> None:
    shared = rate(60, MINUTE_MS, 1, key="all")
    for name in "abc":
        await fill(store, 5, gate(shared, turn=name), name=name)
    worker = await store.worker()
    taken: list[str] = []
    for _ in range(9):
        jobs = await worker.take()
        assert len(jobs) == 1
        taken += ids(jobs)
        await finish(worker, *jobs)
        store.clock.ms += 1_000
    assert sorted(name[0] for name in taken) == sorted("abc" * 3)


async def test_after_a_step_back_of_the_clock_a_rate_opens_in_its_time(store: Store) -> None:
    await fill(store, 3, gate(rate()))
    worker = await store.worker()
    await finish(worker, *await worker.take())
    store.clock.ms -= 3_600_000
    await worker.lease.beat()
    started = 0
    for _ in range(20):
        jobs = await worker.take()
        started += len(jobs)
        await finish(worker, *jobs)
        store.clock.ms += 10_000
    assert started == 2


async def test_after_a_step_forward_no_more_start_than_a_burst(store: Store) -> None:
    await fill(store, 20, gate(rate(6, burst=2)))
    worker = await store.worker()
    assert len(await worker.take()) == 2
    store.clock.ms += 3_600_000
    assert len(await worker.take()) == 2
    await store.backend.cancel([ref(f"j{n}") for n in range(20)], None, 0)


# A job that was told to come back later


async def test_a_job_that_closes_its_key_closes_it_for_everybody(store: Store) -> None:
    await fill(store, 3, gate(use(2)))
    worker = await store.worker()
    first, second = await worker.take()
    closing = Settlement.reschedule(first, b"again", 5_000).closing()
    answer = await worker.exchange(closing, Settlement.succeeded(second), demand=100)
    assert (answer.jobs, answer.not_yours) == ([], [])
    assert await states(store, "j0", "j2") == [State.SCHEDULED, State.HELD]
    assert (await store.look("j2")).held_by == held_at("api", "acme")
    assert answer.next_due_ms == {"work": store.clock.ms + 5_000}
    await enqueue(store, gated("late", gate(use(2))), gated("other", gate(use(1, limit="other"))))
    assert ids(await worker.take()) == ["other"]
    store.clock.ms += 4_999
    assert await worker.take() == []
    store.clock.ms += 1
    assert sorted(ids(await worker.take())) == ["j2", "late"]


async def test_a_key_that_is_closed_for_longer_stays_closed(store: Store) -> None:
    await fill(store, 4, gate(use(2)))
    worker = await store.worker()
    first, second = await worker.take()
    await worker.exchange(Settlement.reschedule(first, b"again", 9_000).closing())
    await worker.exchange(Settlement.reschedule(second, b"again", 2_000).closing())
    store.clock.ms += 8_999
    assert await worker.take() == []
    store.clock.ms += 1
    assert len(await worker.take()) == 2


async def test_a_job_without_a_gate_closes_nothing(store: Store) -> None:
    await fill(store, 1)
    await store.enqueue("plain")
    worker = await store.worker()
    jobs = {job.id: job for job in await worker.take()}
    closing = Settlement.reschedule(jobs["plain"], b"again", 1_000).closing()
    assert (await worker.exchange(closing)).not_yours == []
    await enqueue(store, gated("b"))
    assert ids(await finish(worker, jobs["j0"], slots=100)) == ["b"]


async def test_who_has_lost_the_job_closes_nothing(store: Store) -> None:
    await fill(store, 2)
    worker, other = await store.worker(), await store.worker()
    (job,) = await worker.take()
    await worker.exchange(Settlement.release(job))
    (again,) = await other.take()
    late = Settlement.reschedule(job, b"again", 60_000).closing()
    assert (await worker.exchange(late)).not_yours == [late]
    assert ids(await finish(other, again, slots=100)) == ["j1"]
