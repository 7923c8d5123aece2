"""Retrying a flow that has ended: the jobs of some of its nodes are made anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from asyncjobs.client import flow_acts
from asyncjobs.client.flow_acts import Stored, awaited_by, ends_of
from asyncjobs.client.flow_jobs import Batches, start_barrier
from asyncjobs.errors import EncodeError, StoreError, UsageError
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.flow_definition import FlowDefinition, NodeDefinition
from asyncjobs.model.flow_mark import (
    REFERENCES,
    Leaf,
    Reference,
    Run,
    Value,
    context_of,
    flow_mark,
    job_id,
    mark_header,
    parents_of,
    read_references,
    stored_references,
    with_parents,
)
from asyncjobs.model.gates import gate_of
from asyncjobs.model.headers import Headers, fields_of, traced
from asyncjobs.model.job import NewJob, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Barrier, FlowNode, OnFailure, Terms
from asyncjobs.policy.graph import Edges, fronts_of
from asyncjobs.store.flows import MOST_NODES, FlowRecord, FlowRef, FlowState, NodeRecord
from asyncjobs.store.seam import Backend, EnqueueBatch
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["Which", "retry"]

Which: TypeAlias = Literal["failed", "all"]

_NOT_SUCCEEDED: Final = (State.DEAD, State.DISCARDED, State.CANCELLED)


class _Again(NamedTuple):
    """The nodes that run again, by their keys, and the round of the jobs of all nodes. `undone`:
    nodes that one of these has added, and which it may add once more, or not."""

    flow: FlowRef
    chosen: dict[str, Stored]
    undone: dict[str, Stored]
    rounds: dict[str, int]
    round: int


async def retry(
    store: Backend, flow: FlowRef, which: Which = "failed", from_: str | None = None
) -> int:
    """Run nodes again; returns how many. See `FlowHandle.retry`."""
    record = await flow_acts.find(store, flow)
    # Its callbacks wait for jobs that were added later, and nothing says which.
    with suppress(BadRecord):
        if FlowDefinition.decode(record.definition).kind == "batch":
            raise UsageError(f"{flow} is a batch, and only flows are retried; retry its dead jobs")
    stored = await flow_acts.nodes_of(store, flow)
    again = _chosen(flow, stored, which, from_)
    # rule:40 a flow that runs has nothing to run again, and says so
    if record.ended_ms is None:
        raise _not_ended(record)
    if not again.chosen:
        return 0
    jobs, records, barriers = _made(again, stored)
    await _reopen(store, record, again)
    try:
        # Somebody could revive a letter, and the node would end twice.
        dead = [
            each.record.job for each in again.chosen.values() if each.record.state is State.DEAD
        ]
        await flow_acts.bury(store, dead)
        records += _blank(again)
        for first in range(0, len(records), MOST_NODES):
            await store.flows.add_nodes(flow, records[first : first + MOST_NODES])
        functions = [_definition(each).function for each in again.chosen.values()]
        # Another one than that of the first run, which has fallen.
        start = start_barrier(flow, again.round)
        for made in Batches(barriers, start).cut(jobs, functions):
            enqueued = await store.enqueue(EnqueueBatch(new_id(), made.jobs, made.barriers))
            for refused in enqueued.refused.values():
                raise refused
    except BaseException as error:
        await _take_back(store, flow, error)
        raise
    # From here on nothing is lost: a start that is made again counts once.
    queues = {job.queue for job in jobs if job.terms is not None and job.terms.behind == start}
    await store.flows.start(flow, [(queue, start) for queue in sorted(queues)])
    return len(jobs)


async def _reopen(store: Backend, record: FlowRecord, again: _Again) -> None:
    """Raises UsageError if the flow has not ended, or has run again since it was looked at."""
    # Those that were never stored did not count.
    gone = sum(each.record.state is not None for each in again.undone.values())
    # Who has retried it since then has made the same jobs: they would not run once more, and the
    # flow would wait for them.
    ended_ms = record.ended_ms
    # rule:40 a flow that has not ended is not retried
    if ended_ms is None or not await store.flows.reopen(
        again.flow, len(again.chosen), ended_ms, gone
    ):
        raise _not_ended(record)


def _not_ended(record: FlowRecord) -> UsageError:
    if record.state is FlowState.OPENED:
        return UsageError(
            f"the jobs of flow {record.ref} are being stored, by its start or by another retry; if "
            "that has broken off, cancel the flow, and retry it then"
        )
    return UsageError(
        f"flow {record.ref} has not ended, or somebody else has just retried it; wait for its end, "
        "or cancel it first"
    )


async def _take_back(store: Backend, flow: FlowRef, error: BaseException) -> None:
    """A retry has broken off: what it has stored must not run. `error` is what has ended it, and
    says so if that cannot be done now."""
    try:
        await cancel_unstarted(store, [flow])
    except StoreError as failed:
        # What came first says more, and the caller gets that.
        error.add_note(
            f"flow {flow} could not be closed again: {failed}; none of its jobs runs. Cancel it "
            "when the store answers, and retry it then."
        )


def _chosen(flow: FlowRef, stored: Sequence[Stored], which: Which, from_: str | None) -> _Again:
    by_key = {each.definition.key: each for each in stored if each.definition is not None}
    rounds = {key: _round(each) for key, each in by_key.items()}
    if from_ is not None:
        keys = _from(flow, by_key, from_)
    elif which == "failed":
        keys = {key for key, each in by_key.items() if _has_failed(key, each)}
    elif which == "all":
        keys = {key for key, each in by_key.items() if not each.definition_or_fail.added_by}
    else:
        raise UsageError(f"retry({which!r}): give 'failed', 'all', or from_= with a node")
    # What a node has added comes again when that node runs again.
    undone = {
        key: each for key, each in by_key.items() if any(part in keys for part in _adders(key))
    }
    chosen = {key: each for key, each in by_key.items() if key in keys and key not in undone}
    return _Again(flow, chosen, undone, rounds, max(rounds.values(), default=0) + 1)


def _has_failed(key: str, node: Stored) -> bool:
    if node.record.state is None:
        # rule:40 a node whose job was never stored runs with the next retry
        # Its flow has ended. So it stood there when an earlier start or retry broke off. What a
        # node adds while it runs is stored with its success, or not at all.
        return "." not in key
    return node.record.state in _NOT_SUCCEEDED


def _adders(key: str) -> Iterable[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _from(flow: FlowRef, by_key: dict[str, Stored], name: str) -> set[str]:
    first = next((key for key, each in by_key.items() if each.record.node == name), None)
    if first is None:
        raise UsageError(f"flow {flow} has no node {name!r}; see handle.nodes()")
    ends = ends_of(by_key)
    children: dict[str, list[str]] = {}
    for key, each in by_key.items():
        for parent in awaited_by(_definition(each), ends):
            children.setdefault(parent, []).append(key)
    # By hand, for a chain of a thousand nodes would be too deep for recursion.
    found = {first}
    stack = [first]
    while stack:
        for child in children.get(stack.pop(), ()):
            if child not in found:
                found.add(child)
                stack.append(child)
    return found


def _definition(node: Stored) -> NodeDefinition:
    return node.definition_or_fail


def _round(node: Stored) -> int:
    try:
        mark = flow_mark(Envelope.decode(_definition(node).envelope).headers)
    except (BadRecord, NewerEnvelope) as error:
        raise UsageError(f"node {node.record.node!r} cannot be made anew: {error}") from error
    if mark is None:
        return 0
    return mark.round


def _made(
    again: _Again, stored: Sequence[Stored]
) -> tuple[list[NewJob], list[NodeRecord], list[Barrier]]:
    """The jobs, the records of their nodes, and the barriers that they wait behind."""
    flow, chosen, _, _, round = again
    by_key = {each.definition.key: each for each in stored if each.definition is not None}
    numbers = {key: number for number, key in enumerate(chosen)}
    ends = ends_of(by_key)
    # Nodes that stay as they are have ended, and nobody has to wait for them.
    edges = [_edges(_definition(each), numbers, ends) for each in chosen.values()]
    queues = [each.record.job.queue for each in chosen.values()]
    graph = fronts_of(queues, edges)
    barriers = [
        Barrier(front.queue, f"{flow.id}:again.{number}.{round}", len(front.edges))
        for number, front in enumerate(graph.fronts)
    ]
    jobs: list[NewJob] = []
    records: list[NodeRecord] = []
    anew = {job_id(flow.id, key, again.rounds[key]): job_id(flow.id, key, round) for key in chosen}
    for number, each in enumerate(chosen.values()):
        arrivals = tuple(
            Arrival(barriers[front].queue, barriers[front].id, how)
            for front, how in graph.onward[number]
        )
        behind = start_barrier(flow, round)
        front = graph.behind[number]
        if front is not None:
            behind = barriers[front].id
        job = _job(again, each, arrivals, behind, anew)
        jobs.append(job)
        definition = _definition(each)._replace(envelope=job.envelope)
        records.append(NodeRecord(each.record.node, job.ref, definition.encode()))
    return jobs, records, barriers


def _blank(again: _Again) -> list[NodeRecord]:
    """Nodes that come again when those that have added them run, in the state of one that was
    never stored: an old failure must not make the flow fail, and an old end must not be shown."""
    flow, round = again.flow, again.round
    blank: list[NodeRecord] = []
    for key, each in again.undone.items():
        job = JobRef(each.record.job.queue, job_id(flow.id, key, round))
        # rule:40 what a node has added counts no more when that node runs again
        blank.append(NodeRecord(each.record.node, job, each.record.definition))
    return blank


def _edges(node: NodeDefinition, numbers: dict[str, int], ends: dict[str, list[str]]) -> Edges:
    """The nodes that this one waits for, of those that run again."""
    found: dict[int, OnFailure] = {}
    stack: list[tuple[str, OnFailure]] = []
    stack.extend(node.parents)
    while stack:
        key, how = stack.pop()
        if key in numbers:
            found.setdefault(numbers[key], how)
        # What the node has added may run again without the node itself.
        stack.extend((end, how) for end in ends.get(key, ()))
    return tuple(sorted(found.items()))


def _job(
    again: _Again,
    node: Stored,
    arrivals: tuple[Arrival, ...],
    behind: str,
    anew: Mapping[str, str],
) -> NewJob:
    """The new job of a node. `anew`: the ids of all new jobs by those that the nodes had before."""
    definition = _definition(node)
    flow, chosen, _, rounds, round = again
    try:
        envelope = Envelope.decode(definition.envelope)
        before = flow_mark(envelope.headers)
        references = read_references(envelope.headers)
        if before is None:
            raise BadRecord("it says not to which flow it belongs")
        own = FlowNode(*flow, node.record.node)
        mark = before._replace(node=own, round=round, arrivals=arrivals)
        present = rounds | dict.fromkeys(chosen, round)
        fields = fields_of(envelope.headers)
        # rule:40 a node that runs again passes its limits again
        gate = gate_of(fields)
        fields |= mark_header(mark, context_of(envelope.headers))
        # The results of nodes that run again are those of their new jobs.
        if references:
            moved = [Reference(each.path, _moved(each.value, present)) for each in references]
            fields |= stored_references(moved)
        else:
            fields.pop(REFERENCES, None)
        fields |= _linked(envelope.headers.trace, anew)
        at_ms = now_ms()
        if envelope.expires_ms is not None:
            # Its old expiry may have passed. A worker would then discard it at once.
            envelope.expires_ms += at_ms - envelope.enqueued_ms
        envelope.enqueued_ms = at_ms
        envelope.headers = Headers(fields)
        raw = envelope.encode()
    except (BadRecord, NewerEnvelope, EncodeError) as error:
        raise UsageError(f"node {node.record.node!r} cannot be made anew: {error}") from error
    terms = Terms(gate=gate, behind=behind, arrivals=arrivals, node=own)
    id = job_id(flow.id, definition.key, round)
    queue = node.record.job.queue
    return NewJob(queue, id, definition.priority, raw, definition.delay_ms, None, True, terms)


def _linked(trace: Any, anew: Mapping[str, str]) -> dict[str, Any]:
    """The header for a job whose attempts link to the jobs that run in front of it now."""
    parents = parents_of(trace)
    if not parents:
        return {}
    return traced(
        with_parents(trace, [JobRef(each.queue, anew.get(each.id, each.id)) for each in parents])
    )


def _moved(value: Value, rounds: dict[str, int]) -> Value:
    """The same results, of the jobs that the nodes have now."""
    if isinstance(value, Leaf):
        return value._replace(round=rounds.get(value.key, value.round))
    if isinstance(value, Run):
        return [_moved(leaf, rounds) for leaf in value.leaves()]
    if isinstance(value, dict):
        return {name: _moved(each, rounds) for name, each in value.items()}
    found: list[Value] = []
    for each in value:
        moved = _moved(each, rounds)
        if isinstance(each, Run) and isinstance(moved, list):
            # A run is a piece of the list that it stands in.
            found += moved
        else:
            found.append(moved)
    return found
