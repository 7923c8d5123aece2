"""What people see of a flow and of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncjobs.jobs.context import from_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.flow_definition import FlowDefinition, NodeDefinition
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.flows import FlowRecord, FlowState, NodeRecord

__all__ = ["FlowInfo", "NodeInfo", "flow_info", "node_info"]


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """A flow as it was when it was asked for. Times are aware datetimes in UTC.

    id: the public id, `queue/id`. name: the one that was given; '' without one. state: see
    `FlowState`. nodes: how many there are. ended: how many of them have ended in which state.
    keep_s: how long it is kept after its end, in seconds. context: its values.
    """

    id: str
    name: str
    state: FlowState
    nodes: int
    ended: Mapping[State, int]
    opened_at: datetime
    ended_at: datetime | None
    keep_s: float
    context: Mapping[str, Any]

    @property
    def done(self) -> int:
        """How many nodes have ended."""
        return sum(self.ended.values())

    @property
    def failed(self) -> int:
        """How many nodes are dead."""
        return self.ended.get(State.DEAD, 0)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node of a flow. `state` is that of its job; `after` are the names of the nodes that it
    waits for, with what their failure does to it. `added_by`: the node that has added it by
    `expand`."""

    name: str
    job: JobRef
    function: str
    state: State
    after: Mapping[str, str]
    held_by: str | None = None
    added_by: str | None = None


def flow_info(record: FlowRecord) -> FlowInfo:
    """A flow of the store, for people."""
    context: Mapping[str, Any] = {}
    # A foreign writer, or a later release. Its state can be seen all the same.
    with suppress(BadRecord):
        context = FlowDefinition.decode(record.definition).context
    ended_at = None
    if record.ended_ms is not None:
        ended_at = from_ms(record.ended_ms)
    return FlowInfo(
        str(record.ref),
        record.name,
        record.state,
        record.counts.nodes,
        dict(record.counts.ended),
        from_ms(record.opened_ms),
        ended_at,
        record.keep_ms / 1000,
        context,
    )


def node_info(
    record: NodeRecord,
    definition: NodeDefinition | None,
    job: JobRecord | None,
    names: Mapping[str, str],
) -> NodeInfo | None:
    """A node. `job`: what is known of its job, unless it has ended. `names`: of nodes by their
    keys. None for one that was never stored: the attempt that has added it has failed."""
    state = record.state
    held_by = None
    # The flow keeps ends alone. What has not ended is known by its job.
    if state is None:
        if job is None:
            return None
        state, held_by = job.state, job.held_by
    # A later release may have written it.
    if definition is None:
        return NodeInfo(record.node, record.job, "", state, {}, held_by)
    after = {names[key]: str(how) for key, how in definition.parents if key in names}
    added_by = names.get(definition.added_by)
    return NodeInfo(record.node, record.job, definition.function, state, after, held_by, added_by)
