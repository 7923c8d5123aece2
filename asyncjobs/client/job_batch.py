"""Batches with callbacks: jobs that are added one by one, and what runs when they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from asyncjobs.client.client import Client
from asyncjobs.client.flow_handle import FlowHandle
from asyncjobs.client.flow_jobs import FlowJobs, FlowSpec, flow_jobs
from asyncjobs.client.flow_storing import made_jobs
from asyncjobs.client.sender import Sender
from asyncjobs.errors import StoreError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.drawing import Drawing
from asyncjobs.jobs.function import JobCall
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.node_names import Names
from asyncjobs.jobs.workflow import Item, Workflow, group
from asyncjobs.model.flow_definition import FlowDefinition
from asyncjobs.model.job import NewJob
from asyncjobs.model.terms import Arrival, Barrier, FallsOn, OnFailure
from asyncjobs.store.flows import MOST_NODES, FlowRef, NewFlow
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["CALLBACKS", "JobBatch", "callbacks_of"]


class _Kind(NamedTuple):
    """When a callback runs: when its barrier falls, and what a failure does to it."""

    falls_on: FallsOn
    on_failure: OnFailure


CALLBACKS: Final = {
    "on_success": _Kind("all", "cancel"),
    "on_complete": _Kind("all", "run"),
    "on_first_failure": _Kind("first_failure", "run"),
}


class JobBatch:
    """Jobs that belong together, and the calls that follow them. Made by `app.batch(...)`.

        async with app.batch("import", on_success=publish.bind(7)) as batch:
            async for row in rows:
                await batch.add(store.bind(row))

    The jobs run as soon as they are added. The callbacks run when the batch is closed and all jobs
    have ended: `on_success` if all have succeeded, `on_complete` in any case; `on_first_failure`
    with the first one that is dead, discarded or cancelled, while the others still run. Each runs
    once. A job that is retried, put off or taken over from a dead worker has not ended.
    """

    def __init__(
        self,
        sender: Sender,
        name: str,
        callbacks: dict[str, JobCall[Any]],
        queue: str | None,
        keep_ms: int,
        context: dict[str, Any],
        id: str,
    ) -> None:
        self._sender = sender
        self._callbacks = callbacks
        self._queue = queue
        self._spec = FlowSpec(FlowRef("", id), name, keep_ms, context, is_open=True)
        self._arrivals: list[Arrival] = []
        self._taken = Names(callbacks)
        self._number = 0
        self._opening = asyncio.Lock()
        self._is_opened = False
        self._is_closed = False

    async def open(self) -> Self:
        """Store the batch with its callbacks. `add` and `close` do it by themselves.

        Raises like `app.flows.start`. After an error nothing of the batch runs: make another one.
        """
        # rule:40 of tasks that add at the same time one opens the batch, and the others wait for it
        async with self._opening:
            if not self._is_opened:
                self._check_open()
                client = self._sender.access.client
                try:
                    await self._open(client)
                except BaseException:
                    # Its callbacks may be stored, and nobody knows which.
                    self._is_closed = True
                    await self._give_up(client)
                    raise
                self._is_opened = True
        return self

    async def add(self, *items: Item[Any]) -> list[JobHandle[Any]]:
        """Store these calls, `f.bind(...)`, or workflows as jobs of the batch; their handles.

        Raises UsageError after `close`, and else like `app.flows.start`. After StoreFull and
        StoreUnavailable the batch never completes: cancel it.
        """
        self._check_open()
        for item in items:
            if not isinstance(item, JobCall | Workflow):
                raise UsageError(f"batch.add() takes calls made by f.bind(...), not {shown(item)}")
        await self.open()
        client = self._sender.access.client
        drawing = Drawing.of(group(items), taken=self._taken)
        if not drawing.nodes:
            return []
        spec = self._spec._replace(first=self._number)
        self._number += len(drawing.nodes)
        raw = await made_jobs(self._sender, client.backend, drawing, spec)
        jobs = await flow_jobs(drawing, spec, raw, self._arrivals)
        await self._store(client, jobs, len(drawing.outlet.ends))
        return [
            self._handle(job, name) for job, name in zip(jobs.jobs, jobs.functions, strict=True)
        ]

    async def close(self) -> FlowHandle[dict[str, Any]]:
        """No more jobs come: the callbacks may run. Returns the handle of the batch, whose result
        has that of each callback by its name. An empty batch has succeeded."""
        await self.open()
        self._is_closed = True
        client = self._sender.access.client
        # rule:40 a batch that is not closed completes nothing
        barriers = [(each.queue, each.barrier) for each in self._arrivals]
        await client.backend.flows.start(self._spec.flow, barriers)
        return self.handle

    @property
    def handle(self) -> FlowHandle[dict[str, Any]]:
        """The handle of the batch, once it is open."""
        return FlowHandle(self._sender.reader, self._spec.flow, disposition="new")

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it. If the block raises, its jobs and its callbacks are cancelled."""
        if kind is None:
            await self.close()
            return
        self._is_closed = True
        await self.handle.cancel()
        # Nothing is behind the barriers of its callbacks any more, and they would stand for ever.
        flows = self._sender.access.client.backend.flows
        await flows.start(self._spec.flow, [(each.queue, each.barrier) for each in self._arrivals])

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"the batch {self._spec.name!r} is closed; open another one")

    # -- the store ------------------------------------------------------------------------

    async def _open(self, client: Client) -> None:
        names = list(self._callbacks)
        drawing = Drawing.of(group(self._callbacks.values()))
        for node, name in zip(drawing.nodes, names, strict=True):
            node.name = name
        raw = await made_jobs(self._sender, client.backend, drawing, self._spec)
        home = self._queue or raw[0].queue
        spec = self._spec = self._spec._replace(flow=FlowRef(home, self._spec.flow.id))
        jobs = await flow_jobs(drawing, spec, raw)
        self._number = len(names)
        behind: list[NewJob] = []
        for name, job in zip(names, jobs.jobs, strict=True):
            barrier = f"{spec.flow.id}:{name}"
            self._arrivals.append(Arrival(job.queue, barrier, CALLBACKS[name].on_failure))
            assert job.terms is not None
            behind.append(job._replace(terms=job.terms._replace(behind=barrier)))
        result = {name: name for name in names}
        definition = FlowDefinition(result, tuple(names), spec.context, "batch").encode()
        new = NewFlow(spec.flow, spec.name, len(names), spec.keep_ms, definition)
        await client.backend.flows.open(new)
        await client.backend.flows.add_nodes(spec.flow, jobs.nodes)
        # One arrival is that of the close. So none of them falls before it.
        for name, job, function in zip(names, behind, jobs.functions, strict=True):
            falls_on = CALLBACKS[name].falls_on
            held = Barrier(job.queue, f"{spec.flow.id}:{name}", 1, falls_on)
            await client.store([job], [function], [held])

    async def _give_up(self, client: Client) -> None:
        flow = self._spec.flow
        # Without a queue it was not even opened.
        if flow.queue:
            with suppress(StoreError):
                await cancel_unstarted(client.backend, [flow])

    async def _store(self, client: Client, jobs: FlowJobs, ends: int) -> None:
        flow = self._spec.flow
        backend = client.backend
        for first in range(0, len(jobs.nodes), MOST_NODES):
            await backend.flows.add_nodes(flow, jobs.nodes[first : first + MOST_NODES])
        raised = [
            Barrier(each.queue, each.barrier, ends, CALLBACKS[name].falls_on)
            for name, each in zip(self._callbacks, self._arrivals, strict=True)
        ]
        raised.append(Barrier(flow.queue, flow.id, len(jobs.jobs)))
        made = list(jobs.batches(flow))
        # In one step with the jobs if that is possible, else before them.
        # rule:40 no job of a batch ends before its callbacks wait for it
        own = len(made) == 1 and all(each.queue == made[0].jobs[0].queue for each in raised)
        if not own:
            for queue in dict.fromkeys(each.queue for each in raised):
                await client.store([], [], [each for each in raised if each.queue == queue])
            raised = []
        for each in made:
            await client.store(each.jobs, each.names, [*each.barriers, *raised])

    def _handle(self, job: NewJob, name: str) -> JobHandle[Any]:
        ttl_ms = self._spec.keep_ms
        reader = self._sender.reader
        return JobHandle(reader, (job.ref,), disposition="new", ttl_ms=ttl_ms, name=name)


def callbacks_of(given: dict[str, JobCall[Any] | None]) -> dict[str, JobCall[Any]]:
    """Raises UsageError for what is no call, and for a batch that nothing follows."""
    found: dict[str, JobCall[Any]] = {}
    for name, call in given.items():
        if call is None:
            continue
        if not isinstance(call, JobCall):
            raise UsageError(f"batch({name}=) takes a call made by f.bind(...), not {shown(call)}")
        found[name] = call
    if not found:
        names: Sequence[str] = tuple(CALLBACKS)
        raise UsageError(
            f"a batch needs a callback ({', '.join(names)}); jobs that nothing follows are stored "
            "by app.enqueue_many()"
        )
    return found
