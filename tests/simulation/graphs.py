"""Flows of a run: small graphs of jobs that wait for each other, and the client that makes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.clock import new_id
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Barrier, FallsOn, FlowNode, OnFailure, Terms
from asyncjobs.store.flows import FlowRef, NewFlow, NodeRecord
from asyncjobs.store.seam import EnqueueBatch
from tests.simulation.ledger import Ledger
from tests.simulation.load import BUDGET, Order, bind, draw_order
from tests.simulation.wire import Wire

__all__ = ["Graph", "Node", "draw_graphs", "make_all"]

QUEUES: Final = ("default", "mail", "far")
ON_FAILURE: Final[tuple[OnFailure, ...]] = ("cancel", "run", "skip")
KEEP_MS: Final = 86_400_000
"""How long a flow is kept after its end. No run is as long."""


@dataclass(frozen=True, slots=True)
class Node:
    """A job of a flow, the nodes in front of it, and what a failure of each does to it."""

    order: Order
    parents: dict[JobRef, OnFailure]
    falls_on: FallsOn
    is_open: bool
    """Whether the flow may succeed though it fails."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A flow to make `at_s` after the start, with its nodes in an order in which they can run.

    `cancel_s`: how long after that it is cancelled as a whole. `again_s`: how long after the start
    its nodes are entered once more, by a call that comes late.
    """

    ref: FlowRef
    at_s: float
    nodes: list[Node]
    cancel_s: float | None
    again_s: float | None

    @property
    def starts(self) -> list[tuple[str, str]]:
        """The barriers before the first nodes, one in each queue that has such nodes."""
        queues = [node.order.job.queue for node in self.nodes if not node.parents]
        return [(queue, f"{self.ref.id} start") for queue in dict.fromkeys(queues)]

    @property
    def barriers(self) -> list[Barrier]:
        """All barriers of the flow, as they are at first."""
        behind = [
            Barrier(job.queue, job.id, len(node.parents), node.falls_on)
            for node in self.nodes
            if node.parents
            for job in [node.order.job]
        ]
        return [Barrier(queue, id, 1) for queue, id in self.starts] + behind


def draw_graphs(chance: Random) -> list[Graph]:
    """One or two flows with three to eight nodes each, in every second run; else none."""
    if chance.random() < 0.5:
        return []
    queues = QUEUES[: 1 + int(3 * chance.random())]
    count = 1 + int(2 * chance.random())
    return [_draw_graph(chance, 100 * (1 + number), queues) for number in range(count)]


def _draw_graph(chance: Random, first: int, queues: tuple[str, ...]) -> Graph:
    ref = FlowRef(queues[int(chance.random() * len(queues))], f"flow{first}")
    size = 3 + int(6 * chance.random())
    orders = [draw_order(chance, f"f{first + number}", 0.0, queues) for number in range(size)]
    if chance.random() < 0.3:
        orders = [bind(chance, order) for order in orders]
    edges = [_edges(chance, orders[:number]) for number in range(size)]
    waits_for_failure = [bool(parents) and chance.random() < 0.2 for parents in edges]
    nodes = []
    for number, order in enumerate(orders):
        own = order.job.ref
        behind = {
            other.job.ref: parents[own]
            for other, parents in zip(orders, edges, strict=True)
            if own in parents
        }
        node = _join(order, edges[number], behind, FlowNode(*ref, own.id))
        falls_on: FallsOn = "first_failure" if waits_for_failure[number] else "all"
        is_open = bool(behind) and "cancel" not in behind.values()
        nodes.append(Node(node, edges[number], falls_on, is_open))
    cancel_s = 3 * chance.random() if chance.random() < 0.15 else None
    again_s = 2 * chance.random() if chance.random() < 0.3 else None
    return Graph(ref, 2 * chance.random(), nodes, cancel_s, again_s)


def _edges(chance: Random, before: list[Order]) -> dict[JobRef, OnFailure]:
    """Some of the jobs before this one, which it shall wait for."""
    wanted = int(chance.random() * 3.5)
    edges: dict[JobRef, OnFailure] = {}
    for _ in range(wanted if before else 0):
        parent = before[int(chance.random() * len(before))].job.ref
        edges[parent] = ON_FAILURE[int(chance.random() * 3)]
    return edges


def _join(
    order: Order,
    parents: dict[JobRef, OnFailure],
    behind: dict[JobRef, OnFailure],
    node: FlowNode,
) -> Order:
    """The same order, as a node of a flow."""
    job = order.job
    terms = (job.terms or Terms())._replace(
        behind=job.id if parents else f"{node.flow} start",
        arrivals=tuple(Arrival(ref.queue, ref.id, how) for ref, how in behind.items()),
        node=node,
    )
    return replace(order, job=job._replace(terms=terms))


async def make_all(wire: Wire, ledger: Ledger, graphs: list[Graph]) -> None:
    """What the client process does: each flow in its time, until all are started."""
    loop = asyncio.get_running_loop()
    for graph in graphs:
        for node in graph.nodes:
            ledger.expect(node.order.job, node.order.expected, BUDGET)
        ledger.fronts.expect(graph.ref, {node.order.job.ref: node for node in graph.nodes})
    tasks = [loop.create_task(_make(wire, ledger, graph), name=graph.ref.id) for graph in graphs]
    for task in tasks:
        await task


async def _make(wire: Wire, ledger: Ledger, graph: Graph) -> None:
    """Open the flow, store its jobs, let it run. Cancel what is to be cancelled."""
    jobs = [node.order.job for node in graph.nodes]
    await asyncio.sleep(graph.at_s)
    await _call(wire, "flows.open", NewFlow(graph.ref, "graph", len(jobs), KEEP_MS, b""))
    entries = [NodeRecord(job.id, job.ref, b"") for job in jobs]
    await _call(wire, "flows.add_nodes", graph.ref, entries)
    # Always with the same token: the barriers are raised once.
    await _call(wire, "enqueue", EnqueueBatch(new_id(), jobs, graph.barriers))
    await _call(wire, "flows.start", graph.ref, graph.starts)
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_cancel(wire, ledger, [node.order.job.ref], node.order.cancel_s))
        for node in graph.nodes
        if node.order.cancel_s is not None
    ]
    if graph.again_s is not None:
        await asyncio.sleep(graph.again_s)
        await _call(wire, "flows.add_nodes", graph.ref, entries)
    if graph.cancel_s is not None:
        await asyncio.sleep(graph.cancel_s)
        await _call(wire, "flows.mark_cancelled", graph.ref)
        await _cancel(wire, ledger, [job.ref for job in jobs], 0.0)
    for task in tasks:
        await task


async def _cancel(wire: Wire, ledger: Ledger, refs: list[JobRef], after_s: float) -> None:
    await asyncio.sleep(after_s)
    for ref in refs:
        ledger.stories[ref].is_cancelled = True
    await _call(wire, "cancel", refs, None, 0)


async def _call(wire: Wire, name: str, *args: object) -> None:
    """Until there is an answer."""
    while True:
        try:
            await wire.call(name, *args)
        except StoreUnavailable:
            await asyncio.sleep(0.1)
        else:
            return
