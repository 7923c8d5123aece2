"""From the nodes of a flow to its jobs, with the barriers that they wait behind. Asks no store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from asyncjobs.client.waiters import in_chunks
from asyncjobs.errors import ConfigError, EncodeError, UsageError
from asyncjobs.jobs.drawing import Drawing, DrawnNode, Shape, Slot
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.typed import Written
from asyncjobs.model.codec import check_json, to_json
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.flow_definition import FlowDefinition, NodeDefinition, Parents
from asyncjobs.model.flow_mark import (
    MOST_PARENTS,
    FlowMark,
    Leaf,
    Reference,
    Value,
    job_id,
    mark_header,
    stored_references,
    with_parents,
)
from asyncjobs.model.headers import Headers, fields_of, traced
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Barrier, FlowNode, OnFailure, Terms
from asyncjobs.policy.graph import MOST_ONWARD, Graph, fronts_of
from asyncjobs.store.flows import FlowRef, NodeRecord

__all__ = [
    "MOST_CONTEXT",
    "STEP",
    "Batches",
    "FlowDraft",
    "FlowJobs",
    "FlowSpec",
    "Made",
    "check_context",
    "check_steady",
    "flow_jobs",
    "start_barrier",
    "unsteady",
    "variants_of",
]

MOST_CONTEXT: Final = 4_096
"""Bytes of the values of a flow, as JSON. Each of its jobs carries them."""
STEP: Final = 1_000
"""Jobs that are made in one go."""
MOST_NAMED: Final = 100
"""Up to so many jobs have their own id before they are made, so that their spans tell it."""


class FlowSpec(NamedTuple):
    """What all nodes of a flow have in common. `base`: what their numbers begin with; empty unless
    a node adds them while it runs. `first`: the number of the first one. `is_open`: they run as
    soon as they are stored."""

    flow: FlowRef
    name: str
    keep_ms: int
    context: dict[str, Any]
    base: str = ""
    first: int = 0
    round: int = 0
    is_open: bool = False

    def key(self, number: int) -> str:
        return f"{self.base}{self.first + number}"

    def barrier(self, front: int) -> str:
        """The id of a barrier: unique in all queues, and in all rounds."""
        return f"{self.flow.id}:{self.base}{self.first}.{front}.{self.round}"


class Made(NamedTuple):
    """Jobs of one queue to store together with these barriers."""

    jobs: Sequence[NewJob]
    names: Sequence[str]
    barriers: Sequence[Barrier]


class FlowJobs(NamedTuple):
    """All jobs of a flow, in the order of its nodes. `barriers`: those of its fronts."""

    drawing: Drawing
    jobs: list[NewJob]
    barriers: list[Barrier]
    nodes: list[NodeRecord]

    @property
    def functions(self) -> list[str]:
        """The name of the job function of each job."""
        return [node.call.function.name for node in self.drawing.nodes]

    def batches(self, flow: FlowRef) -> Iterator[Made]:
        """The jobs in batches of one queue."""
        return Batches(self.barriers, start_barrier(flow)).cut(self.jobs, self.functions)


class Batches:
    """Cuts jobs and their barriers into batches of one queue each, so that the store takes each in
    one step or not at all. A barrier comes with the first job behind it.

    `starts`: the queues in which jobs wait for the start of the flow.
    """

    def __init__(self, barriers: Sequence[Barrier], start: str) -> None:
        self.starts: dict[str, None] = {}
        self._start = start
        self._standing = {(barrier.queue, barrier.id): barrier for barrier in barriers}

    def cut(self, jobs: Sequence[NewJob], functions: Sequence[str]) -> Iterator[Made]:
        """These jobs, which come behind those of the calls before."""
        by_queue: dict[str, list[int]] = {}
        for place, job in enumerate(jobs):
            by_queue.setdefault(job.queue, []).append(place)
        for places in by_queue.values():
            stored = 0
            for chunk, _ in in_chunks([jobs[place] for place in places]):
                names = [functions[place] for place in places[stored : stored + len(chunk)]]
                stored += len(chunk)
                yield Made(chunk, names, self._needed(chunk))

    def _needed(self, jobs: Sequence[NewJob]) -> list[Barrier]:
        needed: list[Barrier] = []
        for job in jobs:
            behind = None if job.terms is None else job.terms.behind
            # rule:40 a job is never stored before the barrier that it waits behind
            if behind == self._start:
                if job.queue not in self.starts:
                    self.starts[job.queue] = None
                    needed.append(Barrier(job.queue, self._start, 1))
            elif behind is not None:
                barrier = self._standing.pop((job.queue, behind), None)
                if barrier is not None:
                    needed.append(barrier)
        return needed


def start_barrier(flow: FlowRef, round: int = 0) -> str:
    """The barrier of a queue that the first jobs of a flow wait behind until all are stored."""
    return f"{flow.id}:start.{round}"


def check_context(context: Any) -> dict[str, Any]:
    """Values for a whole flow. Raises EncodeError and ConfigError."""
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise ConfigError("context= of a flow is a dict of JSON values")
    check_json(context, "context= of the flow")
    size = len(to_json(context))
    # rule:40 what each job of a flow carries is bounded
    if size > MOST_CONTEXT:
        raise EncodeError(
            f"context= of the flow takes {size:,} bytes, and each of its jobs carries it: keep it "
            f"within {MOST_CONTEXT:,}, or store the data elsewhere and put its key there"
        )
    return context


def variants_of(
    nodes: Sequence[DrawnNode], spec: FlowSpec, sender: object
) -> list[JobFunction[..., Any]]:
    """The job function of each node, with results that are kept as long as the flow.

    Raises UsageError for a call of another app, and for options that no node can have.
    """
    known: dict[int, JobFunction[..., Any]] = {}
    found: list[JobFunction[..., Any]] = []
    for number, node in enumerate(nodes):
        function = node.call.function
        variant = known.get(id(function))
        if variant is None:
            # Ten thousand nodes most often have one function.
            variant = known[id(function)] = _variant(node, function, spec, sender)
        if len(nodes) <= MOST_NAMED:
            variant = variant.options(id=job_id(spec.flow.id, spec.key(number), spec.round))
        found.append(variant)
    return found


def _variant(
    node: DrawnNode, function: JobFunction[..., Any], spec: FlowSpec, sender: object
) -> JobFunction[..., Any]:
    # Its registry may belong to another app, and then its jobs go to another store.
    if function.sender is not sender:
        raise UsageError(
            f"node {node.title!r}: {function.name} belongs to another AsyncJobs; a flow has the "
            "job functions of one app"
        )
    settings = function.settings
    # rule:40 a node that may not be stored is refused: the flow would wait for it
    if function.is_unique:
        raise UsageError(
            f"node {node.title!r}: {function.name} has a unique key, so its job may not be stored, "
            "and the flow would wait for it; write options(unique=None), or start the whole flow "
            "with unique=True"
        )
    if settings.id is not None:
        raise UsageError(
            f"node {node.title!r}: the jobs of a flow have the ids that it makes; leave id= out, "
            "and give flow.add(name=...)"
        )
    if settings.result_ttl_ms >= spec.keep_ms:
        return function
    return function.options(result_ttl=spec.keep_ms / 1000)


class FlowDraft:
    """The jobs of a flow while they are made, part by part: the first are stored meanwhile.

    `raw`: those of its calls, as they were made by themselves. `rest`: what the ends of the flow
    count down besides, for nodes that are added while it runs. Raises UsageError for a flow that
    cannot be stored.
    """

    def __init__(
        self,
        drawing: Drawing,
        spec: FlowSpec,
        raw: Sequence[NewJob],
        rest: Sequence[Arrival] = (),
    ) -> None:
        self.drawing = drawing
        self.spec = spec
        self._raw = raw
        self._graph = fronts_of([job.queue for job in raw], [node.edges for node in drawing.nodes])
        self.barriers = [
            Barrier(front.queue, spec.barrier(number), len(front.edges))
            for number, front in enumerate(self._graph.fronts)
        ]
        self._names = [node.name for node in drawing.nodes]
        # What refers to a node needs its queue and its number, and nothing else.
        self._places = {number: (raw[number].queue, spec.key(number)) for number in range(len(raw))}
        self._ends = set(drawing.outlet.ends)
        self._rest = rest
        for node, onward in zip(drawing.nodes, self._graph.onward, strict=True):
            _check_onward(node, onward)

    def __len__(self) -> int:
        return len(self._raw)

    def definition(self) -> bytes:
        """What is stored with the flow."""
        outlet = self.drawing.outlet
        ends = tuple(self._names[number] for number in outlet.ends)
        value = _named(outlet.value, self._names)
        return FlowDefinition(value, ends, self.spec.context).encode()

    def functions(self, numbers: range) -> list[str]:
        """The names of the job functions of these nodes."""
        return [self.drawing.nodes[number].call.function.name for number in numbers]

    def make(self, numbers: range) -> tuple[list[NewJob], list[NodeRecord]]:
        """The jobs of these nodes, and what is kept of the nodes."""
        jobs: list[NewJob] = []
        records: list[NodeRecord] = []
        for number in numbers:
            job, record = self._make(number)
            jobs.append(job)
            records.append(record)
        return jobs, records

    def _make(self, number: int) -> tuple[NewJob, NodeRecord]:
        node = self.drawing.nodes[number]
        job = self._raw[number]
        spec = self.spec
        is_end = number in self._ends
        own = [
            Arrival(self.barriers[front].queue, self.barriers[front].id, how)
            for front, how in self._graph.onward[number]
        ]
        if is_end:
            own += self._rest
        key = spec.key(number)
        mark = FlowMark(
            FlowNode(*spec.flow, node.name), key, spec.name, spec.round, spec.keep_ms, tuple(own)
        )
        behind = _behind(self._graph, self.barriers, number, spec)
        needed = [
            Reference(path, _value(shape, self._places, self._names, spec))
            for path, shape in node.references
        ]
        refs = [
            JobRef(queue, job_id(spec.flow.id, of, spec.round))
            for queue, of in (self._places[parent] for parent, _ in node.edges[:MOST_PARENTS])
        ]
        made = _with_terms(job, mark, behind, spec, needed, refs)
        parents: Parents = tuple((spec.key(parent), how) for parent, how in node.edges)
        definition = NodeDefinition(
            key,
            node.call.function.name,
            job.priority,
            job.delay_ms,
            parents,
            is_end,
            made.envelope,
        )
        return made, NodeRecord(node.name, made.ref, definition.encode())


async def flow_jobs(
    drawing: Drawing, spec: FlowSpec, raw: Sequence[NewJob], rest: Sequence[Arrival] = ()
) -> FlowJobs:
    """All jobs of this flow: see `FlowDraft`."""
    draft = FlowDraft(drawing, spec, raw, rest)
    jobs: list[NewJob] = []
    nodes: list[NodeRecord] = []
    for first in range(0, len(draft), STEP):
        made, records = draft.make(range(first, min(first + STEP, len(draft))))
        jobs += made
        nodes += records
        # A worker in this process must get to its heartbeats meanwhile.
        await asyncio.sleep(0)
    return FlowJobs(drawing, jobs, draft.barriers, nodes)


def _check_onward(node: DrawnNode, onward: Sequence[tuple[int, OnFailure]]) -> None:
    # rule:40 the end of a node counts down a bounded number of barriers
    if len(onward) > MOST_ONWARD:
        raise UsageError(
            f"node {node.name!r} is waited for in {len(onward):,} different ways, and "
            f"{MOST_ONWARD:,} are possible: let the nodes behind it wait for the same nodes"
        )


def _behind(graph: Graph, fronts: Sequence[Barrier], number: int, spec: FlowSpec) -> str | None:
    front = graph.behind[number]
    if front is not None:
        return fronts[front].id
    if spec.base or spec.is_open:
        # A node that adds others stores them with its success: nothing of them is missing then.
        return None
    # rule:40 nothing of a flow runs before all of it is stored
    return start_barrier(spec.flow, spec.round)


def _with_terms(
    job: NewJob,
    mark: FlowMark,
    behind: str | None,
    spec: FlowSpec,
    needed: list[Reference],
    parents: list[JobRef],
) -> NewJob:
    # It may have a gate already, which it comes to when its barrier has fallen.
    terms = (job.terms or Terms())._replace(behind=behind, arrivals=mark.arrivals, node=mark.node)
    more = mark_header(mark, spec.context)
    if needed:
        more |= stored_references(needed)
    envelope = AnyEnvelope.decode(job.envelope)
    trace = envelope.headers.trace
    # Without telemetry nobody would link to them.
    if parents and isinstance(trace, dict):
        more |= traced(with_parents(trace, parents))
    raw = envelope.with_headers(Headers({**fields_of(envelope.headers), **more}))
    id = job_id(spec.flow.id, mark.key, spec.round)
    return job._replace(id=id, envelope=raw, has_new_id=True, terms=terms)


def _value(
    shape: Shape,
    places: Mapping[int, tuple[str, str]],
    names: Sequence[str],
    spec: FlowSpec,
) -> Value:
    if isinstance(shape, Slot):
        return Leaf(*places[shape.node], spec.round, shape.default)
    if isinstance(shape, dict):
        return {_key(key, names): _value(each, places, names, spec) for key, each in shape.items()}
    return [_value(each, places, names, spec) for each in shape or ()]


def _named(shape: Shape, names: Sequence[str]) -> Any:
    """The shape of a value, with the names of the nodes in place of their numbers."""
    if isinstance(shape, Slot):
        return names[shape.node]
    if isinstance(shape, dict):
        return {_key(key, names): _named(each, names) for key, each in shape.items()}
    if shape is None:
        return None
    return [_named(each, names) for each in shape]


def _key(key: int | str, names: Sequence[str]) -> str:
    if isinstance(key, int):
        return names[key]
    return key


def check_steady(node: DrawnNode, job: NewJob, function: JobFunction[..., Any]) -> None:
    """Raises UsageError if the queue or the limits of a job come from a result, which is not there
    when the job is stored."""
    is_plain = job.terms is None and function.settings.route is None
    if is_plain or not node.references:
        return
    places = {path[0] for path, _ in node.references}
    # Anything but what stood there before.
    other: Any = "another"
    if function.binding.is_typed:
        other = Written(other, is_whole=False)
    args = tuple(other if place in places else each for place, each in enumerate(node.args))
    kwargs = {name: other if name in places else each for name, each in node.kwargs.items()}
    try:
        again = function.new_job(args, kwargs)
        is_steady = (again.queue, again.terms) == (job.queue, job.terms)
    except (EncodeError, UsageError, ConfigError):
        is_steady = False
    # rule:40 where a job waits never comes from a result that is not there yet
    if not is_steady:
        raise unsteady(node)


def unsteady(node: DrawnNode) -> UsageError:
    """The error for a job of which nobody knows where it will wait."""
    return UsageError(
        f"node {node.title!r}: its queue or its limits come from an argument that is the result "
        "of another node, and are needed before that; give that argument a value, or write "
        "options(queue=...)"
    )
