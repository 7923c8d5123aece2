"""What becomes of flows that somebody has opened and never started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.flows import FlowRef, Flows

__all__ = ["cancel_unstarted"]


class KeepsFlows(Protocol):
    """The part of a store that this needs."""

    @property
    def flows(self) -> Flows: ...

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]: ...


async def cancel_unstarted(store: KeepsFlows, flows: Iterable[FlowRef]) -> None:
    """Cancel the jobs of these flows, and end them as cancelled.

    Their maker has died between two calls, or has given up. A call that dies half-way leaves the
    flow as it was, so a later one does it all.
    """
    for flow in flows:
        barriers: set[tuple[str, str]] = set()
        after: str | None = None
        while True:
            page = await store.flows.nodes(flow, after)
            jobs = [node.job for node in page.nodes if node.state is None]
            found = await store.flows.obstacles(jobs)
            pairs = zip(jobs, found, strict=True)
            barriers |= {(job.queue, each.barrier) for job, each in pairs if each is not None}
            # Behind the look: a job that is cancelled is behind no barrier any more.
            await store.cancel(jobs, None, 0)
            after = page.after
            if after is None:
                break
        await store.flows.mark_cancelled(flow)
        # Barriers that wait for the start alone would stand for ever. Nothing is behind them.
        await store.flows.start(flow, sorted(barriers))
