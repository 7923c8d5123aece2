"""When tracing is on, what it must not disturb, and what it must not trace."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest
import redis.asyncio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind

from asyncjobs import AsyncJobs, RetryPolicy, State, Worker, constant
from asyncjobs.events import CronEnqueued, Events, JobsReclaimed
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.store.seam import Backend
from asyncjobs.telemetry import spans
from asyncjobs.telemetry.sampler import LinkedParentSampler
from asyncjobs.telemetry.spans import global_provider
from asyncjobs.telemetry.telemetry import Telemetry
from asyncjobs.telemetry.tracing import Tracing
from asyncjobs.worker.lease.heartbeat import Heartbeats
from tests.telemetry import tasks
from tests.telemetry.attempts import knows_nothing
from tests.telemetry.recording import Recording, context_of
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    NewApp,
    Stage,
    eventually,
    processor_of,
    register,
    until,
    working,
)

pytestmark = pytest.mark.anyio

IDLE_S = 2.0
"""For how long the contract lets a worker idle without a span."""


async def test_without_an_sdk_nothing_is_traced() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert global_provider() is None
    app = AsyncJobs("memory:")
    async with app:
        assert app.middlewares.around == ()
        assert not app.events.active


async def test_a_provider_that_records_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asyncjobs.telemetry.spans.get_tracer_provider", lambda: trace.NoOpTracerProvider()
    )
    app = AsyncJobs("memory:")
    async with app:
        assert app.middlewares.around == ()


async def test_the_processes_provider_is_asked_for_when_the_app_opens(
    monkeypatch: pytest.MonkeyPatch, recording: Recording
) -> None:
    app = AsyncJobs("memory:")
    job = register(app, tasks.looks)
    monkeypatch.setattr("asyncjobs.telemetry.spans.get_tracer_provider", lambda: recording.provider)
    listeners: list[int] = []
    for _ in range(2):
        async with app:
            await job.enqueue()
            listeners.append(len(app.events._listeners))
    assert len(recording.sent()) == 2
    assert listeners[0] == listeners[1] > 0


async def _ping(app: AsyncJobs) -> None:
    client = redis.asyncio.Redis.from_url(str(app._openings.url))
    try:
        await client.ping()
    finally:
        await client.aclose()


async def test_an_idle_worker_makes_no_span(
    new_app: NewApp, recording: Recording, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does redis instrumentation that is on: store traffic is not traced."""
    beats = 0
    renew = Heartbeats._renew

    async def counted_beat(heartbeats: Heartbeats, backend: Backend) -> bool:
        nonlocal beats
        beats += 1
        return await renew(heartbeats, backend)

    monkeypatch.setattr(Heartbeats, "_renew", counted_beat)
    app = new_app(tracer_provider=recording.provider, trace_upkeep=True)
    instrumentor = RedisInstrumentor()
    instrumentor.instrument(tracer_provider=recording.provider)
    try:
        job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
        async with working(app, lease=1) as worker:
            handle = await job.enqueue(1)
            await handle.result(LIMIT_S)
            await recording.ended(2)
            before = len(recording.spans())
            # An enqueue, two attempts, and the promotion of the second one.
            assert before == 4
            beats = 0
            with anyio.move_on_after(IDLE_S):
                await until(lambda: len(recording.spans()) > before)
            assert len(recording.spans()) == before
            # It was there: it renewed its lease, and its upkeep ran.
            assert beats >= 2
            parking = processor_of(worker).parking
            woken = 0
            sleep = parking.sleep

            async def counted(*args: Any, **options: Any) -> None:
                nonlocal woken
                woken += 1
                await sleep(*args, **options)

            parking.sleep = counted  # type: ignore[method-assign]
            for number in range(5):
                parking.nudge()
                await until(lambda number=number: woken > number)  # type: ignore[misc]
            assert await app.handle(handle.id).status() is State.SUCCEEDED
            assert len(recording.spans()) == before
        if kind != "memory":
            await _ping(app)
            assert len(recording.spans()) == before + 1, "the instrumentation sees nothing at all"
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("is_on", [False, True])
async def test_reclaims_are_traced_on_request_only(recording: Recording, is_on: bool) -> None:
    app = AsyncJobs("memory:", tracer_provider=recording.provider, trace_upkeep=is_on)
    async with app:
        app.events.emit(JobsReclaimed(0, 1, ("mail",)))
        assert recording.spans() == []
        app.events.emit(JobsReclaimed(3, 1, ("mail",)))
    found = [(span.name, span.kind, span.parent) for span in recording.spans()]
    assert found == ([("reclaim", SpanKind.INTERNAL, None)] if is_on else [])


