"""The flows of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from asyncjobs.model.refs import JobRef
from asyncjobs.store.flows import (
    MOST_FLOWS,
    MOST_NODES,
    FlowPage,
    FlowRecord,
    FlowRef,
    FlowState,
    NewFlow,
    NodePage,
    NodeRecord,
    Obstacle,
    check_nodes,
    unknown_flow,
)
from asyncjobs.store.memory.flow_book import FlowBook
from asyncjobs.store.memory.queues import Queues

__all__ = ["MemoryFlows"]


class MemoryFlows:
    """See `Flows`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def _book(self, flow: FlowRef) -> FlowBook:
        return self._queues.sound(flow.queue).barriers.flows

    async def open(self, flow: NewFlow) -> FlowRef | None:
        self._queues.raise_broken([flow.ref.queue])
        self._queues.note_used(flow.ref.queue)
        return self._book(flow.ref).open(flow, self._queues.now_ms())

    async def add_nodes(self, flow: FlowRef, nodes: Sequence[NodeRecord]) -> None:
        check_nodes(nodes)
        if not self._book(flow).add_nodes(flow.id, nodes):
            raise unknown_flow(flow)

    async def start(self, flow: FlowRef, barriers: Sequence[tuple[str, str]]) -> None:
        self._queues.raise_broken([flow.queue, *(queue for queue, _ in barriers)])
        now = self._queues.now_ms()
        self._book(flow).start(flow.id, now)
        for name, barrier in barriers:
            queue = self._queues.queue(name)
            queue.barriers.start(barrier, str(flow), now)
            queue.signal_all()

    async def get(self, flows: Sequence[FlowRef]) -> list[FlowRecord | None]:
        found = [self._book(flow).get(flow.id) for flow in flows]
        return [None if flow is None else flow.record for flow in found]

    async def page(
        self,
        queue: str,
        states: frozenset[FlowState] = frozenset(),
        after: str | None = None,
        limit: int = 100,
    ) -> FlowPage:
        flows = [
            flow
            for flow in self._queues.sound(queue).barriers.flows.listed(states)
            if after is None or flow.cursor < after
        ]
        page = flows[: min(limit, MOST_FLOWS)]
        next_page = None
        if len(page) < len(flows):
            next_page = page[-1].cursor
        return FlowPage([flow.record for flow in page], next_page, self._queues.now_ms())

    async def counts(self, queues: Sequence[str]) -> list[dict[FlowState, int]]:
        self._queues.raise_broken(queues)
        by_name = self._queues.by_name
        answer: list[dict[FlowState, int]] = []
        for name in queues:
            counts: dict[FlowState, int] = {}
            if name in by_name:
                for flow in by_name[name].barriers.flows.listed(()):
                    counts[flow.state] = counts.get(flow.state, 0) + 1
            answer.append(counts)
        return answer

    async def nodes(
        self, flow: FlowRef, after: str | None = None, limit: int = MOST_NODES
    ) -> NodePage:
        return self._book(flow).nodes(flow.id, after, min(limit, MOST_NODES))

    async def look_up(self, flow: FlowRef, nodes: Sequence[str]) -> list[NodeRecord | None]:
        found = self._book(flow).get(flow.id)
        return [None if found is None else found.nodes.get(node) for node in nodes]

    async def obstacles(self, jobs: Sequence[JobRef]) -> list[Obstacle | None]:
        return [self._queues.sound(job.queue).barriers.obstacle(job.id) for job in jobs]

    async def mark_cancelled(self, flow: FlowRef) -> bool:
        return self._book(flow).mark_cancelled(flow.id, self._queues.now_ms())

    async def reopen(
        self, flow: FlowRef, nodes: int, ended_ms: int | None = None, gone: int = 0
    ) -> bool:
        found = self._book(flow).get(flow.id)
        # rule:36 a flow that has run again is not opened for who has not seen that, in memory
        if found is not None and ended_ms not in (None, found.ended_ms):
            return False
        return self._book(flow).reopen(flow.id, nodes, gone, self._queues.now_ms())

    async def drop(self, flow: FlowRef) -> bool:
        return self._book(flow).drop(flow.id)
