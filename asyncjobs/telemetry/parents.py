"""Links from the attempts of a job in a flow to those of the jobs in front of it.

A worker keeps the span of the last attempt with the outcome of a job in a flow. A job behind it
knows the ids of at most eight jobs in front. So its worker asks for their outcomes before it starts
the span, with one question. Jobs that are in no flow never come here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from opentelemetry.trace import Link

from asyncjobs.model.codec import BadRecord
from asyncjobs.model.job import JobRecord
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.telemetry import carrier, spans
from asyncjobs.telemetry.spans import failed

__all__ = ["LookUp", "links_to"]

LookUp: TypeAlias = Callable[[Sequence[JobRef]], Awaitable[Sequence[JobRecord | None]]]
"""Asks the store about jobs."""

LIMIT_S: Final = 1.0
"""A job starts without these links if the store does not answer by then."""
_PARENT: Final = {spans.LINK: spans.PARENT}


async def links_to(parents: Sequence[JobRef], look_up: LookUp) -> list[Link]:
    """A link to the last attempt of each job that has left its span. Raises nothing but
    CancelledError: a job runs without links, too."""
    try:
        async with asyncio.timeout(LIMIT_S):
            records = await look_up(parents)
        return [link for record in records if (link := _link(record)) is not None]
    except asyncio.CancelledError:
        raise
    # rule:16 a job starts though nobody can say what was in front of it
    except BaseException:
        failed("the links to the jobs in front")
        return []


def _link(record: JobRecord | None) -> Link | None:
    if record is None or record.outcome is None:
        return None
    try:
        span = carrier.span_in(Outcome.decode(record.outcome).span)
    except BadRecord:
        return None
    if not span.is_valid:
        return None
    return Link(span, _PARENT)
