"""The sender turns calls of job functions into stored jobs and their handles."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from asyncjobs.client.client import Client
from asyncjobs.client.convoy import Arrival, Convoy, Passed, conclude
from asyncjobs.client.flow_expanding import expand
from asyncjobs.client.keeping import Keeping
from asyncjobs.client.passing import Passing
from asyncjobs.errors import UniqueConflict, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.effects import FindEffects
from asyncjobs.jobs.enqueue_call import EnqueueCall
from asyncjobs.jobs.flow_context import FlowContext
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import Disposition, JobHandle, Reader
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Placed
from asyncjobs.store.checks import check_needs
from asyncjobs.store.seam import Backend

__all__ = ["Access", "Maker", "Plan", "Sender", "Spans", "ThreadWay", "disposition_of"]

R = TypeVar("R")
T = TypeVar("T")

_DISPOSITIONS: Final[dict[str, Disposition]] = {
    "there": "existing",
    "replaced": "replaced",
    "held": "held",
    "cancelled": "cancelled",
}
PLAN_STEP: Final = 1_000
"""Calls that are listed or encoded in one go. Then the event loop has its turn."""


def disposition_of(place: Placed | None) -> Disposition:
    """What became of a call, for its handle. `place`: None for a new job."""
    if place is None:
        return "new"
    return _DISPOSITIONS[place.how]


class ThreadWay(Protocol):
    """An open store, for threads that run no event loop."""

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """Run `ask` on the store's loop, and block until it returns. Errors begin with `name`."""
        ...


class Access(Protocol):
    """Gives the sender the open store."""

    @property
    def client(self) -> Client:
        """The client of the running loop. Raises NotOpen."""
        ...

    def from_thread(self, instead: str) -> ThreadWay:
        """The open store, or one that is opened for threads.

        Raises NotOpen, and UsageError with the text `instead` if an event loop runs here.
        """
        ...


class Taker(Protocol):
    """Takes new jobs: the client, which stores them, or an attempt that keeps them.

    `new`: what becomes of a job that it takes.
    """

    @property
    def new(self) -> Disposition: ...

    @property
    def backend(self) -> Backend: ...

    def enqueue(self, job: NewJob, name: str) -> Coroutine[Any, Any, Placed | None]: ...

    def enqueue_many(
        self, jobs: Sequence[NewJob], names: Sequence[str]
    ) -> Coroutine[Any, Any, list[Placed | None]]: ...


class Maker(Protocol):
    """Makes jobs of one job function. A `JobTemplate` is one; tracing wraps it in another."""

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob: ...


class Spans(Protocol):
    """Tracing, as the sender uses it."""

    @property
    def tracing(self) -> object | None:
        """None if nothing is traced."""
        ...

    def enqueue(
        self, templates: Sequence[JobTemplate], together: str = ""
    ) -> AbstractContextManager[Sequence[Maker]]:
        """The spans of one enqueue. Entering returns a maker for each job. `together`: the
        conversation of jobs that nothing else has led to."""
        ...


class Plan(Generic[R]):
    """The jobs to store for some calls. Synchronous, so tests need no store.

    `encode` makes the jobs, and drops each call when its job is made. Otherwise a million calls
    and their jobs would be in memory together. `handles` makes what the callers get.
    """

    def __init__(self, calls: Iterable[JobCall[R]]) -> None:
        self.jobs: list[NewJob] = []
        # A deque, so that `encode` can drop each call in constant time.
        self._calls = deque(calls)
        self.templates = [call.function.template for call in self._calls]

    @property
    def names(self) -> list[str]:
        """The name of each job's function."""
        return [template.name for template in self.templates]

    def encode(self, makers: Iterable[Maker]) -> Iterator[None]:
        """Make the jobs. Yields after each thousand, so that the loop can have its turn.

        Raises ArgumentsError and EncodeError.
        """
        for maker in makers:
            call = self._calls.popleft()
            self.jobs.append(maker.new_job(call.args, call.kwargs))
            if len(self.jobs) % PLAN_STEP == 0:
                yield

    def next_calls(self, most: int) -> list[tuple[JobCall[R], JobTemplate]]:
        """Take the next calls out of the plan, with their templates."""
        first = len(self.templates) - len(self._calls)
        templates = self.templates[first : first + most]
        return [(self._calls.popleft(), template) for template in templates]

    def arrivals(
        self, reader: Reader, places: Sequence[Placed | None], new: Disposition
    ) -> list[JobHandle[R] | UniqueConflict]:
        """For each call the handle, or the conflict that it has met. `new`: what has become of a
        job whose place is None."""
        found: list[JobHandle[R] | UniqueConflict] = []
        for template, job, place in zip(self.templates, self.jobs, places, strict=True):
            try:
                found.append(_handle(template, reader, job, place, new))
            except UniqueConflict as conflict:
                found.append(conflict)
        return found

    def handles(
        self, reader: Reader, places: Sequence[Placed | None], new: Disposition = "new"
    ) -> list[JobHandle[R]]:
        """The handles. `places` has None for each new job, else what became of it.

        Raises UniqueConflict, which says how many of the calls have met one.
        """
        # First, for the caller gets no handle at all when one call has met a conflict.
        found = zip(self.templates, self.jobs, places, strict=True)
        conflicts = [
            conflict
            for template, job, place in found
            if place is not None and (conflict := template.conflict(job, place)) is not None
        ]
        if conflicts:
            raise UniqueConflict(
                f"{conflicts[0]} ({len(conflicts):,} of these {len(self.jobs):,} calls have met "
                "such a job; the others are stored)",
                holder=conflicts[0].holder,
            )
        return [
            _handle(template, reader, job, place, new)
            for template, job, place in zip(self.templates, self.jobs, places, strict=True)
        ]


