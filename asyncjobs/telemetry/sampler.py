"""A sampler that keeps an attempt if the enqueue of its job was kept."""

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
    """Samples an attempt if the enqueue of its job was sampled.

    In mode `link` an attempt begins a trace of its own. A sampler that looks at parents finds
    none and decides again, so most enqueues that are kept would have no attempt that is kept.

    otherwise: the sampler for all other spans, and for those with a parent.
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
        """Decide like the enqueue that a link points to. With a parent, or without such a link,
        `otherwise` decides."""
        sampler = self._otherwise
        # With a parent, `otherwise` can decide by it.
        if not get_current_span(parent_context).get_span_context().is_valid:
            creation = _creation(links or ())
            if creation is not None:
                sampler = _BY_FLAG[creation.trace_flags.sampled]
        return sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """The name of this sampler in OpenTelemetry's lists."""
        return f"LinkedParentSampler{{{self._otherwise.get_description()}}}"


def _creation(links: Sequence[Link]) -> SpanContext | None:
    for link in links:
        if (link.attributes or {}).get(LINK) == CREATION:
            return link.context
    return None
