"""Flows at the seam: what is kept of a flow besides its jobs.

A flow is many jobs that wait for each other, in one queue or several. Barriers let them go on, in
the step in which the last job in front has ended. The record of a flow lives in one queue, its
home. There each end of a node is recorded, in the step of that end or by way of an outbox. So
nobody has to look for the state of a flow, and a flow is kept and dropped as one.

A flow counts as a barrier, too, under its own id: a `Barrier` with the queue and the id of a flow,
in a batch of new jobs or among the effects of a success, lets the flow wait for so many more ends.
So a job that adds nodes does it in the step of its success, before its own end is recorded.

Making a flow takes several calls. `open` enters its record, and `add_nodes` its nodes. Enqueues
store its jobs, the first of them behind a barrier in each queue. `start` lets these barriers fall.
So half a flow never runs. One whose maker has died before the start is cancelled by a prune, with
all jobs that its nodes name.

A node fails unless its job succeeds or is skipped. A failed node makes its flow fail, unless its
job has arrivals, and each says `run` or `skip`. Each node has a name of its own. The end of a job
that was revived replaces the end of its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from asyncjobs.errors import UsageError
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef

__all__ = [
    "MOST_FLOWS",
    "MOST_NODES",
    "UNSTARTED_MS",
    "FlowCounts",
    "FlowPage",
    "FlowRecord",
    "FlowRef",
    "FlowState",
    "Flows",
    "NewFlow",
    "NodePage",
    "NodeRecord",
    "Obstacle",
    "check_nodes",
    "unknown_flow",
]

MOST_FLOWS: Final = 1_000
"""The most flows of one page."""
MOST_NODES: Final = 1_000
"""The most nodes of one page, and of one call of `add_nodes`."""
UNSTARTED_MS: Final = 86_400_000
"""A flow that is not started for so long is cancelled by a prune of its home."""


class FlowState(StrEnum):
    """Where a flow is: opened → running → one of the final states."""

    OPENED = "opened"
    """Its jobs are being stored, and none of them runs yet."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """All nodes have ended, and each that failed was allowed to."""
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (FlowState.OPENED, FlowState.RUNNING)


class FlowRef(NamedTuple):
    """Names a flow: its home queue, and its id, which is unique there."""

    queue: str
    id: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.id}"


class NewFlow(NamedTuple):
    """A flow to enter. The store reads none of `definition`.

    `nodes`: how many ends it waits for. `keep_ms`: how long it is kept after its end, with the
    nodes. `name`: what people see. `is_unique`: while a flow of this name has not ended, another
    one is not entered.
    """

    ref: FlowRef
    name: str
    nodes: int
    keep_ms: int
    definition: bytes
    is_unique: bool = False


class FlowCounts(NamedTuple):
    """How many nodes of a flow there are, and how many have ended in which way."""

    nodes: int
    ended: dict[State, int]


class FlowRecord(NamedTuple):
    """A flow as it stands. Times are by the store's clock, in milliseconds since the epoch."""

    ref: FlowRef
    name: str
    state: FlowState
    counts: FlowCounts
    opened_ms: int
    ended_ms: int | None
    keep_ms: int
    definition: bytes


class FlowPage(NamedTuple):
    """Some flows of one queue, the newest first. The next page begins at `after`."""

    flows: list[FlowRecord]
    after: str | None
    now_ms: int


class NodeRecord(NamedTuple):
    """A node of a flow. `state` is there once it has ended. `definition` is what was stored with
    it: the store does not read it."""

    node: str
    job: JobRef
    definition: bytes
    state: State | None = None


class NodePage(NamedTuple):
    """Some nodes of a flow, in no order. The next page begins at `after`; None at the end."""

    nodes: list[NodeRecord]
    after: str | None


class Obstacle(NamedTuple):
    """A barrier in front of a job: how many arrivals it waits for, None once it has fallen."""

    barrier: str
    arrivals: int | None


class Flows(Protocol):
    """The records of flows: `Backend.flows`."""

    async def open(self, flow: NewFlow) -> FlowRef | None:
        """Enter a flow. The ref of another one when that holds the name; None: it is entered. The
        same flow again changes nothing."""
        ...

    async def add_nodes(self, flow: FlowRef, nodes: Sequence[NodeRecord]) -> None:
        """Enter nodes, for people and for a retry. One that is there is replaced, and has not
        ended any more. But one whose end is recorded stays, if it is the same job: whoever has lost
        that job may enter it late. Raises UsageError for an unknown flow."""
        ...

    async def start(self, flow: FlowRef, barriers: Sequence[tuple[str, str]]) -> None:
        """Let the flow run: count these barriers (queue, id) down by one, each once however often
        it is called. Once the flow runs all of them are counted, though the caller dies."""
        ...

    async def get(self, flows: Sequence[FlowRef]) -> list[FlowRecord | None]:
        """These flows. None: unknown, or dropped."""
        ...

    async def page(
        self,
        queue: str,
        states: frozenset[FlowState] = frozenset(),
        after: str | None = None,
        limit: int = 100,
    ) -> FlowPage:
        """Flows of one home queue; no states: all. A page may be shorter than `limit`."""
        ...

    async def counts(self, queues: Sequence[str]) -> list[dict[FlowState, int]]:
        """How many flows of each home queue are in which state."""
        ...

    async def nodes(
        self, flow: FlowRef, after: str | None = None, limit: int = MOST_NODES
    ) -> NodePage:
        """The nodes of a flow."""
        ...

    async def look_up(self, flow: FlowRef, nodes: Sequence[str]) -> list[NodeRecord | None]:
        """These nodes of a flow by name."""
        ...

    async def obstacles(self, jobs: Sequence[JobRef]) -> list[Obstacle | None]:
        """For each job the barrier that it is held behind; None when it is not."""
        ...

    async def mark_cancelled(self, flow: FlowRef) -> bool:
        """Let the flow end as cancelled when its nodes have ended; False when it has ended, or is
        unknown. Its jobs are cancelled by `Backend.cancel`. A flow that was not started ends at
        once. Its barriers stand until `start` is called for them."""
        ...

    async def reopen(
        self, flow: FlowRef, nodes: int, ended_ms: int | None = None, gone: int = 0
    ) -> bool:
        """Let an ended flow wait for so many more ends, before `start` lets it run again.

        `ended_ms`: only if that was its last end; None: whenever it was. `gone`: how many of its
        nodes it has no longer. False when it has not ended, or not then, or is unknown."""
        ...

    async def drop(self, flow: FlowRef) -> bool:
        """Drop a flow that has ended, with all that is kept of it; False when it has not, or is
        unknown."""
        ...


def unknown_flow(flow: FlowRef) -> UsageError:
    """The error for nodes of a flow that is not there."""
    return UsageError(f"there is no flow {flow}: open it before you add nodes to it")


def check_nodes(nodes: Sequence[NodeRecord]) -> None:
    """Raises UsageError for more nodes than one call may add."""
    if len(nodes) > MOST_NODES:
        raise UsageError(
            f"{len(nodes):,} nodes are to be added at once, and {MOST_NODES:,} may be: add them in "
            "parts"
        )
