"""Making the jobs of a flow, and storing them so that all of it runs or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from asyncjobs.client.client import Client
from asyncjobs.client.flow_jobs import (
    FlowJobs,
    FlowSpec,
    check_steady,
    start_barrier,
    unsteady,
    variants_of,
)
from asyncjobs.client.passing import Passing
from asyncjobs.jobs.drawing import Drawing, DrawnNode
from asyncjobs.jobs.enqueue_call import EnqueueCall
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.store.checks import check_needs
from asyncjobs.store.flows import MOST_NODES, FlowRef
from asyncjobs.store.seam import Backend
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["Sender", "made_jobs", "store_flow"]

STEP: Final = 1_000
"""Jobs that are made in one go. Then the event loop has its turn."""


class Maker(Protocol):
    """Makes jobs of one job function."""

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob: ...


class Spans(Protocol):
    """The tracing of enqueues."""

    def enqueue(
        self, templates: Sequence[JobTemplate], together: str = ""
    ) -> AbstractContextManager[Sequence[Maker]]: ...


class Sender(Protocol):
    """What this needs of the sender of an app."""

    @property
    def reader(self) -> Reader: ...

    @property
    def spans(self) -> Spans: ...


async def made_jobs(
    sender: Sender, backend: Backend, drawing: Drawing, spec: FlowSpec
) -> list[NewJob]:
    """The jobs of all calls of a flow, as they would be by themselves. Stores nothing."""
    variants = variants_of(drawing.nodes, spec, sender)
    templates = [variant.template for variant in variants]
    for template in {id(each): each for each in templates}.values():
        if template.asks is not None:
            check_needs(template.name, template.needs, backend)
    jobs: list[NewJob] = []
    # One conversation, though its jobs begin at different times and in different queues.
    with sender.spans.enqueue(templates, spec.flow.id) as makers:
        for node, function, maker in zip(drawing.nodes, variants, makers, strict=True):
            jobs.append(await _made(sender, node, function, maker))
            if len(jobs) % STEP == 0:
                # A worker in this process must get to its heartbeats meanwhile.
                await asyncio.sleep(0)
    return jobs


async def _made(
    sender: Sender, node: DrawnNode, function: JobFunction[..., Any], maker: Maker
) -> NewJob:
    # Most job functions have no middleware around their enqueues.
    if function.template.through:
        function = await _passed(sender, node, function)
        maker = function.template
    try:
        job = maker.new_job(node.args, node.kwargs)
    except Exception as error:
        # A route that looks at a result which is not there raises whatever it likes.
        if node.references and function.settings.route is not None:
            raise unsteady(node) from error
        raise
    check_steady(node, job, function)
    return job


async def _passed(
    sender: Sender, node: DrawnNode, function: JobFunction[..., Any]
) -> JobFunction[..., Any]:
    """Take a call through its middleware, which may change it. The job is stored later, with the
    whole flow: so what the middleware does after `send()` comes before that."""
    found: list[EnqueueCall] = []

    async def deliver(call: EnqueueCall) -> JobHandle[Any]:
        found.append(call)
        template: JobTemplate = call.function.template
        return template.handle(sender.reader, template.options.queue, "of-a-flow", "new")

    call = EnqueueCall(function, node.args, node.kwargs)
    await Passing(function.template.through, deliver).run(call)
    for changed in found:
        node.args = changed.args
        node.kwargs = dict(changed.kwargs)
        function = changed.function
    return function


async def store_flow(client: Client, flow: FlowRef, jobs: FlowJobs) -> None:
    """Store nodes and jobs, then let them run. After an error nothing is left that could."""
    backend = client.backend
    start = start_barrier(flow)
    starts: dict[str, None] = {}
    try:
        for first in range(0, len(jobs.nodes), MOST_NODES):
            await backend.flows.add_nodes(flow, jobs.nodes[first : first + MOST_NODES])
        for made in jobs.batches(flow):
            await client.store(made.jobs, made.names, made.barriers)
            if any(barrier.id == start for barrier in made.barriers):
                starts[made.jobs[0].queue] = None
    except BaseException:
        # rule:40 what a flow has stored before an error is cancelled
        await cancel_unstarted(backend, [flow])
        raise
    await backend.flows.start(flow, [(queue, start) for queue in starts])
