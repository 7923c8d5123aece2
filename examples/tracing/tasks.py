"""The jobs of a shop. Whoever imports them exports traces.

asyncjobs worker tasks:app
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, constant

# OTEL_SERVICE_NAME says who exports, OTEL_EXPORTER_OTLP_ENDPOINT where to. What has not been
# sent by then is sent when the process ends.
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("tasks")

app = AsyncJobs()


class BankBusy(Exception):
    """The bank asks to come again."""


@app.job(retry=RetryPolicy(3, constant(0.1)))
async def charge(order: int, *, ctx: JobContext = INJECTED) -> None:
    """Fails once. Each attempt is a trace of its own, linked to what came before."""
    with tracer.start_as_current_span("ask the bank"):
        if ctx.attempt == 1:
            raise BankBusy
    await receipt.enqueue(order)


@app.job(tracing="child")
async def receipt(order: int) -> None:
    """Belongs to the trace of the attempt that enqueues it."""
    with tracer.start_as_current_span("print"):
        print(f"order {order} is paid")
