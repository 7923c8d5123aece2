"""Draws docs/img/trace-*.svg from the spans of real runs on a store in memory.

    python tools/trace_pictures.py [FOLDER]

One picture for each mode of tracing: an order whose job fails once and then asks a bank. The
times are those of the run, so the files change each time and are drawn anew by hand; a test
compares all but the times.
"""

from __future__ import annotations

import asyncio
import sys
from html import escape
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer

from asyncjobs import AsyncJobs, RetryPolicy, Worker, constant
from asyncjobs.options.checks import TracingMode

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "img"
MODES: Final[tuple[TracingMode, ...]] = ("link", "child", "auto")
WIDTH, LEFT, RIGHT, ROW, HEAD = 760, 250, 90, 26, 30
COLOURS: Final = {"PRODUCER": "#3d5a80", "CONSUMER": "#2a9d8f", "INTERNAL": "#adb5bd"}


def spans_of(mode: TracingMode) -> list[ReadableSpan]:
    """What one order leaves in this mode."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    asyncio.run(_order(provider, provider.get_tracer("shop"), mode))
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


async def _order(provider: TracerProvider, tracer: Tracer, mode: TracingMode) -> None:
    app = AsyncJobs("memory:", tracer_provider=provider, tracing=mode)
    job = app.job(name="charge", retry=RetryPolicy(2, constant(0.02)))(charge)
    bank.tracer, bank.calls = tracer, 0
    async with app:
        with tracer.start_as_current_span("checkout"):
            await asyncio.sleep(0.005)
            handle = await job.enqueue(42)
        async with Worker(app):
            await handle.result(timeout=10)


class Bank:
    """Is busy the first time."""

    tracer: Tracer
    calls = 0


bank = Bank()


async def charge(order: int) -> None:
    """The job: asks the bank."""
    bank.calls += 1
    with bank.tracer.start_as_current_span("ask the bank", record_exception=False):
        await asyncio.sleep(0.03)
        if bank.calls == 1:
            raise ConnectionError


def draw(mode: str, spans: list[ReadableSpan]) -> str:
    """A waterfall: a row for each span, traces one under the other, links as dashed lines."""
    traces: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        traces.setdefault(span.get_span_context().trace_id, []).append(span)
    first = min(_start(span) for span in spans)
    scale = (WIDTH - LEFT - RIGHT) / (max(span.end_time or 0 for span in spans) - first)
    parts: list[str] = []
    middle: dict[int, tuple[float, float]] = {}
    y = HEAD
    for number, members in enumerate(traces.values(), 1):
        parts.append(f'<text x="8" y="{y + 16}" font-weight="bold">trace {number}</text>')
        y += ROW
        by_id = {one.get_span_context().span_id: one for one in members}
        for span in members:
            x = LEFT + (_start(span) - first) * scale
            parts += _row(span, _depth(span, by_id), x, y, scale)
            middle[span.get_span_context().span_id] = (x, y + 12)
            y += ROW
    parts += _links(spans, middle)
    title = f"tracing={mode}: an order, its job, and the retry"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="18" font-size="13">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def _start(span: ReadableSpan) -> int:
    return span.start_time or 0


def _row(span: ReadableSpan, depth: int, x: float, y: int, scale: float) -> list[str]:
    """Its name, its bar and how long it took."""
    took_ns = (span.end_time or 0) - _start(span)
    wide = max(3.0, took_ns * scale)
    failed = span.status.status_code is StatusCode.ERROR
    colour = "#c8553d" if failed else COLOURS[span.kind.name]
    return [
        f'<text x="{20 + 14 * depth}" y="{y + 16}">{escape(span.name)}</text>',
        f'<rect x="{x:.1f}" y="{y + 5}" width="{wide:.1f}" height="14" rx="2" fill="{colour}"/>',
        f'<text x="{x + wide + 5:.1f}" y="{y + 16}">{took_ns / 1e6:.1f} ms</text>',
    ]


def _links(spans: list[ReadableSpan], middle: dict[int, tuple[float, float]]) -> list[str]:
    """A dashed line from each span to those that link to it."""
    parts: list[str] = []
    for span in spans:
        for link in span.links:
            if (start := middle.get(link.context.span_id)) is not None:
                end = middle[span.get_span_context().span_id]
                parts.append(
                    f'<path d="M{start[0]:.1f} {start[1]} L{end[0]:.1f} {end[1]}" fill="none" '
                    'stroke="#6c757d" stroke-dasharray="3 3"/>'
                )
    return parts


def _depth(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> int:
    depth, parent = 0, span.parent
    while parent is not None and parent.span_id in by_id:
        depth, parent = depth + 1, by_id[parent.span_id].parent
    return depth


def main(arguments: list[str]) -> None:
    """Write one picture a mode."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(exist_ok=True)
    for mode in MODES:
        file = folder / f"trace-{mode}.svg"
        file.write_text(draw(mode, spans_of(mode)), encoding="utf-8")
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
