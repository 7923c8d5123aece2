"""What leaves the process: OpenTelemetry's own OTLP/HTTP exporter, read by its protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Metric,
    ResourceMetrics,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from asyncjobs import RetryPolicy, constant
from asyncjobs.telemetry.instruments import WORKER
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, register, working

pytestmark = pytest.mark.anyio


class Receiver(ThreadingHTTPServer):
    """Keeps what exporters post to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.got: list[ResourceSpans] = []
        self.metrics: list[ResourceMetrics] = []
        self.paths: set[str] = set()

    def url(self, signal: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/{signal}"


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.add(f"{self.path} {self.headers['Content-Type']}")
        if self.path == "/v1/metrics":
            self.server.metrics += ExportMetricsServiceRequest.FromString(body).resource_metrics
            answer = ExportMetricsServiceResponse().SerializeToString()
        else:
            self.server.got += ExportTraceServiceRequest.FromString(body).resource_spans
            answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join(LIMIT_S)


async def test_an_enqueue_and_its_attempts_over_the_wire(
    new_app: NewApp, receiver: Receiver, stage: Stage, kind: str
) -> None:
    provider = TracerProvider(
        resource=Resource.create({"service.name": "orders"}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(receiver.url("traces"))))
    app = new_app(tracer_provider=provider)
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        await (await job.enqueue(1)).result(LIMIT_S)
    provider.shutdown()
    assert receiver.paths == {"/v1/traces application/x-protobuf"}
    (scope,) = [scope for each in receiver.got for scope in each.scope_spans]
    assert scope.scope.name == "asyncjobs"
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    sent, first, second = sorted(scope.spans, key=lambda span: span.start_time_unix_nano)
    assert (sent.kind, sent.name) == (Span.SPAN_KIND_PRODUCER, "enqueue flaky")
    for span in (first, second):
        assert (span.kind, span.name) == (Span.SPAN_KIND_CONSUMER, "process flaky")
        assert span.parent_span_id == b""
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert links(first) == {"creation": sent.span_id}
    assert links(second) == {"creation": sent.span_id, "previous_attempt": first.span_id}
    assert (first.status.code, second.status.code) == (
        Status.STATUS_CODE_ERROR,
        Status.STATUS_CODE_UNSET,
    )
    assert [event.name for event in first.events] == ["retry_scheduled"]
    found = {each.key: each.value for each in second.attributes}
    assert found["messaging.system"].string_value == "asyncjobs"
    assert found["asyncjobs.job.attempt"].int_value == 2
    assert ("server.port" in found) == (kind != "memory")


async def test_metrics_over_the_wire(new_app: NewApp, receiver: Receiver, stage: Stage) -> None:
    # Only its end exports: its interval is far longer than any test.
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(receiver.url("metrics")), 3_600_000)
    provider = MeterProvider(
        [reader], Resource.create({"service.name": "orders"}), shutdown_on_exit=False
    )
    app = new_app(meter_provider=provider)
    job = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    async with working(app):
        handle = await job.options(id="once").enqueue(1)
        await job.options(id="once").enqueue(1)
        await handle.result(LIMIT_S)
    provider.shutdown()
    assert receiver.paths == {"/v1/metrics application/x-protobuf"}
    (part,) = receiver.metrics
    assert text(part.resource.attributes)["service.name"] == "orders"
    (scope,) = part.scope_metrics
    assert scope.scope.name == "asyncjobs"
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    found = {metric.name: metric for metric in scope.metrics}
    known = {each.name: each for each in WORKER}
    assert found.keys() <= known.keys()
    # There was nothing to be reclaimed, no schedule, and perhaps no time to look how late the loop
    # is.
    assert known.keys() - found.keys() <= {
        "asyncjobs.jobs.reclaimed",
        "asyncjobs.schedule.lag",
        "asyncjobs.schedule.ticks",
        "asyncjobs.worker.event_loop.lag",
    }
    for metric in found.values():
        check_metric(metric)
    assert ends(found["messaging.process.duration"]) == {
        ("retry", "tests.worker.jobs.Broken", 1),
        ("succeeded", None, 1),
    }
    assert sums(found["messaging.client.consumed.messages"]) == [2]
    assert sums(found["asyncjobs.jobs.deduplicated"]) == [1]
    assert sums(found["asyncjobs.jobs.finished"]) == [1]
    assert sums(found["asyncjobs.jobs.active"]) == [0]


def check_metric(metric: Metric) -> None:
    """Kind, unit, buckets and names of attributes as the table says."""
    made = {each.name: each for each in WORKER}[metric.name]
    assert (metric.unit, metric.description) == (made.unit, made.text)
    data = metric.histogram if made.kind == "histogram" else metric.sum
    assert metric.WhichOneof("data") == ("histogram" if made.kind == "histogram" else "sum")
    assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    if made.kind != "histogram":
        assert metric.sum.is_monotonic == (made.kind == "counter")
    for point in data.data_points:
        assert set(text(point.attributes)) <= set(made.attributes)
    for point in metric.histogram.data_points:
        assert tuple(point.explicit_bounds) == made.buckets


def text(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {each.key: each.value.string_value for each in attributes}


def ends(metric: Metric) -> set[tuple[str | None, str | None, int]]:
    """Outcome, error type and number of what was measured."""
    points = [(text(point.attributes), point.count) for point in metric.histogram.data_points]
    return {
        (about.get("asyncjobs.job.outcome"), about.get("error.type"), count)
        for about, count in points
    }


def sums(metric: Metric) -> list[int]:
    return [point.as_int for point in metric.sum.data_points]


def links(span: Span) -> dict[str, bytes]:
    return {link.attributes[0].value.string_value: link.span_id for link in span.links}
