"""The job functions of the tests of traces. A worker finds them at module level only."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from opentelemetry import baggage, trace

from asyncjobs import Snooze
from tests.worker import jobs


async def looks() -> dict[str, Any]:
    """What the job sees of its trace and its baggage."""
    context = trace.get_current_span().get_span_context()
    return {
        "span": context.span_id,
        "trace": context.trace_id % 2**53,
        "baggage": dict(baggage.get_all()),
    }


async def snoozes_once(times: list[int]) -> None:
    """Runs later, once."""
    count = jobs.stage.count("snoozed")
    jobs.stage.note("snoozed")
    if not count:
        raise Snooze(0)


async def sleeps() -> None:
    await asyncio.sleep(60)


async def passes_on(left: int) -> None:
    """Enqueues itself so many times."""
    if left:
        assert jobs.stage.again is not None
        await jobs.stage.again.enqueue(left - 1)


async def passes_on_untraced(left: int) -> None:
    """The same; all but the last one have no span."""
    if left:
        assert jobs.stage.again is not None
        mode: Any = "none" if left > 1 else "link"
        await jobs.stage.again.options(tracing=mode).enqueue(left - 1)


def looks_in_thread() -> int:
    return trace.get_current_span().get_span_context().span_id


async def calls(url: str) -> int:
    """Asks another service."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).status_code
