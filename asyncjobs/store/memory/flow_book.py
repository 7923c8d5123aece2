"""The flows whose home is one queue in memory: their records, and the ends of their nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import FlowNode
from asyncjobs.store.flows import (
    UNSTARTED_MS,
    FlowCounts,
    FlowRecord,
    FlowRef,
    FlowState,
    NewFlow,
    NodePage,
    NodeRecord,
)

__all__ = ["Flow", "FlowBook"]


class Flow:
    """A flow and its nodes."""

    def __init__(self, new: NewFlow, now: int) -> None:
        self.new = new
        self.state = FlowState.OPENED
        self.opened_ms = now
        self.since_ms = now
        """Since when it waits to be started."""
        self.ended_ms: int | None = None
        self.total = new.nodes
        self.left = new.nodes
        """How many ends have not come."""
        self.nodes: dict[str, NodeRecord] = {}
        self.bad: set[str] = set()
        """The nodes that keep it from succeeding."""
        self.is_cancelled = False

    @property
    def record(self) -> FlowRecord:
        """The flow as it stands."""
        ended: dict[State, int] = {}
        for node in self.nodes.values():
            if node.state is not None:
                ended[node.state] = ended.get(node.state, 0) + 1
        return FlowRecord(
            self.new.ref,
            self.new.name,
            self.state,
            FlowCounts(self.total, ended),
            self.opened_ms,
            self.ended_ms,
            self.new.keep_ms,
            self.new.definition,
        )

    @property
    def cursor(self) -> str:
        """Where it stands among all flows of its queue."""
        return f"{self.opened_ms:016d} {self.new.ref.id}"

    def put(self, node: NodeRecord) -> None:
        """Enter a node, or put it in the place of one with its name."""
        before = self.nodes.get(node.node)
        # rule:40 who has lost a job cannot undo that it has ended, in memory
        if before is not None and before.state is not None and before.job == node.job:
            return
        self.nodes[node.node] = node._replace(state=None)
        self.bad.discard(node.node)

    def end_node(self, name: str, job: JobRef, state: State, *, may_succeed: bool) -> None:
        """A node has ended."""
        before = self.nodes.get(name)
        # rule:36 the end of a revived job replaces the one before and counts no more, in memory
        if before is None or before.state is None:
            self.left -= 1
        if before is None:
            before = NodeRecord(name, job, b"")
        self.nodes[name] = before._replace(job=job, state=state)
        self.bad.discard(name)
        if not may_succeed:
            self.bad.add(name)

    def final_state(self) -> FlowState:
        """The state of this flow when all ends have come."""
        # Before the start nothing has run.
        if self.is_cancelled or self.state in (FlowState.OPENED, FlowState.CANCELLED):
            return FlowState.CANCELLED
        if self.bad:
            return FlowState.FAILED
        return FlowState.SUCCEEDED


class FlowBook:
    """Owns the flows of a queue, which is their home."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._flows: dict[str, Flow] = {}
        self._names: dict[str, str] = {}
        """The flow that holds each name."""

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, id: str) -> Flow | None:
        """A flow that is kept."""
        return self._flows.get(id)

    def listed(self, states: Collection[FlowState]) -> list[Flow]:
        """Those in these states, the newest first; no states: all."""
        flows = [flow for flow in self._flows.values() if not states or flow.state in states]
        return sorted(flows, key=lambda flow: flow.cursor, reverse=True)

    def nodes(self, id: str, after: str | None, limit: int) -> NodePage:
        """Some nodes of a flow, in the order of their names."""
        flow = self._flows.get(id)
        if flow is None:
            return NodePage([], None)
        names = sorted(name for name in flow.nodes if after is None or name > after)
        page = [flow.nodes[name] for name in names[:limit]]
        next_page = None
        if len(names) > limit:
            next_page = page[-1].node
        return NodePage(page, next_page)

    def unstarted(self, now: int) -> Iterator[FlowRef]:
        """Flows that somebody has opened, and not started in time."""
        for flow in self._flows.values():
            if flow.state is FlowState.OPENED and flow.since_ms + UNSTARTED_MS <= now:
                yield flow.new.ref

    # Changes

    def open(self, new: NewFlow, now: int) -> FlowRef | None:
        """See `Flows.open`."""
        if new.ref.id in self._flows:
            return None
        if new.is_unique:
            # rule:36 of the flows with one name one goes on at a time, in memory
            if new.name in self._names:
                return FlowRef(self._queue, self._names[new.name])
            self._names[new.name] = new.ref.id
        self._flows[new.ref.id] = Flow(new, now)
        return None

    def start(self, id: str, now: int) -> None:
        """The flow runs from now on."""
        flow = self._flows.get(id)
        if flow is not None and flow.state is FlowState.OPENED:
            flow.state = FlowState.RUNNING
            self._look(flow, now)

    def add_nodes(self, id: str, nodes: Sequence[NodeRecord]) -> bool:
        """Enter nodes; False for an unknown flow."""
        flow = self._flows.get(id)
        if flow is None:
            return False
        for node in nodes:
            flow.put(node)
        return True

    def expect(self, id: str, number: int) -> bool:
        """Let a flow wait for so many more ends; False for an unknown flow."""
        flow = self._flows.get(id)
        if flow is None:
            return False
        flow.total += number
        flow.left += number
        return True

    def record(
        self, node: FlowNode, job: JobRef, state: State, now: int, *, may_succeed: bool
    ) -> None:
        """A job of a flow has ended."""
        flow = self._flows.get(node.flow)
        if flow is not None:
            flow.end_node(node.node, job, state, may_succeed=may_succeed)
            self._look(flow, now)

    def mark_cancelled(self, id: str, now: int) -> bool:
        """See `Flows.mark_cancelled`."""
        flow = self._flows.get(id)
        if flow is None or flow.state.is_final:
            return False
        flow.is_cancelled = True
        # rule:36 a flow that was never started ends when it is cancelled, in memory
        if flow.state is FlowState.OPENED:
            self._end(flow, now)
        return True

    def reopen(self, id: str, nodes: int, gone: int, now: int) -> bool:
        """See `Flows.reopen`."""
        flow = self._flows.get(id)
        if flow is None or not flow.state.is_final:
            return False
        flow.state = FlowState.OPENED
        flow.since_ms = now
        flow.ended_ms = None
        flow.is_cancelled = False
        # Nodes that are not tried again keep their ends.
        flow.left = nodes
        flow.total -= gone
        if flow.new.is_unique:
            self._names.setdefault(flow.new.name, id)
        return True

    def drop(self, id: str) -> bool:
        """See `Flows.drop`."""
        flow = self._flows.get(id)
        if flow is None or not flow.state.is_final:
            return False
        del self._flows[id]
        return True

    def prune(self, limit: int, now: int) -> None:
        """Drop flows whose time is over."""
        over = [
            flow.new.ref.id
            for flow in self._flows.values()
            if flow.ended_ms is not None and flow.ended_ms + flow.new.keep_ms <= now
        ]
        for id in over[:limit]:
            del self._flows[id]

    def _look(self, flow: Flow, now: int) -> None:
        """End a flow whose nodes have ended."""
        if flow.state.is_final:
            # A job was revived: what is kept of the flow says how it is now.
            flow.state = flow.final_state()
        # rule:36 a flow ends with the last of its nodes, in memory
        elif flow.left <= 0 and not self._is_empty(flow):
            self._end(flow, now)

    def _is_empty(self, flow: Flow) -> bool:
        """Whether it has no nodes, and was not started: more may come."""
        return flow.state is FlowState.OPENED and not flow.total

    def _end(self, flow: Flow, now: int) -> None:
        flow.state = flow.final_state()
        flow.ended_ms = now
        if self._names.get(flow.new.name) == flow.new.ref.id:
            del self._names[flow.new.name]
