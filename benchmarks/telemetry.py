"""What telemetry costs a worker: `python -m benchmarks.telemetry [--instructions]`.

The no-op of `benchmarks.noop`, results off, by turns in one run:

- removed: nothing of `asyncjobs.telemetry` is started when the app opens;
- off: as it is by default, without an SDK: nobody listens;
- traces, metrics, both, and traces of which one in a hundred is sampled: OpenTelemetry's SDK
  with its batch processor and its periodic reader. Spans are handed to an exporter that
  counts them and drops them, so that what is measured is this process and not a receiver
  beside it. The jobs carry the trace of their enqueue.

`--instructions` counts machine instructions by callgrind instead, those of a bulk enqueue too.
`--span` measures OpenTelemetry alone, without asyncjobs: a span like that of an attempt.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from asyncjobs import AsyncJobs
from asyncjobs.telemetry.telemetry import Telemetry
from benchmarks import _rounds, floor, instructions, timing

if TYPE_CHECKING:
    from asyncjobs.testing.servers import Server

QUEUE: Final = "bench"
CONCURRENCY: Final = 1_000
MODULE: Final = "benchmarks.telemetry"
REMOVED, OFF, TRACES, METRICS, BOTH = "removed", "off", "traces", "metrics", "traces and metrics"
SAMPLED: Final = "traces, 1 % sampled"
SHAPES: Final = (REMOVED, OFF, SAMPLED, METRICS, TRACES, BOTH)


_exported: list[int] = []


def _tracer_provider(share: float) -> Any:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class Drop(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            _exported.append(len(spans))
            return SpanExportResult.SUCCESS

    sampler = None if share == 1 else ParentBased(TraceIdRatioBased(share))
    provider = TracerProvider(sampler)
    # Its own 2,048 would be full now and then, and a span that is thrown away costs less.
    provider.add_span_processor(BatchSpanProcessor(Drop(), max_queue_size=1 << 20))
    return provider


def _meter_provider() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        MetricExporter,
        MetricExportResult,
        MetricsData,
        PeriodicExportingMetricReader,
    )

    class Drop(MetricExporter):
        def export(
            self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            return

    return MeterProvider([PeriodicExportingMetricReader(Drop(), export_interval_millis=1_000)])


async def _measure(shape: str, url: str, jobs: int) -> float:
    """Seconds from the first job's start until the last one is settled."""
    if shape == REMOVED:
        Telemetry.start = lambda self, *arguments: None  # type: ignore[method-assign]
    share = {TRACES: 1.0, BOTH: 1.0, SAMPLED: 0.01}.get(shape, 0.0)
    tracer = _tracer_provider(share) if share else None
    meter = _meter_provider() if shape in (METRICS, BOTH) else None
    app = AsyncJobs(url, result_ttl=0, tracer_provider=tracer, meter_provider=meter)
    job = app.job(queue=QUEUE, name="bench.noop")(timing.noop)
    async with app:
        await timing.fill(app, job, jobs)
        seconds = await timing.seconds_of(app, QUEUE, concurrency=CONCURRENCY, jobs=jobs)
    for provider in (tracer, meter):
        if provider is not None:
            provider.shutdown()
    if share == 1 and sum(_exported) < jobs:
        raise SystemExit(f"{sum(_exported):,} spans of {jobs:,} attempts were exported")
    return seconds


def _check(shape: _rounds.Shape, server: Server) -> None:
    """Nothing to ask from outside: each run asks the store whether all jobs are settled."""


def _by_instructions(jobs: int) -> None:
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not on PATH; install the package valgrind")
    counts = {}
    for shape in SHAPES:
        few = instructions.count(MODULE, shape, 2_000)
        counts[shape] = (instructions.count(MODULE, shape, 2_000 + jobs) - few) / jobs
    print("| telemetry | instructions a job | against removed |\n|---|---:|---:|")
    for shape, count in counts.items():
        print(f"| {shape} | {count:,.0f} | {count / counts[REMOVED]:.3f} |")


def _span_alone(spans: int) -> None:
    """A span with the attributes and the link of an attempt: started, attached, ended."""
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, set_span_in_context

    attributes = {f"messaging.attribute.{number}": "value" for number in range(13)}
    creation = SpanContext(1 << 64, 1 << 32, is_remote=True, trace_flags=TraceFlags(1))
    print("| SDK alone | µs a span |\n|---|---:|")
    for name, share in (("sampled", 1.0), ("1 % sampled", 0.01)):
        provider = _tracer_provider(share)
        tracer = provider.get_tracer("benchmark")
        began_s = time.perf_counter()
        for _ in range(spans):
            span = tracer.start_span(
                "process", Context(), SpanKind.CONSUMER, dict(attributes), [Link(creation)]
            )
            token = attach(set_span_in_context(span))
            if span.is_recording():
                span.set_attribute("outcome", "succeeded")
            span.end()
            detach(token)
        took_s = time.perf_counter() - began_s
        provider.shutdown()
        print(f"| {name} | {took_s / spans * 1e6:.1f} |")


def main() -> None:
    """Print one table row for each way to be seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    _rounds.add_arguments(parser, jobs=20_000)
    parser.add_argument("--instructions", action="store_true", help="count them, by callgrind")
    parser.add_argument("--span", action="store_true", help="measure OpenTelemetry alone")
    options = parser.parse_args()
    if options.span:
        _span_alone(options.jobs)
        return
    if options.measure:
        job = _measure(options.measure, options.url, options.jobs)
        print(json.dumps({"seconds": floor.run_on_fastest_loop(job)}))
        return
    if options.instructions:
        _by_instructions(options.jobs)
        return
    shapes = [_rounds.Shape(name, MODULE, options.jobs) for name in SHAPES]
    figures, facts = _rounds.measure(options, shapes, _check)
    print("| telemetry | jobs/s | µs a job | against removed |\n|---|---:|---:|---:|")
    for name, figure in figures.items():
        pairs = zip(figure.rates, figures[REMOVED].rates, strict=True)
        kept = statistics.median(own / bare for own, bare in pairs)
        print(f"| {name} | {figure} | {1e6 / figure.median:.1f} | {kept:.2f} |")
    _rounds.print_environment(facts)
    _rounds.save(options.json, figures, facts)


if __name__ == "__main__":
    main()
