"""One execution of a job, as its events and its middleware see it."""

from __future__ import annotations

from typing import Any, NamedTuple

from asyncjobs.model.job import JobRef

__all__ = ["AttemptInfo", "StopAsked"]


class StopAsked(NamedTuple):
    """An attempt was told to stop. `reason`: `timeout`, `cancel`, `shutdown` or `lease lost`;
    `mono_s`: when, in monotonic seconds."""

    reason: str
    mono_s: float


class _Fields(NamedTuple):
    ref: JobRef
    name: str
    number: int
    max_attempts: int
    priority: int
    worker: str
    enqueued_ms: int
    scheduled_ms: int | None
    ready_ms: int
    began_ms: int | None
    tracing: str
    trace: Any
    stops: list[StopAsked]


class AttemptInfo(_Fields):
    """Which execution of which job this is, and what is known of it when it begins.

    All events of one attempt and all its middleware get the same object, so it may be the key
    of a dict: two are equal only if they are one. A job may have two attempts with the same
    number, for a lost lease spends none. It holds no arguments.

    `name` is that of the job function. `number` counts from 1. `began_ms` is None while a sync
    function waits for a thread, and stays so if it never gets one. `ready_ms` and `began_ms` are
    by the store's clock, `enqueued_ms` and `scheduled_ms` by that of the client; all are
    milliseconds since the epoch. `trace` is what the job carries of a trace, as it was stored:
    nobody has looked at it. `stops` is what the attempt has been told since, oldest first: the one
    thing here that grows.
    """

    __slots__ = ()

    @property
    def queue_time_ms(self) -> int:
        """From being ready to the begin; 0 before it has begun."""
        return 0 if self.began_ms is None else max(self.began_ms - self.ready_ms, 0)

    @property
    def stop_asked(self) -> StopAsked | None:
        """The last thing that it was told to stop for; None: it was not."""
        return self.stops[-1] if self.stops else None

    # A tuple's own compare all fields.
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType]
    __ne__ = object.__ne__
    __hash__ = object.__hash__
