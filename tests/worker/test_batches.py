"""Batch consumers: one call for many jobs, each of which ends by itself."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import anyio
import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    Batch,
    BatchError,
    CallNext,
    ConfigError,
    JobAttempt,
    JobFailed,
    RegistrationError,
    RetryPolicy,
    State,
    UsageError,
    Worker,
    constant,
)
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.engine.attempt import Reason
from tests.worker import batch_jobs
from tests.worker.batch_jobs import Row
from tests.worker.kit import (
    LIMIT_S,
    Stage,
    counts,
    ended,
    eventually,
    processor_of,
    register,
    store_raw,
    until,
    working,
)

pytestmark = [pytest.mark.anyio]

MEMORY = pytest.mark.parametrize("kind", ["memory"], indirect=True)
LONG = Batch(size=1_000, window=600)
"""A batch that never begins by its window while a test runs."""


async def results(handles: list[Any]) -> list[Any]:
    return [await handle.result(LIMIT_S) for handle in handles]


async def test_one_call_serves_many_jobs(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=4, window=600))
    async with working(app):
        handles = await app.enqueue_many([job.bind(n) for n in range(8)])
        assert await results(handles) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [len(call) for call in stage.notes] == [4, 4]


async def test_the_window_begins_with_the_first_job(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.store, batch=Batch(size=100, window="30ms"))
    async with working(app):
        handles = await app.enqueue_many([job.bind(Row(n)) for n in range(3)])
        assert await results(handles) == [None] * 3
    assert sorted(id for call in stage.notes for id in call) == [0, 1, 2]


async def test_a_sync_function_has_one_thread_for_all(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double_in_thread, batch=Batch(size=50, window=600))
    async with working(app, threads=1):
        handles = await app.enqueue_many([job.bind(n) for n in range(50)])
        assert await results(handles) == [n * 2 for n in range(50)]
    assert [len(call) for call in stage.notes] == [50]


# -- each item is settled by itself ------------------------------------------------------------


async def test_a_list_of_results_ends_each_job(app: AsyncJobs, stage: Stage) -> None:
    retry = RetryPolicy(2, constant(3600))
    job = register(app, batch_jobs.some_fail, batch=Batch(size=4, window=600), retry=retry)
    async with working(app):
        handles = await app.enqueue_many([job.bind(n) for n in range(4)])
        assert await handles[0].result(LIMIT_S) == 0
        await ended(app, handles[3].id, State.DISCARDED)
        await ended(app, handles[1].id, State.SCHEDULED)
        await ended(app, handles[2].id, State.SCHEDULED)
        failed, snoozed = await handles[1].info(), await handles[2].info()
    # A failure spends an attempt, and a snooze does not.
    assert [error.message for error in failed.errors] == ["one is bad"]
    assert (failed.attempt, snoozed.attempt) == (2, 1)
    assert snoozed.errors == ()


async def test_an_error_names_those_that_fail(app: AsyncJobs, stage: Stage) -> None:
    job = register(
        app, batch_jobs.name_those_that_fail, batch=Batch(size=4, window=600), retry=False
    )
    async with working(app):
        handles = await app.enqueue_many([job.bind(n) for n in range(4)])
        for n in (0, 2):
            assert await handles[n].result(LIMIT_S) is None
        for n in (1, 3):
            with pytest.raises(JobFailed, match=f"ValueError: {n}"):
                await handles[n].result(LIMIT_S)


async def test_any_other_error_fails_all(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.all_fail, batch=Batch(size=3, window=600), retry=3)
    async with working(app):
        handles = await app.enqueue_many(
            [
                job.options(retry=n + 1).bind(n) if n else job.options(retry=False).bind(n)
                for n in range(3)
            ]
        )
        # Each by its own policy: the first one has no retry.
        with pytest.raises(JobFailed, match="RuntimeError: the table is locked"):
            await handles[0].result(LIMIT_S)
        await ended(app, handles[1].id, State.SCHEDULED)
        info = await handles[2].info()
    trace = info.errors[0].traceback
    assert trace.count("in all_fail") == 1


@MEMORY
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (batch_jobs.wrong_length, "wrong_length returned 1 results for a batch of 2"),
        (batch_jobs.wrong_kind, "wrong_kind returned a dict for a batch of 2"),
        (batch_jobs.wrong_place, "wrong_place raised BatchError for the item 2 of a batch of 2"),
    ],
)
async def test_what_says_nothing_of_each_item_fails_all(
    app: AsyncJobs, stage: Stage, function: Any, told: str
) -> None:
    job = register(app, function, batch=Batch(size=2, window=600), retry=False)
    async with working(app):
        for handle in await app.enqueue_many([job.bind(n) for n in range(2)]):
            with pytest.raises(JobFailed, match=told):
                await handle.result(LIMIT_S)


async def test_an_item_that_does_not_fit_is_dead_alone(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.store, batch=Batch(size=2, window=600))
    async with working(app):
        raw = encode_call("store", [{"id": "no number"}], {}, now_ms(), None, None, None, None)
        wrong = await store_raw(app, raw)
        good = await job.enqueue(Row(1))
        assert await good.result(LIMIT_S) is None
        await ended(app, wrong, State.DEAD)
        assert (await app.handle(wrong, "default").info()).reason == "arguments"
    assert stage.notes == [[1]]


# -- what belongs together ----------------------------------------------------------------------


@MEMORY
@pytest.mark.parametrize("by", ["tenant", lambda row: row.tenant])
async def test_a_batch_has_one_key(app: AsyncJobs, stage: Stage, by: Any) -> None:
    job = register(app, batch_jobs.store, batch=Batch(size=2, window=600, by=by))
    async with working(app):
        calls = [job.bind(Row(n, tenant="ab"[n % 2])) for n in range(4)]
        await results(await app.enqueue_many(calls))
    assert sorted(stage.notes) == [[0, 2], [1, 3]]


@MEMORY
async def test_an_item_whose_key_cannot_be_made_fails_alone(app: AsyncJobs, stage: Stage) -> None:
    rule = Batch(size=2, window=600, by=lambda row: 1 // row.id)
    job = register(app, batch_jobs.store, batch=rule, retry=False)
    async with working(app):
        handles = await app.enqueue_many([job.bind(Row(n)) for n in (2, 0, 3)])
        with pytest.raises(JobFailed, match="ZeroDivisionError"):
            await handles[1].result(LIMIT_S)
        await results([handles[0], handles[2]])
    assert stage.notes == [[2, 3]]


@MEMORY
async def test_a_batch_has_so_many_bytes(app: AsyncJobs, stage: Stage) -> None:
    async with app:
        job = register(app, batch_jobs.double, batch=Batch(100, 600))
        size = len(job.new_job((1,), {}).envelope)
    rule = Batch(size=100, window="20ms", max_bytes=2 * size)
    job = register(app, batch_jobs.double, batch=rule, name="bounded")
    async with working(app):
        size_now = len(job.new_job((1,), {}).envelope)
        assert 2 * size_now <= 3 * size
        await results(await app.enqueue_many([job.bind(n) for n in range(5)]))
    assert max(len(call) for call in stage.notes) == 2 * size // size_now


@MEMORY
async def test_jobs_with_other_time_outs_or_queues_have_batches_of_their_own(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=10, window="20ms"))
    calls = [job.bind(1), job.options(timeout=5).bind(2), job.options(queue="q").bind(3)]
    async with working(app, queues=["default", "q"]):
        await results(await app.enqueue_many(calls))
    assert sorted(stage.notes) == [[1], [2], [3]]


# -- slots --------------------------------------------------------------------------------------


@MEMORY
async def test_a_batch_is_not_larger_than_the_worker(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=100, window=600))
    async with working(app, concurrency=3):
        handles = await app.enqueue_many([job.bind(n) for n in range(6)])
        assert await results(handles) == [n * 2 for n in range(6)]
    assert [len(call) for call in stage.notes] == [3, 3]
    told = [record.getMessage() for record in caplog.records if "batch" in record.getMessage()]
    assert told == [
        "double: its batches of 100 jobs are made of 3, for this worker has so many slots; give "
        "it concurrency=100 or more, or the function Batch(size=3)"
    ]


@MEMORY
async def test_max_running_counts_calls(app: AsyncJobs, stage: Stage) -> None:
    job = register(
        app, batch_jobs.at_the_gate, batch=Batch(size=2, window=600), max_running=1, queue="few"
    )
    async with working(app) as worker:
        handles = await app.enqueue_many([job.bind(name) for name in "abcdef"])
        await stage.noted(("began", ["a", "b"]))
        # As many jobs as a call serves are taken. The others stay in the store, for any worker.
        await eventually(lambda: has_ready(app, 4, "few"))
        assert worker.running == 2
        stage.open("call")
        assert await results(handles) == [handle.id for handle in handles]
    began = [note[1] for note in stage.notes if note[0] == "began"]
    assert began == [["a", "b"], ["c", "d"], ["e", "f"]]


async def has_ready(app: AsyncJobs, number: int, queue: str) -> bool:
    return sum((await counts(app, queue)).ready) == number


# -- cancels, expiry, time-outs, stops ----------------------------------------------------------


async def test_a_cancelled_item_leaves_and_the_others_go_on(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.at_the_gate, batch=Batch(size=3, window=600))
    async with working(app):
        handles = await app.enqueue_many([job.bind(name) for name in "abc"])
        await until(lambda: len(stage.notes) == 1)
        assert await handles[1].cancel()
        await ended(app, handles[1].id, State.CANCELLED)
        stage.open("call")
        for handle in (handles[0], handles[2]):
            assert await handle.result(LIMIT_S) == handle.id
    ends = stage.notes[-1][1]
    assert sorted(map(str, ends)) == ["None", "None", "cancel"]


async def test_a_batch_of_cancelled_items_is_stopped(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.slow_to_end, batch=Batch(size=2, window=600))
    async with working(app):
        handles = await app.enqueue_many([job.bind(name) for name in "ab"])
        await stage.noted("began")
        for handle in handles:
            assert await handle.cancel()
        await ended(app, handles[0].id, State.CANCELLED)
        # The clean-up of the call belongs to the last one.
        assert await handles[1].status() is State.RUNNING
        stage.open("clean up")
        await ended(app, handles[1].id, State.CANCELLED)
    assert stage.notes == ["began", "ended"]


@MEMORY
async def test_what_waits_for_its_batch_is_cancelled_and_expires(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=10, window="150ms"))
    async with working(app) as worker:
        kept = await job.enqueue(1)
        cancelled = await job.enqueue(2)
        late = await job.options(expires=0.05).enqueue(3)
        await until(lambda: worker.running == 3 or bool(stage.notes))
        await cancelled.cancel()
        assert await kept.result(LIMIT_S) == 2
        await ended(app, cancelled.id, State.CANCELLED)
        await ended(app, late.id, State.DISCARDED)
    assert stage.notes == [[1]]


@MEMORY
async def test_the_time_out_is_that_of_the_batch(app: AsyncJobs, stage: Stage) -> None:
    rule = Batch(size=2, window=600)
    job = register(app, batch_jobs.slow_to_end, batch=rule, timeout=0.05, retry=False)
    stage.open("clean up")
    async with working(app):
        for handle in await app.enqueue_many([job.bind(name) for name in "ab"]):
            with pytest.raises(JobFailed, match=r"longer than its 0\.05 s"):
                await handle.result(LIMIT_S)
    assert stage.notes == ["began", "ended"]


@MEMORY
async def test_a_thread_keeps_the_slots_of_its_batch_after_the_time_out(
    app: AsyncJobs, stage: Stage, thread_gate: threading.Event
) -> None:
    rule = Batch(size=2, window=600)
    job = register(app, batch_jobs.in_thread_at_the_gate, batch=rule, timeout=0.05, retry=False)
    async with working(app) as worker:
        handles = await app.enqueue_many([job.bind(name) for name in "ab"])
        await until(lambda: len(stage.notes) == 1)
        attempts = list(processor_of(worker).running._attempts)
        await until(lambda: all(each.reason is Reason.TIMEOUT for each in attempts))
        assert worker.running == 2
        thread_gate.set()
        for handle in handles:
            await ended(app, handle.id, State.DEAD)


async def test_a_stop_waits_for_no_window(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double, batch=LONG)
    async with app:
        # The window is longer than the test waits, and so is the grace.
        with anyio.fail_after(LIMIT_S):
            async with working(app, grace=3600) as worker:
                handles = await app.enqueue_many([job.bind(n) for n in range(5)])
                await until(lambda: worker.running == 5)
        assert sum((await counts(app)).ready) == 5
        assert [(await handle.info()).attempt for handle in handles] == [1] * 5
    assert stage.notes == []


@MEMORY
async def test_a_batch_may_finish_within_the_grace(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.at_the_gate, batch=Batch(size=2, window=600))
    async with app:
        worker = Worker(app, grace=60)
        async with worker:
            handles = await app.enqueue_many([job.bind(name) for name in "ab"])
            await until(lambda: len(stage.notes) == 1)
            worker.stop()
            stage.open("call")
        assert await results(handles) == [handle.id for handle in handles]


@MEMORY
async def test_after_the_grace_a_batch_is_given_back(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.at_the_gate, batch=Batch(size=2, window=600))
    async with app:
        async with working(app, grace=0):
            handles = await app.enqueue_many([job.bind(name) for name in "ab"])
            await until(lambda: len(stage.notes) == 1)
        assert stage.notes[-1] == ("ended", ["shutdown", "shutdown"])
        assert [(await handle.info()).attempt for handle in handles] == [1, 1]
        assert sum((await counts(app)).ready) == 2


async def test_a_burst_waits_for_no_window(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double, batch=LONG)
    async with app:
        handles = await app.enqueue_many([job.bind(n) for n in range(5)])
        await Worker(app).run(burst=True)
        assert await results(handles) == [n * 2 for n in range(5)]
    assert [len(call) for call in stage.notes] == [5]


@MEMORY
async def test_a_lost_lease_stops_the_batch(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.at_the_gate, batch=Batch(size=2, window=600))
    async with working(app) as worker:
        await app.enqueue_many([job.bind(name) for name in "ab"])
        await until(lambda: len(stage.notes) == 1)
        processor = processor_of(worker)
        processor.note_lost(processor.session.spec, ["default"])
        await until(lambda: len(stage.notes) >= 2)
        assert stage.notes[1] == ("ended", ["lease lost", "lease lost"])


# -- crashes ------------------------------------------------------------------------------------


async def crash(app: AsyncJobs, number: int) -> None:
    """Let a worker die that holds so many jobs."""
    lease = await app.backend.lease(LeaseSpec(new_id(), "dead", ("default",), 1))
    demand = {"default": Demand(number, suspects=(number,))}
    assert len((await lease.exchange(1, [], demand)).jobs) == number

    async def reclaimed() -> bool:
        return (await app.backend.reclaim(["default"], 0, 100)).returned == number

    await eventually(reclaimed)


async def test_each_death_halves_a_batch(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=16, window=600))
    async with app:
        handles = await app.enqueue_many([job.bind(n) for n in range(16)])
        await crash(app, 16)
        await crash(app, 16)
        # What has not been in a crash has a batch of its own.
        handles += await app.enqueue_many([job.bind(n) for n in range(16, 32)])
        async with Worker(app):
            assert await results(handles) == [n * 2 for n in range(32)]
    assert sorted(len(call) for call in stage.notes) == [4, 4, 4, 4, 16]
    assert {n < 16 for call in stage.notes if len(call) == 4 for n in call} == {True}


@MEMORY
async def test_a_block_is_blamed_on_the_whole_batch(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.at_the_gate, batch=Batch(size=3, window=600))
    async with working(app) as worker:
        handles = await app.enqueue_many([job.bind(name) for name in "abc"])
        await until(lambda: len(stage.notes) == 1)
        running = processor_of(worker).running
        first, *_ = running._attempts
        assert [job.id for job in running.blamed_with(first)] == [each.id for each in handles]
        stage.open("call")
        await results(handles)
        assert [job.id for job in running.blamed_with(first)] == [handles[0].id]


async def test_what_comes_to_an_ending_worker_is_given_back() -> None:
    app = AsyncJobs("memory:")
    job = register(app, batch_jobs.double, batch=LONG)
    async with working(app) as worker:
        processor = processor_of(worker)
        processor.executors.batches.end()
        await job.enqueue(1)
        await until(lambda: processor.settler.released > 0)


# -- middleware, dependencies, secrets ----------------------------------------------------------


@MEMORY
async def test_middleware_is_passed_by_each_item_and_dependencies_are_made_once(
    app: AsyncJobs, stage: Stage
) -> None:
    job = register(app, batch_jobs.with_session, batch=Batch(size=3, window=600))

    @job.middleware
    async def around(attempt: JobAttempt, call_next: CallNext) -> Any:
        stage.note(("item", attempt.args))
        return await call_next()

    async with working(app):
        await results(await app.enqueue_many([job.bind(n) for n in range(3)]))
    assert sorted(stage.notes[:3]) == [("item", (n,)) for n in range(3)]
    assert stage.notes[3:] == ["open", [0, 1, 2], "closed"]


@MEMORY
async def test_context_variables_travel_with_a_batch(app: AsyncJobs, stage: Stage) -> None:
    app.carry(batch_jobs.locale)
    job = register(app, batch_jobs.speaks, batch=Batch(size=2, window=600))
    async with working(app):
        handles = []
        for language in ("de", "fr", "de", "fr"):
            token = batch_jobs.locale.set(language)
            handles.append(await job.enqueue(language))
            batch_jobs.locale.reset(token)
        await results(handles)
    assert sorted(stage.notes) == [("de", ["de", "de"]), ("fr", ["fr", "fr"])]


@MEMORY
async def test_an_item_may_be_answered_without_the_call(app: AsyncJobs, stage: Stage) -> None:
    job = register(app, batch_jobs.double, batch=Batch(size=2, window=600))

    @job.middleware
    async def known(attempt: JobAttempt, call_next: CallNext) -> Any:
        if attempt.args == (1,):
            return "known"
        return await call_next()

    async with working(app):
        assert await results(await app.enqueue_many([job.bind(n) for n in (1, 2)])) == ["known", 4]
    assert stage.notes == [[2]]


@MEMORY
async def test_an_error_of_the_call_hides_what_any_item_hides(
    app: AsyncJobs, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    rule = Batch(size=2, window=600)
    job = register(app, batch_jobs.tells_all, batch=rule, retry=False, sensitive=["cards"])
    async with working(app):
        handles = await app.enqueue_many([job.bind(each) for each in ("4711-0815", "1234-5678")])
        for handle in handles:
            with pytest.raises(JobFailed) as failed:
                await handle.result(LIMIT_S)
            assert "4711-0815" not in str(failed.value)
            assert "1234-5678" not in str(failed.value)
            assert (await handle.info()).redacted().args == ["***"]
    assert "4711" not in caplog.text


# -- without a worker ---------------------------------------------------------------------------


async def test_a_plain_call_takes_one_item() -> None:
    app = AsyncJobs("memory:")
    double = register(app, batch_jobs.double_in_thread_of_nobody, batch=Batch())
    fails = register(app, batch_jobs.name_those_that_fail_of_nobody, batch=Batch())
    context = register(app, batch_jobs.first_id, batch=Batch())
    session = register(app, batch_jobs.with_own_session, batch=Batch())
    assert await double(4) == 8
    assert await fails(2) is None
    with pytest.raises(ValueError, match="3"):
        await fails(3)
    assert await context(1) == "local"
    assert await session(1, session="mine") == "mine"
    with pytest.raises(ArgumentsError):
        await double(1, more=2)


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (batch_jobs.two_lists, {}, "takes one list .*; its parameters are: one, two"),
        (batch_jobs.no_list, {}, "its parameters are: none"),
        (batch_jobs.of_default, {}, "its list 'items' a default"),
        (batch_jobs.of_one, {}, r"must be a list of items, not int: list\[int\]"),
        (batch_jobs.of_job_context, {}, "only a BatchContext can be injected"),
        (batch_jobs.double, {"isolation": "process"}, "batch= and isolation='process'"),
    ],
)
def test_what_is_no_batch_consumer(function: Any, options: Any, told: str) -> None:
    app = AsyncJobs("memory:")
    with pytest.raises(RegistrationError, match=told):
        register(app, function, batch=Batch(), **options)


def test_a_batch_context_is_for_batches() -> None:
    with pytest.raises(RegistrationError, match="only a JobContext can be injected"):
        register(AsyncJobs("memory:"), batch_jobs.first_id)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"size": 0}, r"Batch\(size\) must be a whole number from 1"),
        ({"size": 20_000}, r"Batch\(size\) must be a whole number from 1 to 10000"),
        ({"window": "soon"}, r"Batch\(window\)='soon' is not a duration"),
        ({"window": -1}, r"Batch\(window\)"),
        ({"window": "2h"}, "longer than 1 h"),
        ({"max_bytes": 0}, r"Batch\(max_bytes\)"),
        ({"max_bytes": "1M"}, r"Batch\(max_bytes\)='1M' is not a size"),
        ({"by": 3}, r"Batch\(by=3\)"),
    ],
)
def test_a_rule_that_cannot_work(rule: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Batch(**rule)


def test_what_is_no_rule() -> None:
    with pytest.raises(ConfigError, match="batch=3 must be a Batch"):
        register(AsyncJobs("memory:"), batch_jobs.double, batch=3)


@pytest.mark.parametrize("errors", [{}, [ValueError()], {-1: ValueError()}, {"a": 1}, {0: "x"}])
def test_an_error_names_positions(errors: Any) -> None:
    with pytest.raises(UsageError, match="BatchError"):
        BatchError(errors)


def test_an_error_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(BatchError({1: ValueError("x")})))
    assert list(again.errors) == [1]
