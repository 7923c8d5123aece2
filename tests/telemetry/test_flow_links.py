"""The attempts of jobs in a flow link to those of the jobs in front of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from asyncjobs import AsyncJobs, RetryPolicy, chain, chord, constant
from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.telemetry.tracing import Tracing
from tests.telemetry.attempts import attempt_info, knows_nothing
from tests.telemetry.recording import Recording, context_of, links_of
from tests.worker.conftest import NewApp
from tests.worker.flow_jobs import FlowJobs, broken, calls, fragile
from tests.worker.kit import LIMIT_S, register, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture
def traced(new_app: NewApp, recording: Recording) -> AsyncJobs:
    """An app whose spans are kept."""
    return new_app(tracer_provider=recording.provider)


async def retried_soon(n: int) -> int:
    return await fragile(n)


def attempts_of(recording: Recording, name: str) -> list[ReadableSpan]:
    """The spans of the attempts of one function, in the order of their ends."""
    return [span for span in recording.attempts() if re.search(rf"\b{name}$", span.name)]


def parents_of(span: ReadableSpan) -> list[int]:
    """The spans that it links to as those of jobs in front."""
    return [
        link.context.span_id
        for link in span.links
        if (link.attributes or {})["asyncjobs.link"] == "parent"
    ]


def ids(spans: Sequence[ReadableSpan]) -> set[int]:
    return {context_of(span).span_id for span in spans}


async def test_a_link_of_a_chain_links_to_the_one_before(
    traced: AsyncJobs, recording: Recording
) -> None:
    jobs = FlowJobs(traced)
    async with working(traced):
        handle = await traced.flows.start(chain(jobs.number.bind(1), jobs.double, jobs.seen))
        assert await handle.result(LIMIT_S) == 2
        await recording.ended(3)
    (number,), (double,), (seen,) = (
        attempts_of(recording, name) for name in ("number", "double", "seen")
    )
    assert parents_of(number) == []
    assert parents_of(double) == [context_of(number).span_id]
    assert parents_of(seen) == [context_of(double).span_id]
    # It links to its own enqueue, too.
    assert set(links_of(double)) == {"creation", "parent"}


async def test_a_callback_links_to_eight_of_its_children(
    traced: AsyncJobs, recording: Recording
) -> None:
    jobs = FlowJobs(traced)
    async with working(traced):
        children = [jobs.number.bind(number) for number in range(10)]
        handle = await traced.flows.start(chord(children, jobs.nothing.bind()))
        await handle.result(LIMIT_S)
        await recording.ended(11)
    (callback,) = attempts_of(recording, "nothing")
    found = parents_of(callback)
    assert len(set(found)) == len(found) == 8
    assert set(found) < ids(attempts_of(recording, "number"))


async def test_a_dead_parent_and_a_retried_flow(traced: AsyncJobs, recording: Recording) -> None:
    jobs = FlowJobs(traced)
    broken.add(1)
    async with working(traced):
        work = chord(
            [jobs.fragile.bind(1), jobs.number.bind(2)], jobs.nothing.bind(), on_failure="run"
        )
        handle = await traced.flows.start(work)
        await handle.wait(LIMIT_S)
        await recording.ended(3)
        (fragile,), (number,) = (attempts_of(recording, name) for name in ("fragile", "number"))
        (callback,) = attempts_of(recording, "nothing")
        assert set(parents_of(callback)) == ids([fragile, number])
        broken.clear()
        assert await handle.retry(from_="fragile") == 2
        await handle.wait(LIMIT_S)
        await recording.ended(5)
    # The job that has run anew, and the one that has not.
    _, again = attempts_of(recording, "fragile")
    _, callback = attempts_of(recording, "nothing")
    assert set(parents_of(callback)) == ids([again, number])
    assert len(calls("fragile")) == 2


async def test_the_last_attempt_counts(traced: AsyncJobs, recording: Recording) -> None:
    jobs = FlowJobs(traced)
    broken.add(1)
    retried = register(traced, retried_soon, retry=RetryPolicy(50, constant(0.05)))
    async with working(traced):
        handle = await traced.flows.start(chain(retried.bind(1), jobs.seen))
        await until(lambda: bool(attempts_of(recording, "retried_soon")))
        broken.clear()
        await handle.result(LIMIT_S)
        await until(lambda: bool(attempts_of(recording, "seen")))
    *_, before, last = attempts_of(recording, "retried_soon")
    (seen,) = attempts_of(recording, "seen")
    assert parents_of(seen) == [context_of(last).span_id]
    assert links_of(last)["previous_attempt"] == context_of(before).span_id


async def test_nothing_is_carried_without_traces(new_app: NewApp) -> None:
    app = new_app()
    jobs = FlowJobs(app)
    async with app:
        handle = await app.flows.start(chain(jobs.number.bind(1), jobs.double))
        (record,) = await app.backend.get([(await handle.node("double").job()).ref])
        assert record is not None
        assert Envelope.decode(record.envelope or b"").headers.trace is None
        await handle.cancel()
    async with working(app):
        handle = await app.flows.start(chain(jobs.number.bind(1), jobs.double))
        assert await handle.result(LIMIT_S) == 2
        job = await handle.node("number").job()
        (record,) = await app.backend.get([job.ref])
        assert record is not None
        assert record.outcome is not None
        assert Outcome.decode(record.outcome).span == ""


async def test_a_job_outside_of_flows_keeps_no_span(
    traced: AsyncJobs, recording: Recording
) -> None:
    jobs = FlowJobs(traced)
    async with working(traced):
        handle = await jobs.number.enqueue(1)
        assert await handle.result(LIMIT_S) == 1
        (record,) = await traced.backend.get([handle.ref])
    assert record is not None
    assert Outcome.decode(record.outcome or b"").span == ""


def behind(*parents: object) -> dict[str, object]:
    return {"parents": [*parents]}


async def run(tracing: Tracing, trace: object) -> None:
    async def body() -> None:
        """A job."""

    await asyncio.create_task(tracing(attempt_info(trace=trace), body))


async def test_a_store_that_is_away_keeps_no_job_from_running(recording: Recording) -> None:
    async def away(refs: Sequence[JobRef]) -> list[JobRecord | None]:
        raise StoreUnavailable("the store is away")

    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", away)
    await run(tracing, behind(["default", "a"]))
    (attempt,) = recording.attempts()
    assert parents_of(attempt) == []


async def test_who_is_cancelled_meanwhile_stays_cancelled(recording: Recording) -> None:
    asked = asyncio.Event()

    async def never(refs: Sequence[JobRef]) -> list[JobRecord | None]:
        asked.set()
        return await asyncio.Future()

    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", never)
    task = asyncio.create_task(run(tracing, behind(["default", "a"])))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recording.attempts() == []


SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("outcome", "links"),
    [
        (Outcome(State.SUCCEEDED, span=SPAN).encode(), 1),
        (Outcome(State.SUCCEEDED, span="no span").encode(), 0),
        (Outcome(State.SUCCEEDED).encode(), 0),
        (b"no outcome", 0),
        (None, 0),
    ],
)
async def test_what_a_store_answers_is_not_trusted(
    recording: Recording, outcome: bytes | None, links: int
) -> None:
    async def answers(refs: Sequence[JobRef]) -> list[JobRecord | None]:
        return [JobRecord(ref, State.SUCCEEDED, outcome=outcome) for ref in refs]

    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", answers)
    await run(tracing, behind(["default", "a"]))
    (attempt,) = recording.attempts()
    assert len(parents_of(attempt)) == links


@pytest.mark.parametrize("parents", [behind("a"), behind(["default", 1]), {"parents": 5}, "x"])
async def test_what_names_no_jobs_asks_for_none(recording: Recording, parents: Any) -> None:
    tracing = Tracing(recording.provider, AppSettings.of(), lambda: "", knows_nothing)
    await run(tracing, parents)
    (attempt,) = recording.attempts()
    assert parents_of(attempt) == []
