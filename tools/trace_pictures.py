"""Draws docs/img/trace-*.svg from the spans of real runs on a store in memory.

    python tools/trace_pictures.py

One picture for each mode of tracing: an order whose job fails once and then asks a bank. The
times are those of the run, so the files change each time; they are drawn anew by hand.
"""

# ruff: noqa: INP001  a program, not a package

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
from asyncjobs.config import TracingMode

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "img"
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
    first = min(span.start_time or 0 for span in spans)
    whole = max(span.end_time or 0 for span in spans) - first
    scale = (WIDTH - LEFT - RIGHT) / whole
    parts: list[str] = []
    middle: dict[int, tuple[float, float]] = {}
    y = HEAD
    for number, members in enumerate(traces.values(), 1):
        parts.append(f'<text x="8" y="{y + 16}" font-weight="bold">trace {number}</text>')
        y += ROW
        for span in members:
            x = LEFT + ((span.start_time or 0) - first) * scale
            wide = max(3.0, ((span.end_time or 0) - (span.start_time or 0)) * scale)
            depth = _depth(span, {one.get_span_context().span_id: one for one in members})
            failed = span.status.status_code is StatusCode.ERROR
            colour = "#c8553d" if failed else COLOURS[span.kind.name]
            parts.append(f'<text x="{20 + 14 * depth}" y="{y + 16}">{escape(span.name)}</text>')
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 5}" width="{wide:.1f}" height="14" rx="2" '
                f'fill="{colour}"/>'
            )
            took = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
            parts.append(f'<text x="{x + wide + 5:.1f}" y="{y + 16}">{took:.1f} ms</text>')
            middle[span.get_span_context().span_id] = (x, y + 12)
            y += ROW
    for span in spans:
        for link in span.links:
            if (start := middle.get(link.context.span_id)) is not None:
                end = middle[span.get_span_context().span_id]
                parts.append(
                    f'<path d="M{start[0]:.1f} {start[1]} L{end[0]:.1f} {end[1]}" fill="none" '
                    'stroke="#6c757d" stroke-dasharray="3 3"/>'
                )
    title = f"tracing={mode}: an order, its job, and the retry"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="18" font-size="13">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def _depth(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> int:
    depth, parent = 0, span.parent
    while parent is not None and parent.span_id in by_id:
        depth, parent = depth + 1, by_id[parent.span_id].parent
    return depth


def main() -> None:
    """Write one picture a mode."""
    FOLDER.mkdir(exist_ok=True)
    modes: tuple[TracingMode, ...] = ("link", "child", "auto")
    for mode in modes:
        file = FOLDER / f"trace-{mode}.svg"
        file.write_text(draw(mode, spans_of(mode)), encoding="utf-8")
        sys.stdout.write(f"{file.relative_to(FOLDER.parent.parent)}\n")


if __name__ == "__main__":
    main()
