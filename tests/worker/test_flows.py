"""Flows: what runs, in which order, with which results, and what becomes of failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs import (
    Abort,
    Aborted,
    AsyncJobs,
    Concurrency,
    EnqueueCall,
    JobHandle,
    QueueBy,
    Send,
    State,
    StoreFull,
    StoreUnavailable,
    Unique,
)
from asyncjobs.client import flow_storing
from asyncjobs.client.flow_handle import FlowHandle
from asyncjobs.errors import (
    ConfigError,
    EncodeError,
    FlowCancelled,
    FlowFailed,
    FlowNotFound,
    JobCancelled,
    JobFailed,
    ResultTimeout,
    UsageError,
)
from asyncjobs.jobs.node import PREVIOUS
from asyncjobs.jobs.workflow import Flow, chain, chord, group
from asyncjobs.model.envelope import Envelope
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.flows import FlowState
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.worker.engine import resolving
from tests.worker.flow_jobs import FlowJobs, broken, calls, ran, seen
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, register, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(app: AsyncJobs) -> FlowJobs:
    return FlowJobs(app)


async def states(handle: FlowHandle[Any]) -> dict[str, str]:
    return {node.name: node.state.value for node in await handle.nodes()}


async def test_a_chain_hands_each_result_on(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        handle = await app.flows.start(
            chain(jobs.number.bind(3), jobs.double, jobs.add.bind(PREVIOUS, b=10)), name="sums"
        )
        assert await handle.result(LIMIT_S) == 16
        assert ran == [("number", 3), ("double", 3), ("add", 6, 10)]
        info = await handle.info()
        assert (info.name, info.state, info.nodes) == ("sums", FlowState.SUCCEEDED, 3)
        assert info.ended == {State.SUCCEEDED: 3}
        assert info.ended_at is not None
        assert handle.disposition == "new"


async def test_a_chord_gets_the_list(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        work = chord((jobs.number.bind(n) for n in range(200)), jobs.total)
        handle = await app.flows.start(work)
        assert await handle.result(LIMIT_S) == sum(range(200))
        assert calls("total") == [(200,)]


async def test_a_group_has_a_list_and_a_flow_a_dict(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        handle = await app.flows.start(group(jobs.number.bind(1), chain(jobs.double.bind(4))))
        assert await handle.result(LIMIT_S) == [1, 8]
        flow = Flow()
        flow.add(jobs.number.bind(1), name="a")
        flow.add(jobs.number.bind(2), name="b")
        named = await app.flows.start(flow)
        assert await named.result(LIMIT_S) == {"a": 1, "b": 2}
        assert await named.node("b").result(LIMIT_S) == 2


async def test_a_chord_of_nothing_and_a_call_alone(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        handle = await app.flows.start(chord([], jobs.total))
        assert await handle.result(LIMIT_S) == 0
        alone = await app.flows.start(jobs.number.bind(7))
        assert await alone.result(LIMIT_S) == 7
        with pytest.raises(UsageError, match="no job to run"):
            await app.flows.start(group())


async def test_results_come_into_containers_and_threads(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        flow = Flow()
        x = flow.add(jobs.number.bind(1))
        y = flow.add(jobs.number.bind(2))
        last = flow.add(jobs.in_thread.bind(x.result, {"all": [x.result, y.result], "z": 5}))
        handle = await app.flows.start(flow)
        assert await handle.result(LIMIT_S) == 1
        assert await handle.node(last).result(LIMIT_S) == 1
        assert calls("in_thread") == [(1, {"all": [1, 2], "z": 5})]


async def test_workflows_nest(app: AsyncJobs, jobs: FlowJobs) -> None:
    inner = Flow()
    a = inner.add(jobs.number.bind(1), name="a")
    inner.add(jobs.double.bind(a.result), name="b")
    outer = Flow()
    part = outer.add(inner, name="part")
    outer.add(
        chord([chain(jobs.double.bind(part.result), jobs.double), jobs.number.bind(5)], jobs.total),
        name="sum",
    )
    async with working(app):
        handle = await app.flows.start(outer)
        assert await handle.result(LIMIT_S) == 13
        assert await states(handle) == dict.fromkeys(
            ["part.a", "part.b", "sum.double", "sum.double-2", "sum.number", "sum.total"],
            "succeeded",
        )


async def test_queues_of_one_flow(app: AsyncJobs, jobs: FlowJobs) -> None:
    far = jobs.number.options(queue="far")
    async with working(app, queues=["default", "far"]):
        work = chain(
            group(far.bind(1), jobs.number.bind(2)),
            jobs.total.options(queue="far"),
            jobs.double,
        )
        handle = await app.flows.start(work)
        assert await handle.result(LIMIT_S) == 6
        assert handle.ref.queue == "default"
        elsewhere = await app.flows.start(work, queue="far")
        assert await elsewhere.result(LIMIT_S) == 6
        assert elsewhere.id.startswith("far/")


async def test_a_failure_cancels_what_waits(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    async with working(app):
        handle = await app.flows.start(
            chain(group(jobs.fragile.bind(1), jobs.number.bind(2)), jobs.total, jobs.double)
        )
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        assert await states(handle) == {
            "fragile": "dead",
            "number": "succeeded",
            "total": "cancelled",
            "double": "cancelled",
        }
        with pytest.raises(FlowFailed, match=r"fragile \(dead: ValueError: 1 is broken\)") as error:
            await handle.result(LIMIT_S)
        assert error.value.nodes == ("fragile",)
        with pytest.raises(JobFailed):
            await handle.node("fragile").result(LIMIT_S)
        with pytest.raises(JobCancelled):
            await handle.node("total").result(LIMIT_S)


async def test_edges_that_run_and_skip(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    flow = Flow()
    bad = flow.add(jobs.fragile.bind(1), name="bad")
    flow.add(jobs.seen.bind(bad.result_or("none")), after={bad: "run"}, name="runs")
    skipped = flow.add(jobs.number.bind(2), after={bad: "skip"}, name="skipped")
    flow.add(jobs.seen.bind([skipped.result_or(None)]), name="behind")
    async with working(app):
        handle = await app.flows.start(flow)
        assert await handle.result(LIMIT_S) == {"runs": "none", "behind": [None]}
        assert await states(handle) == {
            "bad": "dead",
            "runs": "succeeded",
            "skipped": "discarded",
            "behind": "succeeded",
        }


async def test_a_chord_that_runs_all_the_same(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    async with working(app):
        work = chord([jobs.fragile.bind(1), jobs.number.bind(2)], jobs.seen, on_failure="run")
        handle = await app.flows.start(work)
        assert await handle.result(LIMIT_S) == [None, 2]


async def test_a_discarded_node_has_failed(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.gives_up.bind(1), jobs.double))
        with pytest.raises(FlowFailed, match="gives_up"):
            await handle.result(LIMIT_S)


async def test_a_retry_runs_what_has_not_succeeded(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    async with working(app):
        handle = await app.flows.start(
            chain(group(jobs.fragile.bind(1), jobs.number.bind(2)), jobs.total, jobs.double)
        )
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        broken.clear()
        ran.clear()
        assert await handle.retry() == 3
        assert await handle.result(LIMIT_S) == 6
        assert ran == [("fragile", 1), ("total", 2), ("double", 3)]
        assert await states(handle) == dict.fromkeys(
            ["fragile", "number", "total", "double"], "succeeded"
        )
        assert await handle.retry() == 0


class Alone:
    """How many calls of `alone` ran at the same time, and whether they fail."""

    fails = True
    running = 0
    peak = 0


async def alone(number: int) -> int:
    Alone.running += 1
    Alone.peak = max(Alone.peak, Alone.running)
    # A job that were taken beside it would begin meanwhile.
    for _ in range(20):
        await asyncio.sleep(0)
    Alone.running -= 1
    if Alone.fails:
        raise ValueError(number)
    return number


async def test_a_node_that_runs_again_passes_its_limits_again(app: AsyncJobs) -> None:
    Alone.fails, Alone.peak = True, 0
    job = register(app, alone, limits=Concurrency(1), retry=False)
    async with working(app):
        handle = await app.flows.start(group(job.bind(n) for n in range(5)))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        Alone.fails = False
        assert await handle.retry() == 5
        assert await handle.result(LIMIT_S) == [0, 1, 2, 3, 4]
        assert Alone.peak == 1


async def test_a_retry_from_a_node_and_of_all(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        flow = Flow()
        x = flow.add(jobs.number.bind(1), name="x")
        y = flow.add(jobs.double.bind(x.result), name="y")
        flow.add(jobs.add.bind(x.result, y.result), name="z")
        handle = await app.flows.start(flow)
        assert await handle.result(LIMIT_S) == 3
        ran.clear()
        assert await handle.retry(from_=y) == 2
        assert await handle.result(LIMIT_S) == 3
        assert ran == [("double", 1), ("add", 1, 2)]
        ran.clear()
        assert await handle.retry("all") == 3
        assert await handle.result(LIMIT_S) == 3
        assert len(ran) == 3
        with pytest.raises(UsageError, match="has no node 'w'"):
            await handle.retry(from_="w")


async def test_of_two_retries_one_is_refused(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    async with working(app):
        handle = await app.flows.start(chain(jobs.fragile.bind(1), jobs.seen))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        broken.clear()
        # Both have seen that the flow has ended.
        found = await asyncio.gather(handle.retry(), handle.retry(), return_exceptions=True)
        (refusal,) = [each for each in found if isinstance(each, UsageError)]
        assert "somebody else has just retried it" in str(refusal)
        assert 2 in found
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert calls("fragile") == [(1,), (1,)]


async def test_a_retry_that_breaks_off_is_made_again(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.add(1)
    far = jobs.number.options(queue="far")
    async with working(app, queues=["default", "far"]):
        work = chain(jobs.fragile.bind(1), far.bind(2), jobs.seen)
        handle = await app.flows.start(work, queue="default")
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        broken.clear()
        with monkeypatch.context() as patch:
            enqueue = app.backend.enqueue

            async def full(batch: EnqueueBatch) -> Enqueued:
                if batch.jobs[0].queue == "far":
                    return Enqueued([None], {"far": StoreFull("no memory left")})
                return await enqueue(batch)

            patch.setattr(app.backend, "enqueue", full)
            with pytest.raises(StoreFull):
                await handle.retry()
        # What was stored of it does not run.
        assert await handle.wait(LIMIT_S) is FlowState.CANCELLED
        assert calls("fragile") == [(1,)]
        assert await handle.retry() == 3
        assert await handle.result(LIMIT_S) == 2
        assert (calls("fragile"), calls("seen")) == ([(1,), (1,)], [(2,)])


async def test_a_running_flow_is_not_retried(app: AsyncJobs, jobs: FlowJobs, stage: Stage) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.waits.bind("g"), jobs.seen))
        await until(lambda: bool(calls("waits")))
        with pytest.raises(UsageError, match="has not ended"):
            await handle.retry("all")
        with pytest.raises(ResultTimeout, match="has not ended within"):
            await handle.result(0.01)
        assert await handle.drop() is False
        stage.open("g")
        assert await handle.result(LIMIT_S) == "g"


async def test_a_flow_is_cancelled_while_it_runs(
    app: AsyncJobs, jobs: FlowJobs, stage: Stage
) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.waits.bind("g"), jobs.seen, jobs.seen))
        await until(lambda: bool(calls("waits")))
        assert await handle.cancel() is True
        with pytest.raises(FlowCancelled):
            await handle.result(LIMIT_S)
        assert set((await states(handle)).values()) == {"cancelled"}
        assert await handle.cancel() is False


async def test_why_a_node_waits(app: AsyncJobs, jobs: FlowJobs, stage: Stage) -> None:
    async with app:
        flow = Flow()
        first = flow.add(jobs.number.bind(1), name="first")
        later = flow.add(jobs.number.options(delay=3_600).bind(2), name="later")
        flow.add(jobs.add.bind(first.result, later.result), name="last")
        handle = await app.flows.start(flow)
        assert await handle.why("first") == "no live worker serves the queue 'default'"
        assert (await handle.why("later")).startswith("it waits for its time, until 20")
        assert await handle.why("last") == "it waits for first (ready), later (scheduled)"
        await app.queues.pause("default")
        assert await handle.why("first") == "the queue 'default' is paused"
        with pytest.raises(UsageError, match="no node 'nobody'"):
            await handle.why("nobody")
        await handle.cancel()
        assert await handle.why("last") == "it has ended: cancelled"


async def test_one_flow_of_a_unique_name(app: AsyncJobs, jobs: FlowJobs, stage: Stage) -> None:
    async with working(app):
        first = await app.flows.start(jobs.waits.bind("g"), name="nightly", unique=True)
        second = await app.flows.start(jobs.waits.bind("g"), name="nightly", unique=True)
        assert (second.id, second.disposition) == (first.id, "existing")
        stage.open("g")
        assert await second.result(LIMIT_S) == "g"
        third = await app.flows.start(jobs.number.bind(1), name="nightly", unique=True)
        assert third.disposition == "new"
        await third.wait(LIMIT_S)
        assert calls("waits") == [("g",)]


async def test_flows_are_listed_and_found(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app):
        first = await app.flows.start(jobs.number.bind(1), name="one", context={"tenant": "acme"})
        await first.wait(LIMIT_S)
        broken.add(2)
        second = await app.flows.start(jobs.fragile.bind(2), name="two")
        await second.wait(LIMIT_S)
        found = await app.flows.list()
        assert {info.name for info in found} == {"one", "two"}
        (failed,) = await app.flows.list(states=["failed"])
        assert (failed.name, failed.failed) == ("two", 1)
        assert await app.flows.list("other") == []
        info = await app.flows.get(first.id).info()
        assert info.context == {"tenant": "acme"}
        assert await second.drop() is True
        with pytest.raises(FlowNotFound, match=second.ref.id):
            await second.info()
        with pytest.raises(ConfigError, match="use opened, running"):
            await app.flows.list(states=["odd"])
        with pytest.raises(ConfigError, match="public id"):
            app.flows.get("abc")


async def test_what_cannot_be_in_a_flow(new_app: NewApp) -> None:
    app = new_app()
    jobs = FlowJobs(app)
    async with app:
        with pytest.raises(UsageError, match=r"has a unique key.*unique=None"):
            await app.flows.start(chain(jobs.number.options(unique=Unique()).bind(1)))
        with pytest.raises(UsageError, match="leave id= out"):
            await app.flows.start(chain(jobs.number.options(id="x").bind(1)))
        with pytest.raises(ConfigError, match="a second or more"):
            await app.flows.start(jobs.number.bind(1), keep=0.2)
        with pytest.raises(ConfigError, match="needs a name="):
            await app.flows.start(jobs.number.bind(1), unique=True)
        with pytest.raises(EncodeError, match="keep it within 4,096"):
            await app.flows.start(jobs.number.bind(1), context={"x": "y" * 5_000})
        assert await app.flows.list() == []


async def test_too_many_ways_onward_are_refused(app: AsyncJobs, jobs: FlowJobs) -> None:
    flow = Flow()
    x = flow.add(jobs.number.bind(0), name="x")
    for n in range(1_001):
        y = flow.add(jobs.number.bind(n))
        flow.add(jobs.nothing.bind(), after=[x, y])
    async with app:
        with pytest.raises(UsageError, match=r"node 'x' is waited for in 1,001 different ways"):
            await app.flows.start(flow)


async def test_a_result_never_decides_the_queue(app: AsyncJobs, jobs: FlowJobs) -> None:
    routed = register(app, seen, name="routed", queue=QueueBy(lambda value: f"q-{value}"))
    async with app:
        with pytest.raises(UsageError, match=r"its queue or its limits come from an argument"):
            await app.flows.start(chain(jobs.number.bind(1), routed))


async def test_a_starter_that_dies_leaves_no_half_flow(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = jobs.number.options(queue="far")
    async with working(app):
        enqueue = app.backend.enqueue
        reached = asyncio.Event()

        async def stuck(batch: EnqueueBatch) -> Any:
            if batch.jobs[0].queue == "far":
                reached.set()
                await asyncio.Event().wait()
            return await enqueue(batch)

        async def dies(*args: Any) -> None:
            """A process that is killed cleans nothing up."""

        monkeypatch.setattr(app.backend, "enqueue", stuck)
        monkeypatch.setattr(flow_storing, "cancel_unstarted", dies)
        start = app.flows.start(group(jobs.number.bind(1), far.bind(2)), queue="default")
        starter = asyncio.create_task(start)
        async with asyncio.timeout(LIMIT_S):
            await reached.wait()
        starter.cancel()
        # It came later to the same queue. So what did not run before it does not run at all.
        handle = await jobs.number.enqueue(9)
        assert await handle.result(LIMIT_S) == 9
        assert ran == [("number", 9)]
        (info,) = await app.flows.list("default")
        assert info.state is FlowState.OPENED
        left = app.flows.get(info.id)
        assert (await left.why("number")).startswith("the flow was not started")
        assert await left.cancel() is True
        assert await left.wait(LIMIT_S) is FlowState.CANCELLED
        assert await left.drop() is True


async def test_a_store_that_refuses_leaves_nothing(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = jobs.number.options(queue="far")
    async with app:
        enqueue = app.backend.enqueue

        async def full(batch: EnqueueBatch) -> Enqueued:
            if batch.jobs[0].queue == "far":
                return Enqueued([None], {"far": StoreFull("no memory left")})
            return await enqueue(batch)

        monkeypatch.setattr(app.backend, "enqueue", full)
        with pytest.raises(StoreFull):
            await app.flows.start(group(jobs.number.bind(1), far.bind(2)), queue="default")
        (info,) = await app.flows.list("default")
        assert info.state is FlowState.CANCELLED
        (found,) = await app.backend.inspect.queues.counts(["default"])
        assert found.held == 0


async def test_parts_of_a_flow_wait_for_the_barriers_of_those_before(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app:
        monkeypatch.setattr(flow_storing, "STEP", 2)
        enqueue, flows = app.backend.enqueue, type(app.backend.flows)
        add_nodes = flows.add_nodes
        may_go, third_part = asyncio.Event(), asyncio.Event()
        stored: list[int] = []
        entered: list[int] = []

        async def waits(batch: EnqueueBatch) -> Any:
            stored.append(len(batch.barriers))
            if len(stored) == 1:
                await may_go.wait()
            return await enqueue(batch)

        async def adds(self: Any, flow: Any, nodes: Any) -> None:
            await add_nodes(self, flow, nodes)
            entered.append(len(nodes))
            if len(entered) == 3:
                third_part.set()

        monkeypatch.setattr(app.backend, "enqueue", waits)
        monkeypatch.setattr(flows, "add_nodes", adds)
        calls_ = [jobs.number.bind(number) for number in range(9)]
        starter = asyncio.create_task(app.flows.start(group(calls_)))
        async with asyncio.timeout(LIMIT_S):
            await third_part.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        # Three parts are under way, and those behind the first one's barrier are not sent.
        assert (stored, entered) == ([1], [2, 2, 2])
        may_go.set()
        handle = await starter
        assert (stored, entered) == ([1, 0, 0, 0, 0], [2, 2, 2, 2, 1])
        assert (await handle.info()).nodes == 9
        assert await handle.cancel() is True


async def test_nothing_is_stored_behind_the_cancel_of_a_broken_start(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app:
        monkeypatch.setattr(flow_storing, "STEP", 1)
        enqueue, cancel = app.backend.enqueue, flow_storing.cancel_unstarted
        sent: list[str] = []
        third_is_sent, is_cancelled = asyncio.Event(), asyncio.Event()

        async def breaks(batch: EnqueueBatch) -> Any:
            sent.append(batch.jobs[0].id)
            match len(sent):
                case 2:
                    await third_is_sent.wait()
                    raise StoreFull("no memory left")
                case 3:
                    third_is_sent.set()
                    await is_cancelled.wait()
            answer = await enqueue(batch)
            stored.append(batch.jobs[0].id)
            return answer

        async def cancels(*args: Any) -> None:
            await cancel(*args)
            is_cancelled.set()

        stored: list[str] = []
        monkeypatch.setattr(app.backend, "enqueue", breaks)
        monkeypatch.setattr(flow_storing, "cancel_unstarted", cancels)
        work = group(jobs.number.bind(number) for number in range(9))
        with pytest.raises(StoreFull):
            await asyncio.wait_for(app.flows.start(work), LIMIT_S)
        (info,) = await app.flows.list("default")
        assert info.state is FlowState.CANCELLED
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent[2] not in stored
        (found,) = await app.backend.inspect.queues.counts(["default"])
        assert found.held == 0


async def test_a_retry_keeps_the_results_that_it_got(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    late = jobs.fragile.options(retry=3)
    async with working(app):
        handle = await app.flows.start(chain(jobs.number.bind(1), late))
        await until(lambda: bool(calls("fragile")))
        job = await handle.node("fragile").job()
        await ended(app, job.id, State.SCHEDULED)
        (record,) = await app.backend.get([job.ref])
        assert record is not None
        envelope = Envelope.decode(record.envelope or b"")
        assert envelope.args == [1]
        assert "refs" not in envelope.headers.fields
        await handle.cancel()


async def test_a_result_that_is_gone_ends_the_job(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(app):
        get = app.backend.get

        async def forgetful(refs: Any) -> Any:
            return [each and each._replace(outcome=None) for each in await get(refs)]

        monkeypatch.setattr(app.backend, "get", forgetful)
        handle = await app.flows.start(chain(jobs.number.bind(1), jobs.double))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        monkeypatch.undo()
        assert calls("double") == []
        with pytest.raises(JobFailed, match=r"is not there any more.*keep= of the flow"):
            await handle.node("double").result(LIMIT_S)


async def test_results_have_a_most_size(
    app: AsyncJobs, jobs: FlowJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "MOST_BYTES", 1_000)
    async with working(app):
        work = chord((jobs.number.bind(n) for n in range(100)), jobs.total)
        handle = await app.flows.start(work)
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        with pytest.raises(JobFailed, match="the results that it needs take over"):
            await handle.node("total").result(LIMIT_S)


async def test_a_store_that_is_away_is_asked_again(
    app: AsyncJobs, jobs: FlowJobs, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(app):
        get = app.backend.get
        failures = iter(range(2))

        async def shaky(refs: Any) -> Any:
            if next(failures, None) is not None:
                raise StoreUnavailable("away")
            return await get(refs)

        handle = await app.flows.start(chain(jobs.waits.bind("g"), jobs.seen))
        await until(lambda: bool(calls("waits")))
        monkeypatch.setattr(app.backend, "get", shaky)
        stage.open("g")
        await until(lambda: bool(calls("seen")))
        assert next(failures, None) is None
        assert await handle.result(LIMIT_S) == "g"


async def test_enqueue_middleware_sees_each_call(app: AsyncJobs, jobs: FlowJobs) -> None:
    async def more(call: EnqueueCall, send: Send) -> JobHandle[Any]:
        if call.args == (13,):
            raise Abort("unlucky")
        return await send(call.replace(args=[call.args[0] + 1]))

    jobs.number.enqueue_middleware(more)
    async with working(app):
        handle = await app.flows.start(chain(jobs.number.bind(1), jobs.double))
        assert await handle.result(LIMIT_S) == 4
        with pytest.raises(Aborted, match="unlucky"):
            await app.flows.start(chain(jobs.number.bind(13), jobs.double))
        assert len(await app.flows.list()) == 1


async def test_ten_thousand_children(app: AsyncJobs, jobs: FlowJobs) -> None:
    async with working(app, concurrency=500):
        work = chord((jobs.number.bind(n) for n in range(10_000)), jobs.total)
        handle = await app.flows.start(work, keep=600)
        assert await handle.result(60) == sum(range(10_000))
        assert len(calls("number")) == 10_000
        assert len({each[0] for each in calls("number")}) == 10_000


async def _nightly() -> str:
    handle = await Nightly.app.flows.start(chain(Nightly.jobs.number.bind(4), Nightly.jobs.double))
    return handle.id


class Nightly:
    """What the job of the next test starts a flow with."""

    app: AsyncJobs
    jobs: FlowJobs


async def test_a_scheduled_job_starts_a_flow(app: AsyncJobs, jobs: FlowJobs) -> None:
    Nightly.app, Nightly.jobs = app, jobs
    nightly = register(app, _nightly, name="nightly", result_ttl=60)
    async with working(app):
        await app.schedules.put("nightly", nightly, cron="0 0 1 1 *")
        made = await app.schedules.trigger("nightly")
        flow = app.flows.get(await made.result(LIMIT_S))
        assert await flow.result(LIMIT_S) == 8


async def test_a_node_that_is_retried_has_not_ended(app: AsyncJobs, jobs: FlowJobs) -> None:
    broken.add(1)
    again = jobs.fragile.options(retry=5)
    async with working(app):
        handle = await app.flows.start(chain(jobs.number.bind(1), again, jobs.double))
        await until(lambda: bool(calls("fragile")))
        assert await handle.status() is FlowState.RUNNING
        broken.clear()
        assert await handle.result(LIMIT_S) == 2
        assert calls("double") == [(1,)]