class Sender:
    """Makes jobs, sends them, and returns their handles.

    There are three ways to send: one job on this loop, many jobs on this loop, one job from a
    thread. Each makes the jobs by the templates of their job functions, and gives them to the
    client. Owns no connection. Whatever has to surround each enqueue belongs here.
    """

    def __init__(self, reader: Reader, access: Access, spans: Spans) -> None:
        """`reader`: the app, which the handles ask."""
        self.reader = reader
        self._access = access
        self._spans = spans

    @property
    def access(self) -> Access:
        """Where jobs go now."""
        return self._access

    @property
    def spans(self) -> Spans:
        """The tracing of enqueues."""
        return self._spans

    def use(self, access: Access) -> None:
        """Store jobs through another open store from now on."""
        self._access = access

    def plan(self, calls: Iterable[JobCall[R]]) -> Plan[R]:
        """Plan the jobs of these calls. Raises UsageError for what is no call of this app."""
        listed = list(calls)
        for call in listed:
            self._check(call)
        return Plan(listed)

    async def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job, for `JobFunction.enqueue`, which lists the errors.

        Makes no Plan: that would add a tenth to the cost of an enqueue.
        """
        client = self._access.client
        template = function.template
        # One question about all that most job functions do not have.
        if template.asks is not None:
            check_needs(template.name, template.needs, client.backend)
            if template.through:
                return await self._pass(client, function, args, kwargs)
        if self._spans.tracing is None:
            job = template.new_job(args, kwargs)
            place = await client.enqueue(job, template.name)
        else:
            with self._spans.enqueue((template,)) as (maker,):
                job = maker.new_job(args, kwargs)
                place = await client.enqueue(job, template.name)
        if place is None:
            # The usual answer, without another call.
            return template.handle(self.reader, job.queue, job.id, "new")
        return _handle(template, self.reader, job, place)

    async def send_many(self, calls: Iterable[JobCall[R]]) -> list[JobHandle[R]]:
        """Store many jobs, for `AsyncJobs.enqueue_many`, which lists the errors."""
        # First, so that NotOpen comes before the work of listing and encoding.
        client = self._access.client
        return await self._send_many(client, self.plan(await _listed(calls)))

    async def _send_many(self, taker: Taker, plan: Plan[R]) -> list[JobHandle[R]]:
        passes = False
        for template in plan.templates:
            if template.asks is not None:
                check_needs(template.name, template.needs, taker.backend)
                passes = passes or bool(template.through)
        if passes:
            return await self._pass_many(taker, plan)
        with self._spans.enqueue(plan.templates) as makers:
            for _ in plan.encode(makers):
                # A worker in this process must get to its heartbeats and its jobs meanwhile.
                await asyncio.sleep(0)
            places = await taker.enqueue_many(plan.jobs, plan.names)
        return plan.handles(self.reader, places, taker.new)

    def send_from_thread(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job from a thread, for `JobFunction.enqueue_sync`."""
        template = function.template
        name = template.name
        way = self._access.from_thread(
            f"{name}: enqueue_sync() would block the event loop that runs here; "
            "write await f.enqueue(...)"
        )
        if template.through:
            # On the loop of the store, where its middleware can await.
            return way.call_from_thread(
                lambda client: self._pass(client, function, args, kwargs), name
            )
        with self._spans.enqueue((template,)) as (maker,):
            job = maker.new_job(args, kwargs)
            place = way.call_from_thread(lambda client: _enqueue(client, job, template), name)
        return _handle(template, self.reader, job, place)

    # -- kept for the success of an attempt -------------------------------------------------------

    async def keep(self, call: JobCall[R], find: FindEffects) -> JobHandle[R]:
        """Keep one job, for `JobContext.enqueue`, which lists the errors."""
        self._check(call)
        keeping = Keeping(self._access.client, find)
        if call.function.template.through:
            return await self._pass(keeping, call.function, call.args, call.kwargs)
        (handle,) = await self._send_many(keeping, Plan([call]))
        return handle

    async def keep_many(self, calls: Sequence[JobCall[R]], find: FindEffects) -> list[JobHandle[R]]:
        """Keep many jobs, for `JobContext.enqueue_many`, which lists the errors."""
        return await self._send_many(Keeping(self._access.client, find), self.plan(calls))

    def keep_from_thread(self, call: JobCall[R], find: FindEffects) -> JobHandle[R]:
        """Keep one job from a thread, for `JobContext.enqueue_sync`."""
        self._check(call)
        function = call.function
        template = function.template
        name = template.name
        way = self._access.from_thread(
            f"{name}: ctx.enqueue_sync() would block the event loop that runs here; "
            "write await ctx.enqueue(...)"
        )
        # What an attempt keeps is changed on its loop only.
        if template.through:
            return way.call_from_thread(
                lambda client: self._pass(Keeping(client, find), function, call.args, call.kwargs),
                name,
            )
        with self._spans.enqueue((template,)) as (maker,):
            job = maker.new_job(call.args, call.kwargs)

            async def ask(client: Client) -> Placed | None:
                return await _enqueue(Keeping(client, find), job, template)

            place = way.call_from_thread(ask, name)
        return _handle(template, self.reader, job, place, "pending")

    async def expand(self, work: Any, flow: FlowContext, find: FindEffects) -> list[str]:
        """Keep the jobs of new nodes, for `FlowContext.expand`, which lists the errors."""
        return await expand(self, work, flow, Keeping(self._access.client, find))

    # -- with middleware around it ----------------------------------------------------------------

    def _pass(
        self,
        taker: Taker,
        function: JobFunction[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Coroutine[Any, Any, JobHandle[Any]]:
        """Take one call through its middleware to the store."""
        call = EnqueueCall(function, args, kwargs)
        return Passing(function.template.through, partial(self._deliver, taker)).run(call)

    async def _deliver(self, taker: Taker, call: EnqueueCall) -> JobHandle[Any]:
        template: JobTemplate = call.function.template
        with self._spans.enqueue((template,)) as (maker,):
            job = maker.new_job(call.args, dict(call.kwargs))
            # The middleware may have asked for more than the job function does.
            place = await _enqueue(taker, job, template)
        return _handle(template, self.reader, job, place, taker.new)

    async def _pass_many(self, taker: Taker, plan: Plan[R]) -> list[JobHandle[R]]:
        """Take calls through their middleware, a thousand beside each other."""
        arrivals: list[Arrival] = []
        while calls := plan.next_calls(PLAN_STEP):
            arrivals += await Convoy(partial(self._deliver_all, taker)).run(
                [
                    (EnqueueCall(each.function, each.args, each.kwargs), template.through)
                    for each, template in calls
                ]
            )
        return conclude(arrivals)

    async def _deliver_all(
        self, taker: Taker, passed: Sequence[Passed]
    ) -> list[JobHandle[Any] | UniqueConflict]:
        calls = [each.call for each in passed]
        plan = Plan([JobCall(each.function, each.args, dict(each.kwargs)) for each in calls])
        for template in plan.templates:
            check_needs(template.name, template.needs, taker.backend)
        contexts = [each.context for each in passed]
        with self._spans.enqueue(plan.templates) as makers:
            for _ in plan.encode(map(_Within, contexts, makers)):
                await asyncio.sleep(0)
            places = await taker.enqueue_many(plan.jobs, plan.names)
        return plan.arrivals(self.reader, places, taker.new)

    def trial(self, call: JobCall[Any]) -> NewJob:
        """The job of this call, which is not stored. Raises UsageError, ArgumentsError and
        EncodeError."""
        self._check(call)
        return call.function.template.new_job(call.args, call.kwargs)

    def _check(self, call: Any) -> None:
        if not isinstance(call, JobCall):
            raise UsageError(f"enqueue_many() takes calls, not {shown(call)}; write f.bind(...)")
        # Its registry may belong to another app, and then its jobs go to another store.
        if call.function.sender is not self:
            raise UsageError(
                f"{call.function.name} belongs to another AsyncJobs; enqueue it through that one"
            )


class _Within:
    """Makes jobs in a context: that of the middleware which a call has passed."""

    __slots__ = ("_context", "_maker")

    def __init__(self, context: Context, maker: Maker) -> None:
        self._context = context
        self._maker = maker

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob:
        return self._context.run(self._maker.new_job, args, kwargs)


def _enqueue(
    taker: Taker, job: NewJob, template: JobTemplate
) -> Coroutine[Any, Any, Placed | None]:
    check_needs(template.name, template.needs, taker.backend)
    return taker.enqueue(job, template.name)


def _handle(
    template: JobTemplate,
    reader: Reader,
    job: NewJob,
    place: Placed | None,
    new: Disposition = "new",
) -> JobHandle[Any]:
    """The handle of the job that was enqueued, or of the job that stands in its place. Raises
    UniqueConflict."""
    if place is None:
        return template.handle(reader, job.queue, job.id, new)
    conflict = template.conflict(job, place)
    if conflict is not None:
        raise conflict
    return template.handle(reader, job.queue, place.ref.id, _DISPOSITIONS[place.how])


async def _listed(calls: Iterable[JobCall[R]]) -> list[JobCall[R]]:
    """The calls as a list. A slow iterator does not block the loop for long."""
    listed: list[JobCall[R]] = []
    for call in calls:
        listed.append(call)
        if len(listed) % PLAN_STEP == 0:
            await asyncio.sleep(0)
    return listed
