"""Flows that grow while they run, and what a job knows of its flow."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Discard,
    Flow,
    FlowFailed,
    FlowState,
    JobContext,
    UsageError,
    chain,
    chord,
    group,
)
from tests.worker.flow_jobs import FlowJobs, broken, calls, ran
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio


class Growing(FlowJobs):
    """And job functions that add nodes."""

    def __init__(self, app: AsyncJobs) -> None:
        super().__init__(app)
        self.grow = register(app, grow)
        self.knows = register(app, knows)
        self.fan = register(app, fan)
        self.adds = register(app, adds)
        self.twice = register(app, twice)
        self.wrong = register(app, wrong)
        self.sheds = register(app, sheds)
        self.deepens = register(app, deepens, retry=False)


class Present:
    """The job functions of the running test."""

    jobs: Growing


async def grow(depth: int, width: int, *, ctx: JobContext = INJECTED) -> int:
    ran.append(("grow", depth))
    assert ctx.flow is not None
    jobs = Present.jobs
    work: Any = group(jobs.number.bind(n) for n in range(width))
    if depth:
        work = group(work, jobs.grow.bind(depth - 1, width))
    await ctx.flow.expand(work)
    if depth in broken:
        raise Discard("not today")
    return width


async def knows(*, ctx: JobContext = INJECTED) -> Any:
    flow = ctx.flow
    if flow is None:
        return None
    return [flow.name, flow.id, flow.node, dict(flow.context)]


async def fan(*, ctx: JobContext = INJECTED) -> None:
    assert ctx.flow is not None
    jobs = Present.jobs
    await ctx.flow.expand(chord([jobs.number.bind(1), jobs.double.bind(4)], jobs.total))


async def adds(*, ctx: JobContext = INJECTED) -> None:
    assert ctx.flow is not None
    await ctx.flow.expand(Present.jobs.fragile.bind(7))


async def twice(*, ctx: JobContext = INJECTED) -> list[str]:
    assert ctx.flow is not None
    first = await ctx.flow.expand(Present.jobs.number.bind(1))
    return first + await ctx.flow.expand(Present.jobs.number.bind(2))


async def sheds(*, ctx: JobContext = INJECTED) -> None:
    assert ctx.flow is not None
    # With the first run it adds what fails, with the next ones less.
    values = [1, 2, 7] if 7 in broken else [1]
    await ctx.flow.expand(group(Present.jobs.fragile.bind(n) for n in values))


async def deepens(levels: int, *, ctx: JobContext = INJECTED) -> None:
    assert ctx.flow is not None
    if levels:
        await ctx.flow.expand(Present.jobs.deepens.bind(levels - 1))


async def wrong(*, ctx: JobContext = INJECTED) -> list[str]:
    assert ctx.flow is not None
    problems: list[str] = []
    many = group(Present.jobs.number.bind(n) for n in range(1_001))
    works: list[Any] = [7, group(), many]
    for work in works:
        with pytest.raises(UsageError) as error:
            await ctx.flow.expand(work)
        problems.append(str(error.value))
    return problems


@pytest.fixture
def jobs(app: AsyncJobs) -> Growing:
    Present.jobs = Growing(app)
    return Present.jobs


async def test_a_job_knows_its_flow(app: AsyncJobs, jobs: Growing) -> None:
    inner = Flow()
    inner.add(jobs.knows.bind(), name="inside")
    async with working(app):
        handle = await app.flows.start(
            chain(jobs.knows.bind(), inner), name="import", context={"tenant": "acme"}
        )
        known = ["import", handle.id]
        assert await handle.result(LIMIT_S) == [*known, "inside", {"tenant": "acme"}]
        first = await handle.node("knows").result(LIMIT_S)
        assert first == [*known, "knows", {"tenant": "acme"}]
        outside = await jobs.knows.enqueue()
        assert await outside.result(LIMIT_S) is None


async def test_dependents_wait_for_what_a_node_adds(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.grow.bind(0, 5), jobs.seen))
        assert await handle.result(LIMIT_S) == 5
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert [each[0] for each in ran][-1] == "seen"
        assert len(calls("number")) == 5
        info = await handle.info()
        assert info.nodes == info.done == 7
        nodes = {node.name: node for node in await handle.nodes()}
        assert nodes["grow.number"].added_by == "grow"
        assert nodes["seen"].after == {"grow": "cancel"}


async def test_they_wait_for_what_these_add_however_deeply(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.grow.bind(3, 4), jobs.seen))
        assert await handle.result(LIMIT_S) == 4
        assert len(calls("number")) == 16
        assert len(calls("grow")) == 4
        assert [each[0] for each in ran][-1] == "seen"
        assert (await handle.info()).nodes == 21


async def test_a_chord_and_results_among_what_is_added(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.fan.bind(), jobs.nothing.bind()))
        await handle.result(LIMIT_S)
        assert calls("total") == [(2,)]
        assert await handle.node("fan.total").result(LIMIT_S) == 9
        assert [each[0] for each in ran][-2:] == ["total", "nothing"]


async def test_an_attempt_that_fails_adds_nothing(app: AsyncJobs, jobs: Growing) -> None:
    broken.add(0)
    async with working(app):
        handle = await app.flows.start(chain(jobs.grow.bind(0, 5), jobs.seen))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        assert calls("number") == []
        # Its nodes were entered before the end of the attempt, and are not shown.
        assert [node.name for node in await handle.nodes()] == ["grow", "seen"]


async def test_an_added_node_that_fails_cancels_what_waits(app: AsyncJobs, jobs: Growing) -> None:
    broken.add(7)
    async with working(app):
        handle = await app.flows.start(chain(jobs.adds.bind(), jobs.nothing.bind()))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        assert calls("nothing") == []
        broken.clear()
        assert await handle.retry() == 2
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert [each[0] for each in ran] == ["fragile", "fragile", "nothing"]


async def test_a_retry_of_the_node_adds_them_again(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(chain(jobs.grow.bind(1, 3), jobs.seen))
        assert await handle.result(LIMIT_S) == 3
        ran.clear()
        assert await handle.retry("all") == 2
        assert await handle.result(LIMIT_S) == 3
        assert len(calls("number")) == 6
        assert [each[0] for each in ran][-1] == "seen"
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED


@pytest.mark.parametrize("from_", [None, "sheds"])
async def test_a_node_that_adds_less_leaves_nothing_of_the_first_run(
    app: AsyncJobs, jobs: Growing, from_: str | None
) -> None:
    broken.add(7)
    async with working(app):
        handle = await app.flows.start(chain(jobs.sheds.bind(), jobs.nothing.bind()))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        broken.clear()
        assert await handle.retry("all", from_=from_) == 2
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        names = [node.name for node in await handle.nodes()]
        assert names == ["sheds", "sheds.fragile", "nothing"]
        assert await handle.retry() == 0


@pytest.mark.parametrize(("levels", "end"), [(50, FlowState.SUCCEEDED), (51, FlowState.FAILED)])
async def test_how_deeply_nodes_may_add_nodes(
    app: AsyncJobs, jobs: Growing, levels: int, end: FlowState
) -> None:
    async with working(app):
        handle = await app.flows.start(jobs.deepens.bind(levels))
        assert await handle.wait(LIMIT_S) is end
        assert (await handle.info()).nodes == 51
        if end is FlowState.FAILED:
            with pytest.raises(FlowFailed, match="50 levels deep"):
                await handle.result(LIMIT_S)


async def test_two_calls_of_expand_in_one_attempt(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(jobs.twice.bind())
        assert await handle.result(LIMIT_S) == ["twice.number", "twice.number-2"]
        assert await handle.wait(LIMIT_S) is FlowState.SUCCEEDED
        assert sorted(calls("number")) == [(1,), (2,)]


async def test_what_expand_refuses(app: AsyncJobs, jobs: Growing) -> None:
    async with working(app):
        handle = await app.flows.start(jobs.wrong.bind())
        problems = await handle.result(LIMIT_S)
    assert "not 7" in problems[0]
    assert "at least one" in problems[1]
    assert "got 1,001 nodes" in problems[2]
