"""What leaves the process: OpenTelemetry's own OTLP/HTTP exporter, read by its protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from asyncjobs import RetryPolicy, constant
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, register, working

pytestmark = pytest.mark.anyio


class Receiver(ThreadingHTTPServer):
    """Keeps what exporters post to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.got: list[ResourceSpans] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.add(f"{self.path} {self.headers['Content-Type']}")
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
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(receiver.url)))
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
        Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET,
    )  # fmt: skip
    assert [event.name for event in first.events] == ["retry_scheduled"]
    found = {each.key: each.value for each in second.attributes}
    assert found["messaging.system"].string_value == "asyncjobs"
    assert found["asyncjobs.job.attempt"].int_value == 2
    assert ("server.port" in found) == (kind != "memory")


def links(span: Span) -> dict[str, bytes]:
    return {link.attributes[0].value.string_value: link.span_id for link in span.links}
