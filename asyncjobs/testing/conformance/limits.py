"""Limits as people and other code see them: looking, changing, passing them outside of jobs."""

from __future__ import annotations

import pytest

from asyncjobs.errors import UsageError
from asyncjobs.model.job import State, held_at
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import LimitKind, LimitRule
from asyncjobs.store.limits import LimitRecord
from asyncjobs.testing.conformance.gates import (
    HOUR_MS,
    drain,
    enqueue,
    fill,
    finish,
    gate,
    gated,
    need_gates,
    states,
    use,
)
from asyncjobs.testing.conformance.gates_rates import MINUTE_MS, most_in_a_window, rate, starts
from asyncjobs.testing.conformance.store import SHORT_S, Store, ids, ref

pytestmark = pytest.mark.anyio


def at_once(number: int) -> LimitRule:
    return LimitRule(LimitKind.CONCURRENCY, number)


def per_minute(number: int, burst: int = 1) -> LimitRule:
    return LimitRule(LimitKind.RATE, number, MINUTE_MS, burst)


async def look(store: Store, key: str = "acme", limit: str = "api") -> LimitRecord:
    """The record of a key; its limit must be known."""
    record = await store.backend.limits.look("work", limit, key)
    assert record is not None
    return record


async def page(store: Store, limit: int = 500) -> dict[tuple[str, str], LimitRecord]:
    """All keys, page by page; none may come twice."""
    found: dict[tuple[str, str], LimitRecord] = {}
    after = None
    for _ in range(200):
        answer = await store.backend.limits.page("work", after, limit)
        for record in answer.limits:
            assert (record.limit, record.key) not in found
            found[record.limit, record.key] = record
        after = answer.after
        if after is None:
            return found
    raise AssertionError("the pages have no end")


# Looking


