"""What people do with a flow that is stored: look at it, cancel it, retry it, ask why it waits.

Works on a store alone, without the app: the command line does the same by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from asyncjobs.errors import FlowNotFound, UsageError
from asyncjobs.jobs.context import from_ms
from asyncjobs.jobs.flow_info import NodeInfo, node_info
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.flow_definition import NodeDefinition
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.store.control import Pause
from asyncjobs.store.flows import MOST_NODES, FlowRecord, FlowRef, FlowState, NodeRecord
from asyncjobs.store.seam import Backend

__all__ = [
    "Stored",
    "awaited_by",
    "bury",
    "cancel",
    "drop",
    "ends_of",
    "find",
    "infos",
    "jobs_of",
    "names_of",
    "nodes_of",
    "refs_of",
    "why",
]

STEP: Final = 500
"""Jobs that are asked for together."""


class Stored(NamedTuple):
    """A node as the store has it, and what it says of its job. `definition` is None for a node
    that cannot be read."""

    record: NodeRecord
    definition: NodeDefinition | None
    job: JobRecord | None

    @property
    def definition_or_fail(self) -> NodeDefinition:
        """Raises UsageError."""
        if self.definition is None:
            raise UsageError(f"the stored node {self.record.node!r} cannot be read")
        return self.definition

    @property
    def state(self) -> State | None:
        """None for a node that was never stored: the attempt that has added it has failed."""
        if self.record.state is not None:
            return self.record.state
        if self.job is None:
            return None
        return self.job.state


async def find(store: Backend, flow: FlowRef) -> FlowRecord:
    """Raises FlowNotFound."""
    (record,) = await store.flows.get([flow])
    if record is None:
        raise FlowNotFound(
            f"flow {flow}: unknown, or it was dropped; a flow is kept for keep= after its end"
        )
    return record


async def nodes_of(store: Backend, flow: FlowRef) -> list[Stored]:
    """All nodes of a flow, in the order of their numbers."""
    found: list[Stored] = []
    after: str | None = None
    while True:
        page = await store.flows.nodes(flow, after)
        # Those that have ended need no question about their jobs.
        living = [node.job for node in page.nodes if node.state is None]
        jobs = dict(zip(living, await jobs_of(store, living), strict=True))
        found += [Stored(node, _definition(node), jobs.get(node.job)) for node in page.nodes]
        after = page.after
        if after is None:
            return sorted(found, key=_place)


async def jobs_of(store: Backend, refs: Sequence[JobRef]) -> list[JobRecord | None]:
    """What is known of these jobs, asked in steps."""
    found: list[JobRecord | None] = []
    for first in range(0, len(refs), STEP):
        found += await store.get(refs[first : first + STEP])
    return found


def _definition(node: NodeRecord) -> NodeDefinition | None:
    try:
        return NodeDefinition.decode(node.definition)
    except BadRecord:
        # It is shown all the same, and a retry says that it cannot make this one anew.
        return None


def _place(node: Stored) -> tuple[list[int], str]:
    key = ""
    if node.definition is not None:
        key = node.definition.key
    return [int(part) for part in key.split(".") if part.isdecimal()], node.record.node


async def infos(store: Backend, flow: FlowRef) -> list[NodeInfo]:
    """The nodes of a flow, for people."""
    stored = await nodes_of(store, flow)
    names = names_of(stored)
    found = [node_info(each.record, each.definition, each.job, names) for each in stored]
    return [each for each in found if each is not None]


def names_of(stored: Sequence[Stored]) -> dict[str, str]:
    """The name of each node by its key."""
    return {each.definition.key: each.record.node for each in stored if each.definition is not None}


async def cancel(store: Backend, flow: FlowRef, result_ttl_ms: int) -> bool:
    """Cancel all nodes that have not ended; False if the flow has ended already."""
    await find(store, flow)
    # First, so that a node that ends just now lets the flow end as cancelled.
    # rule:40 a flow that is cancelled ends as that, whatever its last node does
    if not await store.flows.mark_cancelled(flow):
        return False
    outcome = None
    if result_ttl_ms:
        outcome = Outcome(State.CANCELLED).encode()
    barriers: set[tuple[str, str]] = set()
    # A node that runs may add others before its worker hears of the cancel.
    for _ in range(3):
        living = [
            each.record.job
            for each in await nodes_of(store, flow)
            if each.state is not None and not each.state.is_final
        ]
        if not living:
            break
        for first in range(0, len(living), STEP):
            part = living[first : first + STEP]
            held = await store.flows.obstacles(part)
            barriers |= {
                (job.queue, obstacle.barrier)
                for job, obstacle in zip(part, held, strict=True)
                if obstacle is not None and f"{flow.id}:start." in obstacle.barrier
            }
            await store.cancel(part, outcome, result_ttl_ms)
    if barriers:
        # Those of a flow that was never started would stand for ever.
        await store.flows.start(flow, sorted(barriers))
    return True


async def drop(store: Backend, flow: FlowRef) -> bool:
    """Drop a flow that has ended, with the dead letters of its nodes; False if it has not ended."""
    record = await find(store, flow)
    if not record.state.is_final:
        return False
    # Their letters would say nothing without the flow, and a retry of one would be in vain.
    dead = [
        each.record.job for each in await nodes_of(store, flow) if each.record.state is State.DEAD
    ]
    await bury(store, dead)
    return await store.flows.drop(flow)


async def bury(store: Backend, jobs: Sequence[JobRef]) -> None:
    """Delete the dead letters of these jobs, as far as they are kept."""
    for first in range(0, len(jobs), STEP):
        letters = await store.dead.find(jobs[first : first + STEP], cut=0)
        await store.dead.purge([letter.key for letter in letters if letter is not None])


async def refs_of(store: Backend, flow: FlowRef, names: Sequence[str]) -> list[JobRef]:
    """The jobs of these nodes. Raises UsageError for one that the flow does not have."""
    found: list[JobRef] = []
    for first in range(0, len(names), MOST_NODES):
        part = names[first : first + MOST_NODES]
        nodes = await store.flows.look_up(flow, part)
        for name, node in zip(part, nodes, strict=True):
            if node is None:
                raise UsageError(f"flow {flow} has no node {name!r}; see handle.nodes()")
            found.append(node.job)
    return found


async def why(store: Backend, flow: FlowRef, name: str) -> str:
    """What a node waits for, in words. Raises FlowNotFound and UsageError."""
    record = await find(store, flow)
    (node,) = await store.flows.look_up(flow, [name])
    if node is None:
        raise UsageError(f"flow {flow} has no node {name!r}; see handle.nodes()")
    if node.state is not None:
        return f"it has ended: {node.state}"
    # A node is entered before its job is stored, and a job may never be.
    (job,) = await store.get([node.job])
    if job is None:
        return "its job is not stored: the attempt that has added it has not succeeded"
    if record.state is FlowState.OPENED:
        return (
            "the flow was not started: its jobs are being stored, or whoever did that has died; "
            "cancel the flow if so"
        )
    if job.state is State.HELD:
        return await _why_held(store, flow, node, job)
    queue = node.job.queue
    # From the nearest reason to the farthest.
    if job.state is State.SCHEDULED:
        reason = "it waits for its time"
        if job.held_by:
            reason = f"it waits for an {job.held_by}"
        return f"{reason}{_until(job)}"
    if job.state is State.RUNNING:
        return f"it runs, on the worker {job.holder}"
    pauses: Sequence[Pause] = ()
    if store.capabilities.control:
        (pauses,) = await store.control.queues.paused([queue])
    if any(pause.function is None for pause in pauses):
        return f"the queue {queue!r} is paused"
    definition = _definition(node)
    if definition is not None and any(each.function == definition.function for each in pauses):
        return f"the job function {definition.function} is paused in the queue {queue!r}"
    (counts,) = await store.inspect.queues.counts([queue])
    if not counts.workers:
        return f"no live worker serves the queue {queue!r}"
    return f"it is ready, and waits for a free worker of the queue {queue!r}"


def _until(job: JobRecord) -> str:
    if job.due_ms is None:
        return ""
    return f", until {from_ms(job.due_ms).isoformat(timespec='seconds')}"


async def _why_held(store: Backend, flow: FlowRef, node: NodeRecord, job: JobRecord) -> str:
    (obstacle,) = await store.flows.obstacles([node.job])
    # It waits for its unique key, or at a limit.
    if obstacle is None:
        return f"it is held by {job.held_by}"
    stored = await nodes_of(store, flow)
    by_key = {each.definition.key: each for each in stored if each.definition is not None}
    own = _definition(node)
    waits: list[str] = []
    if own is not None:
        for key in awaited_by(own, ends_of(by_key)):
            parent = by_key.get(key)
            if parent is not None and parent.record.state is None and parent.state is not None:
                waits.append(f"{parent.record.node} ({parent.state})")
    if not waits:
        return f"it waits for {obstacle.arrivals or 0} more ends of the nodes before it"
    # Ten thousand names would help nobody.
    shown = ", ".join(waits[:10])
    if len(waits) > 10:
        shown += f" and {len(waits) - 10:,} more"
    return f"it waits for {shown}"


def awaited_by(node: NodeDefinition, ends: Mapping[str, list[str]]) -> list[str]:
    """The keys of the nodes that this one waits for: its parents, and the ends of what these have
    added while they ran."""
    found = [key for key, _ in node.parents]
    # The list grows while it is read: what was added may have added more.
    for key in found:
        found += ends.get(key, ())
    return found


def ends_of(by_key: Mapping[str, Stored]) -> dict[str, list[str]]:
    """For each node that has added others: those of them that its dependents wait for."""
    found: dict[str, list[str]] = {}
    for key, each in by_key.items():
        definition = each.definition
        if definition is not None and definition.added_by and definition.is_end:
            found.setdefault(definition.added_by, []).append(key)
    return found
