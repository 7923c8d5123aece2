"""Spans of enqueues and attempts: kinds, names, parents, links, attributes, outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from asyncjobs import AsyncJobs, RetryPolicy, Worker, constant
from asyncjobs.errors import ConfigError
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.telemetry import carrier
from asyncjobs.telemetry.sending import conversation
from asyncjobs.telemetry.tracing import _is_child
from tests.telemetry import tasks
from tests.telemetry.attempts import attempt_info
from tests.telemetry.recording import Recording, context_of, events_of_span, links_of
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, ended, listens, register, working

pytestmark = pytest.mark.anyio

OUTCOME = "asyncjobs.job.outcome"


@pytest.fixture
def app(new_app: NewApp, recording: Recording) -> AsyncJobs:
    return new_app(tracer_provider=recording.provider)


def outcome(span: ReadableSpan) -> tuple[object, StatusCode]:
    return (span.attributes or {})[OUTCOME], span.status.status_code


@pytest.fixture(autouse=True)
async def _no_job_hangs_on(stage: Stage) -> AsyncIterator[None]:
    """What a failing test leaves at its gate would keep the loop from its end."""
    yield
    stage.open_all()


async def test_an_attempt_is_a_root_that_links_to_its_enqueue(
    app: AsyncJobs, recording: Recording, kind: str
) -> None:
    job = register(app, tasks.looks)
    with recording.provider.get_tracer("test").start_as_current_span("request") as request:
        async with app:
            handle = await job.enqueue()
            await asyncio.sleep(0.1)
            async with Worker(app, grace=2):
                seen = await handle.result(LIMIT_S)
                (attempt,) = await recording.ended(1)
    (sent,) = recording.sent()
    assert (sent.name, attempt.name) == ("enqueue looks", "process looks")
    assert sent.parent is not None
    assert sent.parent.span_id == request.get_span_context().span_id
    assert attempt.parent is None
    assert links_of(attempt) == {"creation": context_of(sent).span_id}
    assert context_of(attempt).trace_id != context_of(sent).trace_id
    assert seen["span"] == context_of(attempt).span_id
    assert outcome(attempt) == ("succeeded", StatusCode.UNSET)
    check_attributes(sent, attempt, handle.id, kind)
    scope = attempt.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == (
        "asyncjobs",
        "https://opentelemetry.io/schemas/1.44.0",
    )


def check_attributes(sent: ReadableSpan, attempt: ReadableSpan, id: str, kind: str) -> None:
    of_sent, of_attempt = dict(sent.attributes or {}), dict(attempt.attributes or {})
    server = {name: of_attempt.pop(name, None) for name in ("server.address", "server.port")}
    for name, value in server.items():
        assert of_sent.pop(name, None) == value
    assert (server["server.address"] is None) == (kind == "memory")
    ref = id if "/" in id else f"default/{id}"
    shared = {
        "messaging.system": "asyncjobs",
        "messaging.destination.name": "default",
        "messaging.message.id": ref,
        "messaging.message.conversation_id": ref,
        "asyncjobs.job.name": "looks",
    }
    assert of_sent == shared | {
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    assert isinstance(of_attempt.pop("messaging.client.id"), str)
    assert isinstance(of_attempt.pop("messaging.consumer.group.name"), str)
    waited = of_attempt.pop("asyncjobs.job.queue_time_ms")
    assert isinstance(waited, int)
    # It waited for 100 ms before a worker was there; a store's clock may differ by some of them.
    assert 60 <= waited < LIMIT_S * 1000
    assert of_attempt == shared | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "asyncjobs.job.attempt": 1,
        "asyncjobs.job.max_attempts": RetryPolicy().max_attempts,
        "asyncjobs.job.priority": "normal",
        OUTCOME: "succeeded",
    }


@pytest.mark.parametrize("place", ["app", "function", "call"])
async def test_child_belongs_to_the_trace_of_its_enqueue(
    new_app: NewApp, recording: Recording, place: str
) -> None:
    chosen: dict[str, Any] = {"tracing": "child"}
    app = new_app(tracer_provider=recording.provider, **(chosen if place == "app" else {}))
    job = register(app, tasks.looks, **(chosen if place == "function" else {}))
    if place == "call":
        job = job.options(tracing="child")
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        (attempt,) = await recording.ended(1)
    (sent,) = recording.sent()
    assert attempt.parent is not None
    assert attempt.parent.span_id == context_of(sent).span_id
    assert context_of(attempt).trace_id == context_of(sent).trace_id
    assert not attempt.links


async def test_auto_is_child_for_the_first_attempt_of_a_job_that_was_not_scheduled(
    new_app: NewApp, recording: Recording, stage: Stage
) -> None:
    app = new_app(tracer_provider=recording.provider, tracing="auto")
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    late = register(app, tasks.looks)
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)
        await (await late.options(delay=0.001).enqueue()).result(LIMIT_S)
        first, second, scheduled = await recording.ended(3)
    sent, _ = recording.sent()
    assert first.parent is not None
    assert first.parent.span_id == context_of(sent).span_id
    assert second.parent is None
    assert set(links_of(second)) == {"creation", "previous_attempt"}
    assert scheduled.parent is None
    assert set(links_of(scheduled)) == {"creation"}


@pytest.mark.parametrize(("waited_ms", "is_child"), [(29_999, True), (30_000, False)])
async def test_auto_is_child_only_of_a_job_that_started_soon(
    waited_ms: int, is_child: bool
) -> None:
    attempt = attempt_info(JobRef("default", "a"), waited_ms=waited_ms, tracing="auto")
    assert _is_child(attempt, carrier.NOTHING) is is_child


async def test_none_makes_no_span_and_carries_nothing(app: AsyncJobs, recording: Recording) -> None:
    job = register(app, tasks.looks, tracing="none")
    async with working(app):
        token = attach(baggage.set_baggage("tenant", "ours"))
        seen = await (await job.enqueue()).result(LIMIT_S)
        await app.enqueue_many([job.bind()])
        detach(token)
    assert seen == {"span": 0, "trace": 0, "baggage": {}}
    assert recording.spans() == []


async def test_none_does_not_belong_to_what_the_worker_was_started_in(
    app: AsyncJobs, recording: Recording
) -> None:
    job = register(app, tasks.looks, tracing="none")
    token = attach(baggage.set_baggage("tenant", "other"))
    with recording.provider.get_tracer("shop").start_as_current_span("lifespan"):
        async with working(app):
            seen = await (await job.enqueue()).result(LIMIT_S)
    detach(token)
    assert seen == {"span": 0, "trace": 0, "baggage": {}}


@pytest.mark.parametrize(
    ("propagate", "seen"),
    [("all", {"tenant": "ü 7", "user": "x"}), ("none", {}), (["tenant"], {"tenant": "ü 7"})],
)
@pytest.mark.parametrize("mode", ["link", "child"])
async def test_baggage_is_seen_in_the_job(
    new_app: NewApp, recording: Recording, propagate: Any, seen: dict[str, str], mode: str
) -> None:
    app = new_app(tracer_provider=recording.provider, propagate_baggage=propagate, tracing=mode)
    job = register(app, tasks.looks)
    async with working(app):
        token = attach(baggage.set_baggage("user", "x", baggage.set_baggage("tenant", "ü 7")))
        try:
            handle = await job.enqueue()
        finally:
            detach(token)
        assert (await handle.result(LIMIT_S))["baggage"] == seen


async def test_each_attempt_is_a_span_linked_to_the_one_before(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    job = register(app, jobs.flaky, retry=RetryPolicy(3, constant(0)))
    async with working(app):
        await (await job.enqueue(2)).result(LIMIT_S)
        attempts = await recording.ended(3)
    (sent,) = recording.sent()
    creation = {"creation": context_of(sent).span_id}
    one, two, three = attempts
    assert links_of(one) == creation
    assert links_of(two) == creation | {"previous_attempt": context_of(one).span_id}
    assert links_of(three) == creation | {"previous_attempt": context_of(two).span_id}
    assert [(span.attributes or {})["asyncjobs.job.attempt"] for span in attempts] == [1, 2, 3]
    assert len({context_of(span).trace_id for span in attempts}) == 3
    failed, ok = ("retry", StatusCode.ERROR), ("succeeded", StatusCode.UNSET)
    assert [outcome(span) for span in attempts] == [failed, failed, ok]
    assert (one.attributes or {})["error.type"] == "tests.worker.jobs.Broken"
    assert events_of_span(one) == {"retry_scheduled": {"delay_s": 0.0}}
    assert "attempt 1" not in one.to_json()  # what an error says may be an argument


async def test_the_last_attempt_is_dead(app: AsyncJobs, recording: Recording) -> None:
    job = register(app, jobs.fails, retry=False)
    async with working(app):
        await ended(app, (await job.enqueue("my secret")).id, State.DEAD)
        (attempt,) = await recording.ended(1)
    assert outcome(attempt) == ("dead", StatusCode.ERROR)
    assert (attempt.attributes or {})["error.type"] == "tests.worker.jobs.Broken"
    assert not attempt.events
    assert "secret" not in "".join(span.to_json() for span in recording.spans())


async def test_ends_on_purpose_are_no_errors(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    register(app, jobs.discards)
    again = register(app, jobs.asks_retry)
    discards = app.registry.find("discards")
    snoozes = register(app, tasks.snoozes_once)
    assert discards is not None
    async with Worker(app, concurrency=1), app:
        await ended(app, (await discards.enqueue()).id, State.DISCARDED)
        await (await again.enqueue(1)).result(LIMIT_S)
        await (await snoozes.enqueue([])).result(LIMIT_S)
        discarded, retried, succeeded, snoozed, awake = await recording.ended(5)
    assert outcome(discarded) == ("discarded", StatusCode.UNSET)
    assert outcome(retried) == ("retry", StatusCode.UNSET)
    assert "retry_scheduled" in events_of_span(retried)
    assert outcome(succeeded) == ("succeeded", StatusCode.UNSET)
    assert outcome(snoozed) == ("snoozed", StatusCode.UNSET)
    assert events_of_span(snoozed) == {"snoozed": {"delay_s": 0.0}}
    assert links_of(awake)["previous_attempt"] == context_of(snoozed).span_id


async def test_a_timeout_is_an_error_with_an_event(app: AsyncJobs, recording: Recording) -> None:
    job = register(app, tasks.sleeps, retry=False, timeout=0.01)
    async with working(app):
        await ended(app, (await job.enqueue()).id, State.DEAD)
        (attempt,) = await recording.ended(1)
    assert outcome(attempt) == ("dead", StatusCode.ERROR)
    assert set(events_of_span(attempt)) == {"timeout"}


async def test_cancel_and_shutdown_are_no_errors_and_detach_nothing(
    app: AsyncJobs, recording: Recording, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, jobs.gated)
    async with app:
        async with Worker(app, grace=0):
            await listens(app)
            unwanted = await job.enqueue("unwanted")
            await stage.noted(("started", "unwanted"))
            await unwanted.cancel()
            (cancelled,) = await recording.ended(1)
            await job.enqueue("kept")
            await stage.noted(("started", "kept"))
        _, released = await recording.ended(2)
        stage.open("kept")
        async with Worker(app):
            *_, done = await recording.ended(3)
    assert outcome(cancelled) == ("cancelled", StatusCode.UNSET)
    assert outcome(released) == ("released", StatusCode.UNSET)
    assert set(events_of_span(released)) == {"shutdown_requested"}
    assert outcome(done) == ("succeeded", StatusCode.UNSET)
    # What is stored of a job that is given back is not written again.
    assert set(links_of(done)) == {"creation"}
    assert "detach" not in caplog.text
    assert "Context" not in caplog.text


async def test_attempts_that_ignore_their_time_out_have_spans_with_an_end(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    job = register(app, jobs.stubborn, timeout=0.05, retry=RetryPolicy(2, constant(0)))
    async with working(app, concurrency=1, stuck_after=0.1):
        handle = await job.enqueue("s")
        await ended(app, handle.id, State.DEAD)
        # Both tasks still run; their attempts are over.
        one, two = await recording.ended(2)
        stage.open("s")
    assert outcome(one) == ("retry", StatusCode.ERROR)
    assert set(events_of_span(one)) == {"timeout", "retry_scheduled"}
    assert links_of(two)["previous_attempt"] == context_of(one).span_id
    assert outcome(two) == ("dead", StatusCode.ERROR)
    assert len(recording.attempts()) == 2


async def test_jobs_of_jobs_are_one_conversation(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    stage.again = job = register(app, tasks.passes_on)
    async with working(app):
        first = await job.enqueue(2)
        attempts = await recording.ended(3)
    ids = {(span.attributes or {})["messaging.message.conversation_id"] for span in attempts}
    assert ids == {f"default/{first.id.rpartition('/')[2]}"}
    ids_of_attempts = {context_of(span).span_id for span in attempts}
    first_sent, *later = recording.sent()
    assert first_sent.parent is None
    assert [span.parent and span.parent.span_id in ids_of_attempts for span in later] == [True] * 2


@pytest.mark.parametrize("root", ["link", "none"])
async def test_a_conversation_goes_on_over_jobs_that_are_not_traced(
    app: AsyncJobs, recording: Recording, stage: Stage, root: Any
) -> None:
    stage.again = job = register(app, tasks.passes_on_untraced)
    async with working(app):
        first = await job.options(tracing=root).enqueue(3)
        *_, last = await recording.ended(2 if root == "link" else 1)
    (sent,) = recording.sent()[-1:]
    for span in (sent, last):
        told = (span.attributes or {})["messaging.message.conversation_id"]
        assert told == f"default/{first.id.rpartition('/')[2]}"
    assert len(recording.sent()) == (2 if root == "link" else 1)
    # Nothing else is carried: the trace begins anew.
    assert sent.parent is None


@pytest.mark.parametrize(("jobs_made", "spans"), [(100, 100), (101, 1)])
async def test_a_bulk_call_of_over_a_hundred_jobs_is_one_span(
    app: AsyncJobs, recording: Recording, jobs_made: int, spans: int
) -> None:
    job = register(app, tasks.looks)
    async with app:
        await app.enqueue_many([job.bind() for _ in range(jobs_made)])
        sent = recording.sent()
        assert len(sent) == spans
        async with Worker(app):
            attempts = await recording.ended(jobs_made)
    assert {links_of(span)["creation"] for span in attempts} == {
        context_of(span).span_id for span in sent
    }
    if spans == 1:
        assert (sent[0].attributes or {})["messaging.batch.message_count"] == jobs_made
        assert "messaging.message.conversation_id" not in (sent[0].attributes or {})


async def test_a_bulk_call_of_a_job_belongs_to_its_conversation(
    app: AsyncJobs, recording: Recording
) -> None:
    job = register(app, tasks.looks)
    token = conversation.set("default/first")
    try:
        async with app:
            await app.enqueue_many([job.bind() for _ in range(101)])
    finally:
        conversation.reset(token)
    (sent,) = recording.sent()
    assert (sent.attributes or {})["messaging.message.conversation_id"] == "default/first"


async def test_an_enqueue_that_fails_is_an_error(app: AsyncJobs, recording: Recording) -> None:
    job = register(app, jobs.echo)
    async with app:
        with pytest.raises(Exception, match="max_payload"):
            await job.enqueue("x" * (2 << 20))
    (sent,) = recording.sent()
    assert sent.status.status_code is StatusCode.ERROR
    assert (sent.attributes or {})["error.type"] == "asyncjobs.errors.PayloadTooLarge"
    assert sent.kind is SpanKind.PRODUCER
    assert not sent.events


@pytest.mark.parametrize("many", [False, True])
async def test_an_enqueue_that_is_cancelled_is_no_error(
    app: AsyncJobs, recording: Recording, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    job = register(app, jobs.echo)
    asked, answer = asyncio.Event(), asyncio.Event()
    async with app:
        enqueue = app.backend.enqueue

        async def slow(batch: EnqueueBatch) -> Enqueued:
            asked.set()
            await answer.wait()
            return await enqueue(batch)

        monkeypatch.setattr(app.backend, "enqueue", slow)
        call = asyncio.ensure_future(app.enqueue_many([job.bind()]) if many else job.enqueue())
        await asked.wait()
        call.cancel()
        await asyncio.wait([call])
        answer.set()
    assert call.cancelled()
    (sent,) = recording.sent()
    assert sent.status.status_code is StatusCode.UNSET
    assert "error.type" not in (sent.attributes or {})


async def test_modes_that_are_none() -> None:
    with pytest.raises(ConfigError, match="tracing must be one of link, child, auto, none"):
        AsyncJobs("memory:", tracing="on")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="propagate_baggage must be"):
        AsyncJobs("memory:", propagate_baggage="tenant")  # type: ignore[arg-type]


async def test_the_reference_has_all_attributes_of_spans(
    app: AsyncJobs, recording: Recording, stage: Stage
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/telemetry.md").read_text()
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        await app.enqueue_many([job.bind(1) for _ in range(101)])
        await job.enqueue(0)
        await recording.ended(203)
    names = {name for span in recording.spans() for name in span.attributes or ()}
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page} == set()
