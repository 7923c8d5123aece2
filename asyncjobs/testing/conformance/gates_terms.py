"""Gates beside everything else that becomes of a job: unique keys, pauses, lists, schedules."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import NewJob, State, held_at
from asyncjobs.model.settlement import Effects, Settlement
from asyncjobs.model.terms import Gate, Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.control import Purge
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.listing import JobQuery
from asyncjobs.store.schedules import Schedules, TickVerdict
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
from asyncjobs.testing.conformance.listing import envelope, names, pages
from asyncjobs.testing.conformance.schedules_fire import due, fire, firing, tick
from asyncjobs.testing.conformance.store import Store, ids, outcome, ref

pytestmark = pytest.mark.anyio

KEY = Unique(b"key", "finished", HOUR_MS)


# Unique keys


async def test_a_job_with_a_key_and_a_gate(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    await enqueue(store, gated("first"), gated("a", unique=KEY))
    assert await enqueue(store, gated("b", unique=KEY)) == [Placed(ref("a"), "there")]
    worker = await store.worker()
    running = await worker.take_one()
    # It has its key also while it waits for room.
    assert await enqueue(store, gated("c", unique=KEY)) == [Placed(ref("a"), "there")]
    (again,) = await finish(worker, running, slots=100)
    assert again.id == "a"
    await finish(worker, again)
    assert await enqueue(store, gated("d", unique=KEY)) == [None]
    assert await drain(store, worker) == ["d"]


async def test_a_job_that_was_held_for_a_key_comes_to_its_gate(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    need_gates(store)
    hold = KEY._replace(hold=True)
    plain = NewJob("work", "holder", 2, b"holder", has_new_id=True, terms=Terms(unique=KEY))
    await enqueue(store, plain)
    worker = await store.worker()
    holder = await worker.take_one()
    await enqueue(store, gated("full"))
    full = await worker.take_one()
    assert await enqueue(store, gated("a", unique=hold)) == [Placed(ref("a"), "held")]
    await finish(worker, holder)
    assert (await store.look("a")).held_by == held_at("api", "acme")
    assert ids(await finish(worker, full, slots=100)) == ["a"]


async def test_a_key_of_a_job_that_its_gate_refuses_is_free(store: Store) -> None:
    if not store.backend.capabilities.unique:
        pytest.skip("no capability unique")
    await enqueue(store, gated("full"))
    worker = await store.worker()
    await worker.take_one()
    refused = gated("a", gate(when_full="cancel_new"), unique=KEY)
    assert await enqueue(store, refused) == [Placed(ref("a"), "cancelled")]
    assert await enqueue(store, gated("b", unique=KEY)) == [None]


# Other ways to come to a gate


async def test_a_job_of_a_success_comes_to_its_gate(store: Store) -> None:
    await fill(store, 2, gate(use(1, "other")), name="parent")
    await enqueue(store, gated("full"))
    worker = await store.worker()
    jobs = {job.id: job for job in await worker.take()}
    effects = Effects((gated("child"), gated("free", gate(use(1, "free")))))
    answer = await worker.exchange(
        Settlement.succeeded(jobs["parent0"]).causing(effects), demand=100
    )
    assert sorted(ids(answer.jobs)) == ["free", "parent1"]
    assert (await store.look("child")).held_by == held_at("api", "acme")
    assert ids(await finish(worker, jobs["full"], slots=100)) == ["child"]


async def test_a_tick_of_a_schedule_comes_to_its_gate(store: Store, schedules: Schedules) -> None:
    await enqueue(store, gated("full"))
    worker = await store.worker()
    full = await worker.take_one()
    record = await due(store, schedules)
    at = store.clock.ms
    its = tick(at, terms=Terms(gate=gate()))
    assert (await fire(schedules, firing(record, its))).verdicts == [TickVerdict.FIRED]
    assert (await store.look(its.job.id)).held_by == held_at("api", "acme")
    assert ids(await finish(worker, full, slots=100)) == [its.job.id]


async def test_a_revived_job_passes_its_gate_again(store: Store) -> None:
    await enqueue(store, gated("a"))
    worker = await store.worker()
    dead = await worker.take_one()
    await worker.exchange(Settlement.dead(dead, b"letter"))
    await enqueue(store, gated("full"))
    full = await worker.take_one()
    (letter,) = (await store.backend.dead.page(LetterQuery("work"))).letters
    revival = Revival(letter.key, b"again", gate=gate(when_full="cancel_new"))
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    # Somebody wants it to run: it waits.
    assert await store.state("a") is State.HELD
    (again,) = await finish(worker, full, slots=100)
    assert (again.id, again.envelope) == ("a", b"again")


async def test_a_scheduled_job_that_is_run_now_comes_to_its_gate(store: Store) -> None:
    await enqueue(store, gated("a"), gated("late", delay_ms=HOUR_MS))
    worker = await store.worker()
    running = await worker.take_one()
    jobs = store.backend.inspect.jobs
    assert await jobs.run_now([Target(ref("late"))]) == [Changed.DONE]
    assert await store.state("late") is State.HELD
    assert await jobs.run_now([Target(ref("late"))]) == [Changed.HELD]
    assert ids(await finish(worker, running, slots=100)) == ["late"]


# What operators do


async def test_jobs_at_gates_are_listed_where_they_stand(store: Store) -> None:
    jobs = [gated(f"j{n}", envelope=envelope("send")) for n in range(5)]
    free = [gated(f"f{n}", gate(use(9, limit="free")), envelope=envelope("send")) for n in range(3)]
    await enqueue(store, *jobs, *free)
    worker = await store.worker()
    await worker.take(1)
    await worker.take(1)
    waiting = names(await pages(store, JobQuery(State.READY, limit=2)))
    held = await pages(store, JobQuery(State.HELD, limit=2))
    running = names(await pages(store, JobQuery(State.RUNNING)))
    assert len(running) == 2
    everything = [*waiting, *names(held), *running]
    assert sorted(everything) == sorted(job.id for job in [*jobs, *free])
    assert {job.record.held_by for job in held} == {held_at("api", "acme")}
    for job in held:
        assert job.record == await store.look(job.ref.id)
        assert job.time_ms == store.clock.ms


async def test_a_purge_takes_the_jobs_of_lanes(store: Store) -> None:
    await fill(store, 6)
    worker = await store.worker()
    running = await worker.take_one()
    purge = Purge("work", outcome=outcome(State.CANCELLED), result_ttl_ms=60_000)
    control = store.backend.control.queues
    for each in (purge._replace(is_trial=True), purge):
        purged, after = 0, None
        for _ in range(10):
            part = await control.purge(each, 100, after)
            purged, after = purged + part.jobs, part.after
            if after is None:
                break
        assert (purged, after) == (5, None)
    assert await store.state("j3") is State.CANCELLED
    counts = await store.counts()
    assert (sum(counts.ready), counts.held, counts.running) == (0, 0, 1)
    assert await finish(worker, running, slots=100) == []
    await enqueue(store, gated("next"))
    assert ids(await worker.take()) == ["next"]


async def test_a_deleted_job_leaves_its_lane(store: Store) -> None:
    await fill(store, 3)
    worker = await store.worker()
    running = await worker.take_one()
    jobs = store.backend.inspect.jobs
    assert await jobs.delete([Target(ref("j1")), Target(ref("j0"))]) == [
        Changed.DONE,
        Changed.RUNNING,
    ]
    assert await store.find("j1") is None
    assert ids(await finish(worker, running, slots=100)) == ["j2"]


async def test_a_changed_job_goes_to_the_end_of_its_lane(store: Store) -> None:
    await fill(store, 3)
    jobs = store.backend.inspect.jobs
    changes = [Change(ref("j0"), b"j0", b"new")]
    assert await jobs.change(changes) == [Changed.DONE]
    assert await jobs.change(changes) == [Changed.MOVED]
    worker = await store.worker()
    taken = []
    for _ in range(3):
        taken.append(await worker.take_one())
        await finish(worker, taken[-1])
    assert [(job.id, job.envelope) for job in taken] == [
        ("j1", b"j1"),
        ("j2", b"j2"),
        ("j0", b"new"),
    ]


async def test_a_job_at_a_gate_may_be_put_off(store: Store) -> None:
    await fill(store, 2)
    change = Change(ref("j0"), b"j0", b"j0", at_ms=store.clock.ms + 5_000)
    assert await store.backend.inspect.jobs.change([change]) == [Changed.DONE]
    assert await states(store, "j0", "j1") == [State.SCHEDULED, State.READY]
    worker = await store.worker()
    assert await drain(store, worker) == ["j1"]
    store.clock.ms += 5_000
    assert await drain(store, worker) == ["j0"]


async def test_jobs_of_a_paused_function_take_no_permit(store: Store) -> None:
    stopped = [gated(f"s{n}", envelope=envelope("stopped")) for n in range(3)]
    await enqueue(store, *stopped, gated("runs", envelope=envelope("runs")))
    control = store.backend.control.queues
    await control.pause(["work"], "stopped", b"{}")
    worker = await store.worker()
    running = await worker.take()
    assert ids(running) == ["runs"]
    await finish(worker, *running)
    assert await worker.take() == []
    await control.resume(["work"], "stopped")
    done: list[str] = []
    for _ in range(8):
        jobs = await worker.take()
        assert len(jobs) <= 1
        done += ids(jobs)
        await finish(worker, *jobs)
    assert done == ["s0", "s1", "s2"]


async def test_a_paused_function_lets_other_lanes_in(store: Store) -> None:
    """A lane that was let in and has only jobs that stand aside lets in the next one."""
    shared = use(1, "all", "pool")
    await enqueue(store, gated("full", gate(shared), envelope=envelope("runs")))
    worker = await store.worker()
    full = await worker.take_one()
    lanes = [
        gated("s", gate(shared, turn="s"), envelope=envelope("stopped")),
        gated("r", gate(shared, turn="r"), envelope=envelope("runs")),
    ]
    await enqueue(store, *lanes)
    await store.backend.control.queues.pause(["work"], "stopped", b"{}")
    taken = [*await finish(worker, full, slots=100), *await worker.take()]
    assert ids(taken) == ["r"]


async def test_a_paused_queue_hands_out_nothing_at_its_gates(store: Store) -> None:
    await fill(store, 2)
    control = store.backend.control.queues
    await control.pause(["work"], None, b"{}")
    worker = await store.worker()
    answer = await worker.exchange(demand=100)
    assert (answer.jobs, answer.left_ready) == ([], frozenset())
    assert answer.paused == {"work"}
    assert (await worker.lease.beat()).ready == ()
    await worker.settle_signals()
    await control.resume(["work"], None)
    assert await worker.signalled() == ["work"]
    assert ids(await worker.take()) == ["j0"]


async def test_a_queue_with_jobs_at_gates_is_not_forgotten(store: Store) -> None:
    await fill(store, 3)
    worker = await store.worker()
    await worker.take()
    await worker.lease.leave()
    store.clock.ms += 10 * HOUR_MS
    (left,) = await store.backend.inspect.queues.forget(["work"], 0)
    assert not left.is_forgotten
    assert await drain(store, await store.worker()) == ["j0", "j1", "j2"]


async def test_a_turn_is_no_limit_beside_one(store: Store) -> None:
    """Jobs of one function: some with a limit, others with a turn alone."""
    await fill(store, 3, Gate(turn="t"), name="turn")
    await fill(store, 3, gate())
    assert len(await (await store.worker()).take()) == 4
