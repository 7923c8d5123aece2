"""Making the jobs of a flow, and storing them so that all of it runs or nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from asyncjobs.client.client import Client
from asyncjobs.client.flow_jobs import (
    STEP,
    Batches,
    FlowDraft,
    FlowSpec,
    Made,
    check_steady,
    start_barrier,
    unsteady,
    variants_of,
)
from asyncjobs.client.passing import Passing
from asyncjobs.guard.own import hide
from asyncjobs.jobs.drawing import Drawing, DrawnNode
from asyncjobs.jobs.enqueue_call import EnqueueCall
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.store.checks import check_needs
from asyncjobs.store.flows import NodeRecord
from asyncjobs.store.seam import Backend
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["Sender", "made_jobs", "store_flow"]

MOST_UNDER_WAY: Final = 3
"""Parts of a flow that are being stored at a time."""


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


async def store_flow(client: Client, draft: FlowDraft) -> None:
    """Store nodes and jobs, then let them run. After an error nothing is left that could."""
    flow = draft.spec.flow
    storing = _Storing(client, draft)
    try:
        await storing.run()
    except BaseException:
        # rule:40 what is under way would be stored behind the cancel
        await storing.stop()
        # rule:40 what a flow has stored before an error is cancelled
        await cancel_unstarted(client.backend, [flow])
        raise
    start = start_barrier(flow, draft.spec.round)
    await client.backend.flows.start(flow, [(queue, start) for queue in storing.starts])


class _Storing:
    """Stores the parts of a flow while the next one is made: the client and the store would wait
    for each other else. Owns a task for each part that is under way."""

    def __init__(self, client: Client, draft: FlowDraft) -> None:
        self._client = client
        self._draft = draft
        self._batches = Batches(draft.barriers, start_barrier(draft.spec.flow, draft.spec.round))
        self._under_way: deque[asyncio.Task[None]] = deque()
        self._last_barriers: asyncio.Task[None] | None = None
        """The last part that has brought barriers. Later jobs may be behind these."""

    @property
    def starts(self) -> Iterable[str]:
        """The queues in which jobs wait for the start."""
        return self._batches.starts

    async def run(self) -> None:
        draft = self._draft
        for first in range(0, len(draft), STEP):
            numbers = range(first, min(first + STEP, len(draft)))
            jobs, nodes = draft.make(numbers)
            made = list(self._batches.cut(jobs, draft.functions(numbers)))
            while len(self._under_way) >= MOST_UNDER_WAY:
                await self._under_way[0]
                del self._under_way[0]
            # Hidden: a job may start a flow, and another one cancel all tasks.
            task = hide(asyncio.create_task(self._store(nodes, made, self._last_barriers)))
            self._under_way.append(task)
            if any(each.barriers for each in made):
                self._last_barriers = task
            # It is sent before the next part is made.
            await asyncio.sleep(0)
        for task in self._under_way:
            await task

    async def _store(
        self,
        nodes: Sequence[NodeRecord],
        made: Sequence[Made],
        barriers: asyncio.Task[None] | None,
    ) -> None:
        # First, so that whoever cancels the flow knows all jobs.
        await self._client.backend.flows.add_nodes(self._draft.spec.flow, nodes)
        # rule:40 a part of a flow waits for the barriers of the parts before
        if barriers is not None:
            await asyncio.wait([barriers])
            barriers.result()
        for each in made:
            await self._client.store(each.jobs, each.names, each.barriers)

    async def stop(self) -> None:
        """End what is under way, and wait for it."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
