"""How a job has ended, as the callbacks of users see it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.model.refs import JobRef

__all__ = ["EndCallback", "JobEnd"]


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job that is dead or discarded.

    ref: the job's queue and id.
    name: the job function; empty if the stored job cannot be read.
    number: the attempt that was the last one, from 1.
    reason: for a dead job exhausted, crashed, unknown or unreadable; for a discarded one the reason
    of the `Discard`, without sensitive values, or expired.
    error: what the last attempt has raised; None if no attempt has failed here.
    attempt: with the arguments; None if the job cannot be read or its function is not known here.
    """

    ref: JobRef
    name: str
    number: int
    reason: str
    error: BaseException | None = None
    attempt: JobAttempt | None = field(default=None, repr=False)


EndCallback: TypeAlias = Callable[[JobEnd], Coroutine[Any, Any, object]]
"""A callback of `on_dead` and `on_discard`: `async def c(end)`."""
