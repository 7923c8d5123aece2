"""What a running job may ask of whoever runs it: its notes, and whether it should stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from asyncjobs.errors import UsageError
from asyncjobs.jobs.effects import AttemptEffects
from asyncjobs.model.awaiting import Awaited
from asyncjobs.model.clock import now_ms
from asyncjobs.model.notes import Notes

__all__ = ["Desk", "LocalSeat", "Seat", "StopReason"]

T = TypeVar("T")

StopReason: TypeAlias = Literal["shutdown", "cancel", "timeout", "lease lost"]
"""Why a job should stop: its worker ends, a user cancels it, its time is over, or the lease was
lost and the job is another worker's."""


class Seat(Protocol):
    """The place of one attempt at its worker, as the attempt sees it.

    `is_local`: nobody comes back to this job. It is a plain call, without a worker.
    `is_open`: the attempt goes on, and its slot is its own. `now_ms`: the store's time.
    """

    @property
    def is_local(self) -> bool: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def now_ms(self) -> int: ...

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the job should stop now; None while it may go on. From any thread."""
        ...

    async def stopping(self) -> StopReason:
        """Wait until the job should stop; why."""
        ...

    def wake(self) -> None:
        """The attempt was told to stop: who waits in `stopping` looks again."""
        ...

    async def aside(self, wait: Coroutine[Any, Any, T]) -> T:
        """Wait for this, without the slot of the attempt if it has one. A stop of the worker ends
        the attempt meanwhile: raises CancelledError."""
        ...

    async def read(self) -> Notes:
        """All notes of this job. Waits while the store is away.

        If the job is another worker's by now, the attempt is stopped: raises CancelledError.
        """
        ...

    async def write(self, notes: Mapping[str, bytes]) -> None:
        """Keep notes of this job; when it returns, the store has them. Waits while it is away.

        Writing a note twice does no harm, so a lost reply is answered by sending it again. If the
        job is another worker's by now, nothing is kept and the attempt is stopped: raises
        CancelledError.
        """
        ...

    def tell_finished(self, step: str, duration_s: float) -> None:
        """A step of the job is finished, and the store knows it. Tells listeners."""
        ...

    def has_failed(self, attempt: int, kind: str) -> bool:
        """Whether this earlier attempt of the job ended by an error of this type."""
        ...

    async def await_event(
        self, name: str, key: str, note: str, after: str, timeout_ms: int, over: bytes
    ) -> Awaited:
        """Let the job wait for an event; see `EventWait`. Waits while the store is away.

        If the job is another worker's by now, the attempt is stopped: raises CancelledError.
        """
        ...

    def effects(self) -> AttemptEffects:
        """What the success of this attempt causes besides. Raises UsageError when it is over, and
        where nothing can be kept for it."""
        ...


class Desk(Protocol):
    """Gives each running job of a worker its seat."""

    def seat_of(self, context: object) -> Seat:
        """The seat of the attempt with this JobContext. From any thread."""
        ...


class LocalSeat:
    """The seat of a plain call. Its notes are gone when the call ends, and it is never stopped,
    unless it is made inside a job that is."""

    def __init__(self, outer: Seat | None = None) -> None:
        self._outer = outer
        self._notes: Notes = {}

    @property
    def is_local(self) -> bool:
        return True

    @property
    def is_open(self) -> bool:
        return True

    @property
    def now_ms(self) -> int:
        return now_ms()

    @property
    def stop_reason(self) -> StopReason | None:
        if self._outer is None:
            return None
        return self._outer.stop_reason

    async def stopping(self) -> StopReason:
        if self._outer is not None:
            return await self._outer.stopping()
        # Nobody will ever ask it to stop: only a cancellation ends this.
        never: asyncio.Future[StopReason] = asyncio.get_running_loop().create_future()
        return await never

    def wake(self) -> None:
        return

    async def aside(self, wait: Coroutine[Any, Any, T]) -> T:
        if self._outer is not None:
            return await self._outer.aside(wait)
        return await wait

    async def read(self) -> Notes:
        return dict(self._notes)

    async def write(self, notes: Mapping[str, bytes]) -> None:
        self._notes.update(notes)

    def tell_finished(self, step: str, duration_s: float) -> None:
        return

    def has_failed(self, attempt: int, kind: str) -> bool:
        return False

    async def await_event(
        self, name: str, key: str, note: str, after: str, timeout_ms: int, over: bytes
    ) -> Awaited:
        raise UsageError(f"a plain call cannot wait for the event {name!r}; let a worker run it")

    def effects(self) -> AttemptEffects:
        if self._outer is not None:
            return self._outer.effects()
        raise UsageError(
            "ctx.enqueue() stores jobs with the success of an attempt, and a plain call has none: "
            "let a worker run it, or write await f.enqueue(...)"
        )
