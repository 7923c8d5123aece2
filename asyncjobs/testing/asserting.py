"""What tests call by its plain name. Each finds the app of the test by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, overload

from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.model.clock import Seconds
from asyncjobs.model.job import Priority
from asyncjobs.testing.calls import UNSET, EnqueuedCall
from asyncjobs.testing.outcomes import Drained, Performed
from asyncjobs.testing.stage import current_stage, stage_of

__all__ = [
    "assert_enqueued",
    "drain",
    "drain_sync",
    "perform",
    "perform_sync",
    "refute_enqueued",
]

P = ParamSpec("P")
R = TypeVar("R")


def assert_enqueued(
    function: JobFunction[..., Any] | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    at: datetime | None = UNSET,
    within: Seconds | None = None,
    priority: Priority | int | str | None = None,
    count: int | None = None,
) -> list[EnqueuedCall]:
    """`recorder.assert_enqueued`: fail unless such a job was enqueued in this test."""
    __tracebackhide__ = True
    recorder = stage_of(function, "assert_enqueued()").recorder
    return recorder.assert_enqueued(
        function,
        args=args,
        kwargs=kwargs,
        queue=queue,
        at=at,
        within=within,
        priority=priority,
        count=count,
    )


def refute_enqueued(
    function: JobFunction[..., Any] | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    at: datetime | None = UNSET,
    within: Seconds | None = None,
    priority: Priority | int | str | None = None,
) -> None:
    """`recorder.refute_enqueued`: fail if such a job was enqueued in this test."""
    __tracebackhide__ = True
    recorder = stage_of(function, "refute_enqueued()").recorder
    recorder.refute_enqueued(
        function, args=args, kwargs=kwargs, queue=queue, at=at, within=within, priority=priority
    )


@overload
async def perform(call: JobCall[R], /, *, attempt: int = 1) -> Performed[R]: ...
@overload
async def perform(
    function: JobFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Performed[R]: ...
async def perform(function: Any, /, *args: Any, **kwargs: Any) -> Performed[Any]:
    """`worker.perform`: run one attempt of this call here and now, as a worker runs it."""
    worker = stage_of(_function_of(function), "perform()").worker
    return await worker.perform(function, *args, **kwargs)


@overload
def perform_sync(call: JobCall[R], /, *, attempt: int = 1) -> Performed[R]: ...
@overload
def perform_sync(
    function: JobFunction[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Performed[R]: ...
def perform_sync(function: Any, /, *args: Any, **kwargs: Any) -> Performed[Any]:
    """`worker.perform_sync`: `perform` for tests that are not async."""
    worker = stage_of(_function_of(function), "perform_sync()").worker
    return worker.perform_sync(function, *args, **kwargs)


def _function_of(called: Any) -> Any:
    return called.function if isinstance(called, JobCall) else called


async def drain(
    *, scheduled: bool = False, raise_dead: bool = True, limit: int | None = None
) -> Drained:
    """`worker.drain`: run all jobs that are ready, and those that they enqueue."""
    worker = current_stage("drain()").worker
    return await worker.drain(scheduled=scheduled, raise_dead=raise_dead, limit=limit)


def drain_sync(
    *, scheduled: bool = False, raise_dead: bool = True, limit: int | None = None
) -> Drained:
    """`worker.drain_sync`: `drain` for tests that are not async."""
    worker = current_stage("drain_sync()").worker
    return worker.drain_sync(scheduled=scheduled, raise_dead=raise_dead, limit=limit)