async def test_nothing_is_known_of_a_limit_that_nobody_uses(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    assert await limits.look("work", "api", "acme") is None
    assert (await limits.page("work")).limits == []
    assert await limits.set_rule("work", "api", None, at_once(3)) is False
    assert await limits.free("work", "api", "acme") == 0
    assert await limits.renew("work", "nobody", 1_000) is False
    await limits.give_back("work", "nobody")


async def test_a_key_as_it_stands(store: Store) -> None:
    await fill(store, 2, gate(use(2)))
    worker = await store.worker()
    await worker.take()
    store.clock.ms += 500
    since = store.clock.ms
    await fill(store, 3, gate(use(2)), name="k")
    store.clock.ms += 500
    record = LimitRecord("work", "api", "acme", at_once(2), False, 2, 3, since, None)
    assert await look(store) == record
    assert await page(store) == {("api", "acme"): record}
    idle = await look(store, "other")
    assert (idle.rule, idle.running, idle.waiting, idle.oldest_ms) == (at_once(2), 0, 0, None)


async def test_a_rate_says_when_it_opens(store: Store) -> None:
    await fill(store, 2, gate(rate()))
    worker = await store.worker()
    await finish(worker, *await worker.take())
    assert await worker.take() == []
    record = await look(store, limit="mail")
    assert (record.waiting, record.opens_ms) == (1, store.clock.ms + 10_000)
    store.clock.ms += 10_000
    assert (await look(store, limit="mail")).opens_ms is None


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_pages_of_keys(store: Store, limit: int) -> None:
    jobs = [gated(f"j{n}", gate(use(1, f"k{n}"))) for n in range(25)]
    await enqueue(store, *jobs)
    worker = await store.worker()
    await worker.take()
    await enqueue(store, *(gated(f"w{n}", gate(use(1, f"k{n}"))) for n in range(5)))
    found = await page(store, limit)
    assert sorted(key for _, key in found) == sorted(f"k{n}" for n in range(25))
    assert sum(record.running for record in found.values()) == 25
    assert sum(record.waiting for record in found.values()) == 5


async def test_keys_that_nobody_uses_are_in_no_page(store: Store) -> None:
    await fill(store, 1)
    assert await drain(store, await store.worker()) == ["j0"]
    assert await page(store) == {}


# Rules


async def test_a_larger_number_lets_in_at_once(store: Store) -> None:
    await fill(store, 6)
    worker = await store.worker()
    assert len(await worker.take()) == 1
    await worker.settle_signals()
    assert await store.backend.limits.set_rule("work", "api", None, at_once(4)) is True
    assert await worker.signalled() == ["work"]
    assert len(await worker.take()) == 3
    record = await look(store)
    assert (record.rule, record.is_set, record.running) == (at_once(4), True, 4)


async def test_after_a_smaller_number_nothing_starts_until_enough_have_ended(store: Store) -> None:
    await fill(store, 8, gate(use(4)))
    worker = await store.worker()
    jobs = await worker.take()
    await store.backend.limits.set_rule("work", "api", None, at_once(2))
    for job in jobs[:2]:
        assert await finish(worker, job, slots=100) == []
    assert len(await finish(worker, jobs[2], slots=100)) == 1
    assert len(await finish(worker, jobs[3], slots=100)) == 1


async def test_a_number_up_and_down_leaks_no_permit(store: Store) -> None:
    await fill(store, 20, gate(use(3)))
    worker = await store.worker()
    jobs = await worker.take()
    limits = store.backend.limits
    for number in (1, 5, 2, 3):
        await limits.set_rule("work", "api", None, at_once(number))
        jobs += await worker.take()
    assert len(jobs) == 5
    await finish(worker, *jobs)
    assert len(await worker.take()) == 3


async def test_the_rule_of_an_operator_comes_before_that_of_code(store: Store) -> None:
    await fill(store, 1)
    limits = store.backend.limits
    await limits.set_rule("work", "api", None, at_once(3))
    # Code says its rule again with each job.
    await fill(store, 9, gate(use(1)), name="k")
    worker = await store.worker()
    jobs = await worker.take()
    assert len(jobs) == 3
    assert await limits.set_rule("work", "api", None, None) is True
    assert (await look(store)).is_set is False
    assert await finish(worker, *jobs[:2], slots=100) == []
    assert len(await finish(worker, jobs[2], slots=100)) == 1


async def test_a_rule_for_a_key_comes_before_that_of_its_limit(store: Store) -> None:
    for key in "ab":
        await fill(store, 6, gate(use(1, key)), name=key)
    limits = store.backend.limits
    await limits.set_rule("work", "api", "a", at_once(3))
    await limits.set_rule("work", "api", None, at_once(2))
    taken = ids(await (await store.worker()).take())
    assert sorted(name[0] for name in taken) == ["a", "a", "a", "b", "b"]
    assert (await look(store, "b")).rule == at_once(2)
    await limits.set_rule("work", "api", "a", None)
    assert (await look(store, "a")).rule == at_once(2)


async def test_a_key_may_have_a_rule_of_its_own_in_code(store: Store) -> None:
    await fill(store, 4, gate(use(3, "large", is_own=True)), name="l")
    await fill(store, 4, gate(use(1, "small", is_own=True)), name="s")
    worker = await store.worker()
    taken = ids(await worker.take())
    assert sorted(name[0] for name in taken) == ["l", "l", "l", "s"]
    # What an operator has set for the limit holds for each of them.
    await store.backend.limits.set_rule("work", "api", None, at_once(2))
    assert {(await look(store, key)).rule for key in ("large", "small")} == {at_once(2)}
    assert [name[0] for name in ids(await worker.take())] == ["s"]


async def test_a_rule_of_a_key_is_known_as_long_as_one_of_its_jobs_lives(store: Store) -> None:
    """Also while nobody waits at it or runs: upkeep drops what nobody needs, and no more."""
    await fill(store, 1, gate(use(3, "large", is_own=True)), name="l")
    worker = await store.worker()
    await finish(worker, *await worker.take())
    small = gate(use(1, "small", is_own=True))
    await enqueue(store, *(gated(f"s{n}", small, delay_ms=1_000) for n in range(3)))
    await store.backend.prune(["work"], 100)
    store.clock.ms += 1_000
    assert len(await worker.take()) == 1
    assert (await look(store, "small")).rule == at_once(1)


async def test_a_faster_rate_of_code_comes_to_all_keys(store: Store) -> None:
    """A key where nothing new is enqueued does not wait for as long as the old rate says."""
    for key in "ab":
        await fill(store, 2, gate(rate(1, HOUR_MS, key=key)), name=key)
    worker = await store.worker()
    await finish(worker, *await worker.take())
    await enqueue(store, gated("a2", gate(rate(60, key="a"))))
    await store.backend.prune(["work"], 100)
    seen: list[str] = []
    for _ in range(60):
        store.clock.ms += 1_000
        jobs = await worker.take()
        seen += ids(jobs)
        await finish(worker, *jobs)
    assert "b1" in seen


async def test_the_newest_rule_of_code_holds_for_jobs_that_wait(store: Store) -> None:
    await fill(store, 5, gate(use(1)))
    worker = await store.worker()
    assert len(await worker.take()) == 1
    await fill(store, 1, gate(use(3)), name="k")
    assert len(await worker.take()) == 2


async def test_a_job_that_comes_back_brings_no_old_rule(store: Store) -> None:
    await fill(store, 1, gate(use(1)))
    worker = await store.worker()
    (old,) = await worker.take()
    await worker.exchange(Settlement.reschedule(old, b"again", 1_000))
    await fill(store, 4, gate(use(3)), name="k")
    store.clock.ms += 1_000
    assert len(await worker.take()) == 3
    assert (await look(store)).rule == at_once(3)


async def test_a_rule_of_the_other_kind_is_refused(store: Store) -> None:
    await fill(store, 1)
    with pytest.raises(UsageError, match=r"'api'"):
        await store.backend.limits.set_rule("work", "api", None, per_minute(5))
    assert (await look(store)).rule == at_once(1)


async def test_an_operator_can_stop_a_limit(store: Store) -> None:
    await fill(store, 2)
    limits = store.backend.limits
    await limits.set_rule("work", "api", "acme", at_once(0))
    worker = await store.worker()
    assert await worker.take() == []
    assert await states(store, "j0") == [State.HELD]
    await limits.set_rule("work", "api", "acme", None)
    assert ids(await worker.take()) == ["j0"]


async def test_a_faster_rate_counts_at_once(store: Store) -> None:
    await fill(store, 20, gate(rate(1)))
    worker = await store.worker()
    assert len(await worker.take()) == 1
    await store.backend.limits.set_rule("work", "mail", None, per_minute(60))
    assert len(await starts(store, worker, 5_000)) in (5, 6)


async def test_a_slower_rate_counts_at_once(store: Store) -> None:
    await fill(store, 20, gate(rate(60)))
    worker = await store.worker()
    await starts(store, worker, 5_000)
    await store.backend.limits.set_rule("work", "mail", None, per_minute(6))
    times = await starts(store, worker, 40_000)
    assert most_in_a_window(times[1:], 10_000) == 1


# Freeing and closing


async def test_a_key_may_be_closed_and_opened_by_hand(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    await limits.close("work", [use()], 60_000)
    await fill(store, 2)
    worker = await store.worker()
    assert await worker.take() == []
    record = await look(store)
    assert (record.opens_ms, record.waiting) == (store.clock.ms + 60_000, 2)
    assert (await store.look("j0")).held_by == held_at("api", "acme")
    await worker.settle_signals()
    assert await limits.free("work", "api", "acme") == 0
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["j0"]


async def test_a_key_that_is_closed_by_hand_opens_by_itself(store: Store) -> None:
    await fill(store, 1)
    worker = await store.worker()
    await store.backend.limits.close("work", [use()], 5_000)
    assert await worker.take() == []
    assert (await worker.exchange()).next_due_ms == {"work": store.clock.ms + 5_000}
    store.clock.ms += 5_000
    assert ids(await worker.take()) == ["j0"]


async def test_freeing_takes_no_permit_of_a_job_that_runs(store: Store) -> None:
    await fill(store, 3)
    worker = await store.worker()
    (job,) = await worker.take()
    assert await store.backend.limits.free("work", "api", "acme") == 0
    assert await worker.take() == []
    assert (await look(store)).running == 1
    assert len(await finish(worker, job, slots=100)) == 1


# Outside of jobs


async def test_somebody_outside_takes_permits_beside_jobs(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    assert (await limits.acquire("work", [use(2)], "web", 60_000)).is_in
    await fill(store, 3, gate(use(2)))
    worker = await store.worker()
    (job,) = await worker.take()
    assert (await look(store)).running == 2
    refused = await limits.acquire("work", [use(2)], "other", 60_000)
    assert not refused.is_in
    assert 0 < refused.again_ms <= 60_000
    await worker.settle_signals()
    await limits.give_back("work", "web")
    # A job waits for it, so a worker is told.
    assert await worker.signalled() == ["work"]
    assert len(await worker.take()) == 1
    await limits.give_back("work", "web")
    assert await worker.take() == []
    assert len(await finish(worker, job, slots=100)) == 1


async def test_who_is_in_counts_once_and_is_told_the_same(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    for _ in range(3):
        assert (await limits.acquire("work", [use(2)], "web", 60_000)).is_in
    assert (await look(store)).running == 1
    await limits.give_back("work", "web")
    assert (await look(store)).running == 0


async def test_a_permit_outside_ends_with_its_time(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    await limits.acquire("work", [use()], "web", 5_000)
    await fill(store, 1)
    worker = await store.worker()
    assert await worker.take() == []
    # Whoever waits comes when it ends, for nobody may say so.
    assert (await worker.exchange()).next_due_ms == {"work": store.clock.ms + 5_000}
    store.clock.ms += 5_000
    assert ids(await worker.take()) == ["j0"]
    assert await limits.renew("work", "web", 5_000) is False


async def test_a_permit_outside_that_is_renewed_goes_on(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    await limits.acquire("work", [use()], "web", 5_000)
    store.clock.ms += 4_000
    assert await limits.renew("work", "web", 5_000) is True
    await fill(store, 1)
    worker = await store.worker()
    store.clock.ms += 4_999
    assert await worker.take() == []
    store.clock.ms += 1
    assert ids(await worker.take()) == ["j0"]


async def test_all_limits_are_passed_outside_or_none(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    shared = use(1, "all", "pool")
    await limits.acquire("work", [shared], "first", 60_000)
    assert not (await limits.acquire("work", [use(), shared], "second", 60_000)).is_in
    assert (await look(store)).running == 0
    await fill(store, 1)
    assert ids(await (await store.worker()).take()) == ["j0"]


async def test_a_rate_outside_says_when_to_ask_again(store: Store) -> None:
    need_gates(store)
    limits = store.backend.limits
    assert (await limits.acquire("work", [rate()], "one", 60_000)).is_in
    refused = await limits.acquire("work", [rate()], "two", 60_000)
    assert (refused.is_in, refused.again_ms) == (False, 10_000)
    # The same one again pays for no second start.
    assert (await limits.acquire("work", [rate()], "one", 60_000)).is_in
    store.clock.ms += 10_000
    assert (await limits.acquire("work", [rate()], "two", 60_000)).is_in
    await limits.give_back("work", "one")
    await limits.give_back("work", "two")
    # Giving back refunds no start.
    assert not (await limits.acquire("work", [rate()], "three", 60_000)).is_in


async def test_jobs_and_others_share_a_rate(store: Store) -> None:
    need_gates(store)
    await store.backend.limits.acquire("work", [rate()], "web", 60_000)
    await fill(store, 1, gate(rate()))
    worker = await store.worker()
    assert await worker.take() == []
    store.clock.ms += 10_000
    assert ids(await worker.take()) == ["j0"]
    await store.backend.limits.give_back("work", "web")


async def test_a_permit_outside_after_a_step_back_of_the_clock(store: Store) -> None:
    need_gates(store)
    await store.backend.limits.acquire("work", [use()], "web", 5_000)
    await fill(store, 1)
    worker = await store.worker()
    assert await worker.take() == []
    store.clock.ms -= HOUR_MS
    await worker.lease.beat()
    assert await worker.take() == []
    store.clock.ms += 5_001
    assert ids(await worker.take()) == ["j0"]


async def test_a_permit_outside_that_is_not_needed_signals_nobody(store: Store) -> None:
    need_gates(store)
    worker = await store.worker()
    await worker.settle_signals()
    limits = store.backend.limits
    await limits.acquire("work", [use()], "web", 60_000)
    await limits.give_back("work", "web")
    assert await worker.signalled(SHORT_S) == []
    await store.backend.cancel([ref("nobody")], None, 0)
