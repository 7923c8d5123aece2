"""One trace from a request to a FastAPI app, over the enqueue, to a call inside the job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from asyncjobs import Worker
from asyncjobs.integrations import lifespan
from tests.telemetry import tasks
from tests.telemetry.recording import Recording, context_of, links_of
from tests.worker.kit import LIMIT_S, NewApp, register

fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
pytestmark = pytest.mark.anyio


@pytest.fixture
def instrumented(recording: Recording) -> Iterator[None]:
    """OpenTelemetry's own instrumentation of httpx."""
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=recording.provider)
    yield
    instrumentor.uninstrument()


class _Stock(BaseHTTPRequestHandler):
    """The service that the job asks; keeps the trace it was asked in."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers["traceparent"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stock() -> Iterator[str]:
    _Stock.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stock) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stock"
        server.shutdown()
        thread.join(LIMIT_S)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.mark.parametrize("mode", ["child", "link"])
async def test_from_the_request_to_a_call_in_the_job(
    new_app: NewApp, recording: Recording, instrumented: None, stock: str, mode: str
) -> None:
    app = new_app(tracer_provider=recording.provider, tracing=mode)
    job = register(app, tasks.calls)
    web = fastapi.FastAPI(lifespan=lifespan(app))

    @web.post("/orders")
    async def order() -> str:
        return (await job.enqueue(stock)).id

    FastAPIInstrumentor.instrument_app(web, tracer_provider=recording.provider)
    async with (
        web.router.lifespan_context(web),
        Worker(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://web") as client,
    ):
        assert (await client.post("/orders")).status_code == 200
        (attempt,) = await recording.ended(1)
    (sent,) = recording.sent()
    server = next(span for span in recording.spans(SpanKind.SERVER) if span.name == "POST /orders")
    inner = next(span for span in recording.spans(SpanKind.CLIENT) if stock in str(span.attributes))
    assert f"{context_of(inner).span_id:016x}" in _Stock.asked[0]
    assert parent_of(sent) == context_of(server).span_id
    assert parent_of(inner) == context_of(attempt).span_id
    if mode == "child":
        assert parent_of(attempt) == context_of(sent).span_id
        every = {context_of(span).trace_id for span in (server, sent, attempt, inner)}
        assert len(every) == 1
    else:
        assert parent_of(attempt) is None
        assert links_of(attempt) == {"creation": context_of(sent).span_id}
        assert context_of(inner).trace_id == context_of(attempt).trace_id
