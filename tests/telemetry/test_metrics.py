"""What is measured of jobs: names, shapes, and each delivery exactly once."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Metric, Sum

from asyncjobs import AsyncJobs, JobRef, Retry, RetryPolicy, Worker, constant, events
from asyncjobs.model.clock import now_ms
from asyncjobs.model.envelope import Envelope
from asyncjobs.telemetry import counting
from asyncjobs.telemetry import metrics as module
from asyncjobs.telemetry.instruments import WORKER, Instrument
from asyncjobs.telemetry.metrics import Metrics, global_provider
from tests.telemetry.attempts import attempt_info
from tests.telemetry.reading import Reading
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, register, store_raw, until, working

pytestmark = pytest.mark.anyio

CONSUMED = "messaging.client.consumed.messages"
FINISHED = "asyncjobs.jobs.finished"
PROCESS = "messaging.process.duration"


@pytest.fixture
def app(new_app: NewApp, reading: Reading) -> AsyncJobs:
    return new_app(meter_provider=reading.provider)


def shape(metric: Metric) -> tuple[str, str]:
    data = metric.data
    if isinstance(data, Histogram):
        return "histogram", metric.unit or ""
    if isinstance(data, Sum):
        return ("counter" if data.is_monotonic else "up_down_counter"), metric.unit or ""
    assert isinstance(data, Gauge)
    return "gauge", metric.unit or ""


async def test_all_instruments_as_the_table_says(reading: Reading) -> None:
    hub, ref = events.Events(), JobRef("q", "1")
    remove = Metrics(reading.provider, {"f": 1}.get).attach(hub)
    worker = events.WorkerStarted("w", ("q",), 7)
    info = attempt_info(ref)
    for event in (
        worker,
        events.JobEnqueued(ref, "f", is_new=False, size=300, duration_s=0.2),
        events.JobStarted(ref, "f", 1, 40, info=info),
        events.JobRetryScheduled(ref, "f", 1, 0.1, 5.0, ValueError("secret"), info=info),
        events.JobDead(ref, "f", 2, 0.0, "crashed", None),
        events.JobsReclaimed(3, 1),
        events.CronEnqueued("nightly", "q", "f", ref, 0, 0.2),
        events.CronMissed("nightly", "q", "f", 4),
        events.CronSkipped("nightly", "q", "f", 2),
    ):
        hub.emit(event)
    await until(lambda: reading.total("asyncjobs.worker.event_loop.lag") > 0)
    found = reading.metrics()
    assert set(found) == {instrument.name for instrument in WORKER}
    for instrument in WORKER:
        check_shape(found[instrument.name], instrument)
    assert reading.total("asyncjobs.worker.slots") == 7
    assert reading.total("asyncjobs.jobs.reclaimed") == 3
    assert reading.total("asyncjobs.jobs.deduplicated") == 1
    assert reading.total("asyncjobs.schedule.ticks") == 7
    hub.emit(events.WorkerStopped("w", 0))
    assert reading.total("asyncjobs.worker.slots") == 0
    remove()
    assert not hub.active


def check_shape(metric: Metric, instrument: Instrument) -> None:
    assert shape(metric) == (instrument.kind, instrument.unit), instrument.name
    assert metric.description == instrument.text
    for point in metric.data.data_points:
        # Ids, arguments and texts of errors would make a series for each job.
        assert set(point.attributes or ()) <= set(instrument.attributes), instrument.name
        assert "secret" not in str(point.attributes)
    if isinstance(metric.data, Histogram):
        assert metric.data.data_points[0].explicit_bounds == instrument.buckets


async def test_one_consumed_a_delivery(app: AsyncJobs, reading: Reading, stage: Stage) -> None:
    flaky = register(app, jobs.flaky, retry=RetryPolicy(3, constant(0)))
    fails = register(app, jobs.fails, retry=False)
    discards = register(app, jobs.discards)
    async with app:
        await flaky.enqueue(2)
        await fails.enqueue("final words")
        await discards.enqueue()
        await store_raw(app, b"no envelope")
        await store_raw(app, Envelope("nobody.has.it", [], {}, now_ms()).encode())
        async with Worker(app, concurrency=1):
            await until(lambda: reading.total(FINISHED) == 4 and reading.total(CONSUMED) >= 7)
    # Three attempts, one each of the next three, and the unknown one as often as put back.
    by_name = {key[0]: value for key, value in reading.points(CONSUMED).items()}
    assert by_name["flaky"] == 3
    assert (by_name["fails"], by_name["discards"]) == (1, 1)
    assert by_name["_OTHER"] >= 2
    assert "nobody.has.it" not in str(reading.points(CONSUMED))
    ends = {(key[0], key[1]): value for key, value in reading.points(FINISHED).items()}
    assert sum(ends.values()) == 4
    assert reading.total("asyncjobs.jobs.active") == 0


async def test_outcomes_and_error_types(app: AsyncJobs, reading: Reading, stage: Stage) -> None:
    flaky = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        handle = await flaky.enqueue(1)
        await handle.result(LIMIT_S)
        await until(lambda: reading.total(PROCESS) == 2)
    points = reading.metrics()[PROCESS].data.data_points
    told = [dict(point.attributes or {}) for point in points]
    base = {
        "messaging.system": "asyncjobs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "asyncjobs.job.name": "flaky",
    }
    retry = base | {
        "asyncjobs.job.outcome": "retry",
        "error.type": "tests.worker.jobs.Broken",
    }
    assert retry in told
    assert base | {"asyncjobs.job.outcome": "succeeded"} in told
    assert len(told) == 2


async def test_active_falls_when_jobs_are_released(
    app: AsyncJobs, reading: Reading, stage: Stage
) -> None:
    job = register(app, jobs.gated)
    async with app:
        async with Worker(app, grace=0):
            await job.enqueue("g")
            await stage.noted(("started", "g"))
            assert reading.total("asyncjobs.jobs.active") == 1
            assert reading.total("asyncjobs.worker.slots") == 1000
        assert reading.total(CONSUMED) == 1
        assert reading.total("asyncjobs.jobs.active") == 0
        assert reading.total("asyncjobs.worker.slots") == 0
        stage.open("g")
        async with Worker(app):
            await until(lambda: reading.total(FINISHED) == 1)
    # Given back and taken again: two deliveries.
    assert reading.total(CONSUMED) == 2


async def test_what_an_enqueue_tells(app: AsyncJobs, reading: Reading) -> None:
    job = register(app, jobs.echo)
    async with app:
        await job.options(id="once").enqueue("x" * 1000)
        await job.options(id="once").enqueue("x" * 1000)
        await app.enqueue_many([job.bind(1), job.bind(2)])
    assert reading.total("messaging.client.sent.messages") == 4
    assert reading.total("messaging.client.operation.duration") == 4
    assert reading.total("asyncjobs.jobs.deduplicated") == 1
    (size,) = reading.metrics()["asyncjobs.payload.size"].data.data_points
    assert size.count == 4
    assert 2000 < size.sum < 4000
    (took,) = reading.metrics()["messaging.client.operation.duration"].data.data_points
    assert took.count == 4
    assert 0 <= took.min <= took.max < LIMIT_S


async def test_a_lost_attempt_is_no_longer_active(reading: Reading) -> None:
    hub, ref = events.Events(), JobRef("q", "1")
    Metrics(reading.provider, {"f": 1}.get).attach(hub)
    lost, again = attempt_info(ref), attempt_info(ref)
    hub.emit(events.JobStarted(ref, "f", 1, 0, info=lost))
    # Its end was not told: it starts again and is counted as one.
    hub.emit(events.JobStarted(ref, "f", 1, 0, info=again))
    assert reading.total("asyncjobs.jobs.active") == 1
    hub.emit(events.JobLost(ref, "f", 1, 0.5, info=again))
    assert reading.total("asyncjobs.jobs.active") == 0
    assert reading.total(FINISHED) == 0
    (point,) = reading.metrics()[PROCESS].data.data_points
    assert dict(point.attributes or {})["error.type"] == "lease_lost"


async def test_remembered_series_have_a_bound(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 3)
    hub = events.Events()
    metrics = Metrics(reading.provider, {"f": 1}.get)
    metrics.attach(hub)
    for number in range(10):
        hub.emit(events.JobEnqueued(JobRef(f"q{number}", "1"), "f", is_new=True))
    # Three queues are told apart, and all others are one.
    assert len(metrics.series) == 4
    sent = reading.points("messaging.client.sent.messages")
    assert len(sent) == 4
    assert sum(sent.values()) == 10


async def test_error_types_have_a_bound(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDS", 5)
    hub, ref = events.Events(), JobRef("q", "1")
    Metrics(reading.provider, {"f": 1}.get).attach(hub)
    for number in range(20):
        error = type(f"Error{number}", (Exception,), {})()
        info = attempt_info(ref)
        hub.emit(events.JobStarted(ref, "f", 1, 0, info=info))
        hub.emit(events.JobDead(ref, "f", 1, 0.0, "exhausted", error, info=info))
    found = reading.points(FINISHED)
    assert 1 < len(found) < 8
    assert sum(found.values()) == 20


async def test_unknown_names_are_not_remembered_without_bound(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 5)
    hub = events.Events()
    metrics = Metrics(reading.provider, {}.get)
    metrics.attach(hub)
    for number in range(50):
        hub.emit(events.JobPutBack(JobRef("q", "1"), f"name{number}", 1.0))
    assert len(metrics.series) <= 6
    assert reading.total(CONSUMED) == 50


async def test_the_loops_lag(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LAG_INTERVAL_S", 0.01)
    hub = events.Events()
    Metrics(reading.provider, {}.get).attach(hub)
    hub.emit(events.WorkerStarted("w", ("q",), 1))
    await until(lambda: reading.total("asyncjobs.worker.event_loop.lag") >= 2)
    hub.emit(events.WorkerStopped("w", 0))
    timers = [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
    assert not [each for each in timers if "_LoopLag" in repr(each)]


async def test_without_an_sdk_nobody_listens() -> None:
    assert global_provider() is None
    app = AsyncJobs("memory:")
    async with app:
        assert not app.events.active


async def test_a_provider_that_is_given_is_used_once() -> None:
    app = AsyncJobs("memory:", meter_provider=NoOpMeterProvider())
    for _ in range(2):
        async with app:
            assert len(app.events._listeners) == 1


async def test_two_apps_of_one_provider_are_counted_together(
    new_app: NewApp, reading: Reading, stage: Stage
) -> None:
    for _ in range(2):
        app = new_app(meter_provider=reading.provider)
        job = register(app, jobs.echo)
        async with app, Worker(app):
            await (await job.enqueue(1)).result(LIMIT_S)
            assert reading.total("asyncjobs.worker.slots") == 1000
    await until(lambda: reading.total(FINISHED) == 2)
    assert reading.total(CONSUMED) == reading.total("messaging.client.sent.messages") == 2
    assert len(reading.points(FINISHED)) == 1
    assert reading.total("asyncjobs.worker.slots") == 0


async def test_a_cancelled_worker_has_no_slots_left(app: AsyncJobs, reading: Reading) -> None:
    register(app, jobs.echo)
    async with app:
        work = asyncio.create_task(Worker(app).run())
        await until(lambda: reading.total("asyncjobs.worker.slots") == 1000)
        work.cancel()
        await asyncio.wait([work])
        assert reading.total("asyncjobs.worker.slots") == 0


async def test_a_retry_on_purpose_is_no_error(reading: Reading) -> None:
    hub, ref = events.Events(), JobRef("q", "1")
    Metrics(reading.provider, {"f": 1}.get).attach(hub)
    info = attempt_info(ref)
    hub.emit(events.JobStarted(ref, "f", 1, 0, info=info))
    hub.emit(events.JobRetryScheduled(ref, "f", 1, 0.1, 5.0, Retry(), info=info))
    (point,) = reading.metrics()[PROCESS].data.data_points
    assert (point.attributes or {})["asyncjobs.job.outcome"] == "retry"
    assert "error.type" not in (point.attributes or {})


async def test_a_flood_of_unknown_names_hides_no_job(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 5)
    hub = events.Events()
    Metrics(reading.provider, {"f": 1}.get).attach(hub)
    for number in range(50):
        hub.emit(events.JobPutBack(JobRef("q", "1"), f"name{number}", 1.0))
    hub.emit(events.JobPutBack(JobRef("q", "1"), "f", 1.0))
    by_name = {key[0]: value for key, value in reading.points(CONSUMED).items()}
    assert by_name == {"_OTHER": 50, "f": 1}
