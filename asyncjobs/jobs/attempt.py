"""One attempt, as the middleware and the callbacks of users see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from asyncjobs.jobs.context import JobContext
from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.clock import now_ms
from asyncjobs.model.refs import JobRef

__all__ = ["JobAttempt"]

PLAIN_CALL = "local"
"""The id, and the worker, of an attempt that no worker runs."""


class Seen(Protocol):
    """Where an attempt's info and context come from. They are made when first asked for."""

    @property
    def info(self) -> AttemptInfo: ...

    @property
    def context(self) -> JobContext: ...


class JobAttempt:
    """One attempt of a job: which one it is, and the arguments of its call.

    `args` and `kwargs` are the arguments as they are stored, without what the worker injects.
    They may hold secrets: mask them before you log them. Middleware cannot change them.
    """

    __slots__ = ("_seen", "args", "kwargs")

    def __init__(self, seen: Seen, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._seen = seen
        self.args: tuple[Any, ...] = tuple(args)
        self.kwargs: Mapping[str, Any] = MappingProxyType(dict(kwargs))

    @classmethod
    def local(
        cls, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, queue: str = "default"
    ) -> JobAttempt:
        """The attempt of a call that runs without a worker: attempt 1 of 1, with the id `local`."""
        return cls(_Local(JobContext.local(name, queue=queue)), args, kwargs)

    @property
    def info(self) -> AttemptInfo:
        """The attempt as events show it. All events of this attempt have the same object."""
        return self._seen.info

    @property
    def context(self) -> JobContext:
        """The context that the job function gets."""
        return self._seen.context

    @property
    def ref(self) -> JobRef:
        """The job's queue and id. `str(attempt.ref)` is its public id, `queue/id`."""
        return self.info.ref

    @property
    def name(self) -> str:
        """The name of the job function."""
        return self.info.name

    @property
    def number(self) -> int:
        """Which attempt of the job it is, from 1."""
        return self.info.number

    def __repr__(self) -> str:
        # Without the arguments: a repr is what ends up in logs.
        return f"<JobAttempt {self.ref} {self.name} attempt {self.number}>"


class _Local:
    """Where a call without a worker gets its info from."""

    __slots__ = ("context", "info")

    def __init__(self, context: JobContext) -> None:
        self.context = context
        begin_ms = now_ms()
        self.info = AttemptInfo(
            context.ref,
            context.name,
            context.attempt,
            context.max_attempts,
            priority=0,
            worker=PLAIN_CALL,
            enqueued_ms=begin_ms,
            scheduled_ms=None,
            ready_ms=begin_ms,
            began_ms=begin_ms,
            tracing="none",
            trace=None,
            stops=[],
        )