@pytest.mark.parametrize("is_on", [False, True])
async def test_ticks_are_traced_on_request_only(recording: Recording, is_on: bool) -> None:
    app = AsyncJobs("memory:", tracer_provider=recording.provider, trace_upkeep=is_on)
    ref = JobRef("mail", "cron:nightly:0")
    async with app:
        app.events.emit(CronEnqueued("nightly", "mail", "send", ref, 0, 0.25))
    if not is_on:
        assert recording.spans() == []
        return
    (span,) = recording.spans()
    assert (span.name, span.kind, span.parent) == ("cron", SpanKind.INTERNAL, None)
    found = dict(span.attributes or {})
    assert found["asyncjobs.schedule.id"] == "nightly"
    assert found["asyncjobs.schedule.lag_ms"] == 250
    assert found["messaging.message.id"] == "mail/cron:nightly:0"
    assert found["messaging.operation.type"] == "create"


@pytest.mark.parametrize("is_on", [False, True])
async def test_promotions_are_traced_on_request_only(
    new_app: NewApp, recording: Recording, kind: str, is_on: bool
) -> None:
    app = new_app(tracer_provider=recording.provider, trace_upkeep=is_on)
    job = register(app, jobs.echo)
    async with app:
        await app.enqueue_many([job.options(delay=0.001).bind() for _ in range(3)])
        # Due before anybody looks: one exchange makes all of them ready.
        await eventually(lambda: _are_due(app))
        async with Worker(app):
            await recording.ended(3)
    upkeep = recording.spans(SpanKind.INTERNAL)
    assert [(span.name, span.parent) for span in upkeep] == ([("promote", None)] if is_on else [])
    for span in upkeep:
        found = dict(span.attributes or {})
        assert ("server.address" in found) == (kind != "memory")
        assert {name: found[name] for name in found if not name.startswith("server.")} == {
            "messaging.system": "asyncjobs",
            "messaging.operation.name": "promote",
            "messaging.operation.type": "settle",
            "messaging.destination.name": "default",
            "asyncjobs.jobs": 3,
        }


async def _are_due(app: AsyncJobs) -> bool:
    (flow,) = await app.backend.inspect.queues.flow(["default"])
    return flow.next_due_ms is not None and flow.next_due_ms + 1 < flow.now_ms


class _Seen(Sampler):
    """Notes what is there when a span is created."""

    def __init__(self) -> None:
        self.attributes: dict[str, dict[str, Any]] = {}

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, *rest: Any, **more: Any
    ) -> SamplingResult:
        self.attributes[name] = dict(more.get("attributes") or rest[1] or {})
        return SamplingResult(Decision.RECORD_AND_SAMPLE, self.attributes[name])

    def get_description(self) -> str:
        return "Seen"


async def test_samplers_find_the_attributes_at_creation(new_app: NewApp, kind: str) -> None:
    sampler = _Seen()
    recording = Recording(sampler)
    app = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
        await recording.ended(1)
    for name, operation, type in (
        ("enqueue", "enqueue", "send"),
        ("process", "process", "process"),
    ):
        found = sampler.attributes[f"{name} looks"]
        assert found["messaging.system"] == "asyncjobs"
        assert found["messaging.operation.name"] == operation
        assert found["messaging.operation.type"] == type
        assert found["messaging.destination.name"] == "default"
        assert ("server.address" in found and "server.port" in found) == (kind != "memory")
    recording.provider.shutdown()


class _ByKind(Sampler):
    """Samples enqueues, or all else."""

    def __init__(self, *, enqueues: bool) -> None:
        self._enqueues = enqueues

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        *rest: Any,
        **more: Any,
    ) -> SamplingResult:
        is_on = (kind is SpanKind.PRODUCER) == self._enqueues
        return SamplingResult(Decision.RECORD_AND_SAMPLE if is_on else Decision.DROP)

    def get_description(self) -> str:
        return "ByKind"


