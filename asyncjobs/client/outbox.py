"""The outbox: from calls of job functions to stored jobs and their handles."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

from asyncjobs.client.client import Client
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.template import JobTemplate
from asyncjobs.model.job import NewJob
from asyncjobs.store.answers import Placed

__all__ = ["Access", "Maker", "Outbox", "Plan", "Spans", "ThreadWay"]

R = TypeVar("R")
T = TypeVar("T")

PLAN_STEP: Final = 1_000
"""Calls that are listed or encoded in one go; then the loop has its turn."""


class ThreadWay(Protocol):
    """An open store, for threads that run no loop."""

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """What `ask` answers on the loop of the store; blocks. `name` is of who asks."""
        ...


class Access(Protocol):
    """How the outbox comes to the open store."""

    @property
    def client(self) -> Client:
        """The client of the running loop. Raises NotOpen."""
        ...

    def from_thread(self, instead: str) -> ThreadWay:
        """The open store, or one that is opened for threads. Raises NotOpen, and UsageError
        where a loop runs, which says what to write `instead`."""
        ...


class Maker(Protocol):
    """Makes jobs: the template of a job function, or one with a trace for each job."""

    def new_job(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> NewJob: ...


class Spans(Protocol):
    """What surrounds an enqueue: tracing."""

    @property
    def tracing(self) -> object | None:
        """None while nobody traces."""
        ...

    def enqueue(self, templates: Sequence[JobTemplate]) -> AbstractContextManager[Sequence[Maker]]:
        """Entered, it gives a maker for each job; left, the jobs are stored or are not."""
        ...


class Plan(Generic[R]):
    """What is to be stored for some calls. Synchronous: asks no store, tests need none.

    `encode` makes the jobs, and takes the calls off while it does: a million of them need as
    much memory as their jobs. `handles` is what the callers get.
    """

    def __init__(self, calls: Iterable[JobCall[R]]) -> None:
        self.jobs: list[NewJob] = []
        self._calls = deque(calls)
        self.templates = [call.function.template for call in self._calls]

    @property
    def names(self) -> list[str]:
        """The name of each job's function."""
        return [template.name for template in self.templates]

    def encode(self, makers: Iterable[Maker]) -> Iterator[None]:
        """Make the jobs; yields after each thousand. Raises ArgumentsError, EncodeError."""
        for maker in makers:
            call = self._calls.popleft()
            self.jobs.append(maker.new_job(call.args, call.kwargs))
            if len(self.jobs) % PLAN_STEP == 0:
                yield

    def handles(self, reader: Reader, places: Sequence[Placed | None]) -> list[JobHandle[R]]:
        """The handles, given where each job is: None for one that is new."""
        return [
            _handle(template, reader, job, place)
            for template, job, place in zip(self.templates, self.jobs, places, strict=True)
        ]


class Outbox:
    """Plans what is to be stored, sends it, and hands out the handles.

    One way down: a job function calls `send`, which makes the job by the function's template
    and gives it to the client. There are three ways to send: a lone job on this loop, many on
    this loop, one from a thread. Owns nothing that is open. What shall surround each enqueue,
    or store it in a transaction of the user's, has its place here, between plan and client.
    """

    def __init__(self, reader: Reader, access: Access, spans: Spans) -> None:
        """`reader`: what the handles ask, the app."""
        self.reader = reader
        self._access = access
        self._spans = spans

    def plan(self, calls: Iterable[JobCall[R]]) -> Plan[R]:
        """What is to be stored for these calls. Raises UsageError for what is no call of a job
        function of this app."""
        listed = list(calls)
        for call in listed:
            self._check(call)
        return Plan(listed)

    async def send(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job; behind `JobFunction.enqueue`, which says what is raised.

        The plan of one call is its job: a Plan around it would cost a tenth of an enqueue.
        """
        client = self._access.client
        template = function.template
        if self._spans.tracing is None:
            job = template.new_job(args, kwargs)
            place = await client.enqueue(job, template.name)
        else:
            with self._spans.enqueue((template,)) as (maker,):
                job = maker.new_job(args, kwargs)
                place = await client.enqueue(job, template.name)
        if place is None:
            return template.handle(self.reader, job.id, is_new=True)
        return _handle(template, self.reader, job, place)

    async def send_many(self, calls: Iterable[JobCall[R]]) -> list[JobHandle[R]]:
        """Store many jobs; behind `AsyncJobs.enqueue_many`, which says what is raised."""
        client = self._access.client
        plan = self.plan(await _listed(calls))
        with self._spans.enqueue(plan.templates) as makers:
            for _ in plan.encode(makers):
                await asyncio.sleep(0)
            places = await client.enqueue_many(plan.jobs, plan.names)
        return plan.handles(self.reader, places)

    def send_from_thread(
        self, function: JobFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """Store one job from a thread; behind `JobFunction.enqueue_sync`."""
        template = function.template
        name = template.name
        way = self._access.from_thread(
            f"{name}: enqueue_sync() would block the event loop that runs here; "
            "write await f.enqueue(...)"
        )
        with self._spans.enqueue((template,)) as (maker,):
            job = maker.new_job(args, kwargs)
            place = way.call_from_thread(lambda client: client.enqueue(job, name), name)
        return _handle(template, self.reader, job, place)

    def _check(self, call: Any) -> None:
        if not isinstance(call, JobCall):
            raise UsageError(f"enqueue_many() takes calls, not {shown(call)}; write f.bind(...)")
        if call.function.sender is not self:
            raise UsageError(
                f"{call.function.name} belongs to another AsyncJobs; enqueue it through that one"
            )


def _handle(
    template: JobTemplate, reader: Reader, job: NewJob, place: Placed | None
) -> JobHandle[Any]:
    """The handle of a job that was enqueued, or of the one that stands in its place."""
    if place is None:
        return template.handle(reader, job.id, is_new=True)
    return template.handle(reader, place.ref.id, is_new=False)


async def _listed(calls: Iterable[JobCall[R]]) -> list[JobCall[R]]:
    """The calls of an iterator, which may take long to make them."""
    listed: list[JobCall[R]] = []
    for call in calls:
        listed.append(call)
        if len(listed) % PLAN_STEP == 0:
            await asyncio.sleep(0)
    return listed
