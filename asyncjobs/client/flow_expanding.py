"""Nodes that a job adds to its flow, kept for its success."""

from __future__ import annotations

from typing import Any, Final

from asyncjobs.client.flow_jobs import FlowSpec, flow_jobs
from asyncjobs.client.flow_storing import Sender, made_jobs
from asyncjobs.client.keeping import Keeping
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.drawing import Drawing
from asyncjobs.jobs.flow_context import FlowContext
from asyncjobs.model.settlement import MOST_EFFECT_JOBS
from asyncjobs.model.terms import Barrier
from asyncjobs.store.flows import FlowRef

__all__ = ["expand"]

MOST_LEVELS: Final = 50
"""How deeply added nodes may add others. Each level makes the id of the job longer."""


async def expand(sender: Sender, work: Any, flow: FlowContext, keeping: Keeping) -> list[str]:
    """Keep the jobs of these nodes; their names. For `FlowContext.expand`, which lists the
    errors."""
    mark = flow.mark
    # rule:40 nodes that add nodes end in an error that says so, not in an id that is too long
    if mark.key.count(".") >= MOST_LEVELS:
        raise UsageError(
            f"ctx.flow.expand() in the node {shown(mark.node.node)}: nodes have added nodes "
            f"{MOST_LEVELS} levels deep, and no more are possible; let a node add several others, "
            "or start another flow"
        )
    drawing = Drawing.of(work, prefix=f"{mark.node.node}.", taken=flow.taken)
    many = len(drawing.nodes)
    if many > MOST_EFFECT_JOBS:
        raise UsageError(
            f"ctx.flow.expand() got {many:,} nodes, and an attempt may add {MOST_EFFECT_JOBS:,}; "
            "let some of these nodes add the others"
        )
    home = FlowRef(mark.node.queue, mark.node.flow)
    spec = FlowSpec(
        home,
        mark.name,
        mark.keep_ms,
        flow.values,
        f"{mark.key}.",
        flow.numbers(many),
        mark.round,
    )
    raw = await made_jobs(sender, keeping.backend, drawing, spec)
    # What waits for this node waits for the ends of what it adds, too. They are raised in the step
    # of its success, before that counts itself down.
    # rule:40 what waits for a node waits for all that it adds, however deeply
    jobs = await flow_jobs(drawing, spec, raw, mark.arrivals)
    ends = len(drawing.outlet.ends)
    raised = [Barrier(each.queue, each.barrier, ends) for each in mark.arrivals]
    # The flow itself waits for all of them.
    raised.append(Barrier(home.queue, home.id, many))
    # First, so that a flow never shows a job without its node. If this attempt does not succeed,
    # their jobs are never stored, and they are not shown.
    await keeping.backend.flows.add_nodes(home, jobs.nodes)
    keeping.keep(jobs.jobs, jobs.functions, [*jobs.barriers, *raised])
    return [node.name for node in drawing.nodes]