@pytest.mark.parametrize("sampled", [True, False])
async def test_an_attempt_is_sampled_as_its_enqueue_was(new_app: NewApp, sampled: bool) -> None:
    # Without the link, an attempt would get the opposite.
    recording = Recording(LinkedParentSampler(_ByKind(enqueues=sampled)))
    app = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    async with working(app):
        await (await job.enqueue()).result(LIMIT_S)
    recording.provider.shutdown()
    assert len(recording.sent()) == len(recording.attempts()) == sampled


async def test_with_a_parent_the_sampler_asks_the_other_one() -> None:
    recording = Recording(LinkedParentSampler(ParentBased(ALWAYS_OFF)))
    tracer = recording.provider.get_tracer("test")
    tracer.start_span("root").end()
    assert recording.spans() == []
    assert (
        "LinkedParentSampler{ParentBased"
        in LinkedParentSampler(ParentBased(ALWAYS_OFF)).get_description()
    )
    recording.provider.shutdown()


class _Broken(SpanProcessor):
    """Raises wherever it is asked."""

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        raise RuntimeError("no start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("no end")


class _Lost(SpanExporter):
    """A backend that is not there."""

    def __init__(self) -> None:
        self.tried = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.tried += 1
        raise ConnectionError("nobody listens")


@pytest.fixture(params=["processor", "exporter"])
def broken(request: pytest.FixtureRequest) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = _Broken() if request.param == "processor" else SimpleSpanProcessor(_Lost())
    provider.add_span_processor(processor)
    yield provider
    provider.shutdown()


async def test_what_fails_in_opentelemetry_disturbs_no_job(
    new_app: NewApp, broken: TracerProvider, stage: Stage
) -> None:
    app = new_app(tracer_provider=broken)
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        handles = [await job.enqueue(1), *await app.enqueue_many([job.bind(0)] * 2)]
        assert [await handle.result(LIMIT_S) for handle in handles] == [2, 1, 1]


async def test_what_fails_in_a_span_of_upkeep_is_told_once(
    new_app: NewApp, stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "_told", set())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Broken())
    app = new_app(tracer_provider=provider, trace_upkeep=True)
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        for number in range(3):
            assert await (await job.enqueue(1)).result(LIMIT_S) == 2, number
    provider.shutdown()
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len([text for text in told if "upkeep" in text]) == 1
    assert not [text for text in told if "listener" in text]


async def test_from_a_thread_it_is_one_trace_too(new_app: NewApp, recording: Recording) -> None:
    app = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    tracer = recording.provider.get_tracer("test")
    async with working(app):
        with tracer.start_as_current_span("request") as request:
            await asyncio.to_thread(job.enqueue_sync)
        (attempt,) = await recording.ended(1)
    (sent,) = recording.sent()
    assert sent.parent is not None
    assert sent.parent.span_id == request.get_span_context().span_id
    assert attempt.links[0].context.span_id == context_of(sent).span_id


async def test_a_job_in_a_thread_sees_its_span(new_app: NewApp, recording: Recording) -> None:
    app = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks_in_thread)
    async with working(app):
        seen = await (await job.enqueue()).result(LIMIT_S)
        (attempt,) = await recording.ended(1)
    assert seen == context_of(attempt).span_id


def test_apps_opened_in_two_threads_are_listened_to_once(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def slow_import() -> None:
        # With one thread inside at a time, nobody comes, and it goes on.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)

    class Slow(Tracing):
        def __init__(self, *arguments: Any) -> None:
            slow_import()
            super().__init__(*arguments)

    monkeypatch.setattr("asyncjobs.telemetry.tracing.Tracing", Slow)
    telemetry, hub = Telemetry(recording.provider, NoOpMeterProvider()), Events()
    attached: list[Tracing] = []
    monkeypatch.setattr(Slow, "attach", lambda self, *_: attached.append(self))
    threads = [
        threading.Thread(
            target=telemetry.start,
            args=(AppSettings.of(), hub, Middlewares(), {}.get, lambda: "memory:", knows_nothing),
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(attached) == 1
