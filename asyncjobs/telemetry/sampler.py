"""A sampler for attempts that only link to the span that enqueued their job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from asyncjobs.telemetry.spans import CREATION, LINK

__all__ = ["LinkedParentSampler"]

_BY_FLAG: Final = {True: ALWAYS_ON, False: ALWAYS_OFF}


class LinkedParentSampler(Sampler):
    """Samples an attempt if the enqueue of its job was sampled; else asks `otherwise`.

    In mode `link` an attempt begins a trace of its own, so a sampler that looks at parents
    finds none, and draws anew: most sampled enqueues would link to nothing that was kept.
    """

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """As the span that a link says is the creation; with a parent, or without such a
        link, as `otherwise` says."""
        sampler = self._otherwise
        if not get_current_span(parent_context).get_span_context().is_valid:
            creation = _creation(links or ())
            if creation is not None:
                sampler = _BY_FLAG[creation.trace_flags.sampled]
        return sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """As it is named where samplers are listed."""
        return f"LinkedParentSampler{{{self._otherwise.get_description()}}}"


def _creation(links: Sequence[Link]) -> SpanContext | None:
    for link in links:
        if (link.attributes or {}).get(LINK) == CREATION:
            return link.context
    return None
