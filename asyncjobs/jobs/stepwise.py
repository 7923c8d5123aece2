"""What a job can do over several attempts: steps, waits without a slot, and orderly stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from asyncjobs.errors import UsageError
from asyncjobs.jobs.gathering import Gathers
from asyncjobs.jobs.notebook import Notebook
from asyncjobs.jobs.seat import Desk, LocalSeat, Seat, StopReason
from asyncjobs.jobs.sleeping import Sleeps
from asyncjobs.jobs.state import KeptState
from asyncjobs.jobs.steps import Step, Steps
from asyncjobs.jobs.suspend import Suspend
from asyncjobs.jobs.waiting import EventWaits
from asyncjobs.model.clock import Seconds
from asyncjobs.model.refs import JobRef

__all__ = ["Stepwise", "Work"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")


class Work:
    """What an attempt keeps for the attempts after it. Made when the job first asks."""

    def __init__(self, seat: Seat, ref: JobRef, function: str) -> None:
        self.seat = seat
        self.book = Notebook(seat, ref)
        self.steps = Steps(seat, self.book, ref, function)
        self.sleeps = Sleeps(seat, self.steps, function)
        self.state = KeptState(self.steps, function)

    async def close(self, limit_s: float) -> None:
        """The attempt has ended without a value: store what is not stored yet."""
        self.steps.note_end()
        await self.book.close(limit_s)


class Stepwise(Gathers):
    """The part of a job's context that outlives its attempt. A job that does nothing of it pays
    for nothing: each part is made when it is first asked for."""

    __slots__ = ("_desk", "_own_seat", "_own_waits", "_own_work")

    _desk: Desk | None
    _own_seat: Seat
    _own_waits: EventWaits
    _own_work: Work
    name: str

    @property
    def ref(self) -> JobRef:
        raise NotImplementedError  # the context of the job has it

    @property
    def seat(self) -> Seat:
        """Where this attempt reads and writes its notes. In memory for a plain call."""
        try:
            return self._own_seat
        except AttributeError:
            self._own_seat = self._new_seat()
            return self._own_seat

    def _new_seat(self) -> Seat:
        if self._desk is None:
            return LocalSeat(self._outer_seat())
        return self._desk.seat_of(self)

    def _outer_seat(self) -> Seat | None:
        """The seat of the job that makes this plain call; None for an attempt."""
        return None

    @property
    def work(self) -> Work:
        """Its steps, sleeps and state."""
        try:
            return self._own_work
        except AttributeError:
            self._own_work = Work(self.seat, self.ref, self.name)
            return self._own_work

    @property
    def work_so_far(self) -> Work | None:
        """The same, but None if the job has never asked for it."""
        try:
            return self._own_work
        except AttributeError:
            return None

    # -- steps --------------------------------------------------------------------------------

    @overload
    def step(self, name: str, /, *, start: C, isolated: bool = False) -> Step[C]: ...
    @overload
    def step(self, name: str, /, *, cursor: type[C], isolated: bool = False) -> Step[C | None]: ...
    @overload
    def step(self, name: str, /, *, isolated: bool = False) -> Step[None]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    def step(
        self,
        name: str,
        function: Callable[..., Any] | None = None,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """A piece of the job that is not done again once it is finished, in whatever attempt.

        With a function it is called, and its result is kept: `paid = await ctx.step("charge",
        charge, order_id)`. A later attempt gets the kept result, and the function is not called.
        A sync function runs in a thread.

        Without one it is a block with a cursor: `async for step in ctx.step("import", start=0):`
        runs its body once, or not at all if it is finished; the body begins at `step.cursor`, and
        says `await step.advance(cursor)` after each piece. `async with ctx.step(…) as step:` is
        the same, but runs the body of a finished step, too. See `Step`.

        name: matches the step of earlier attempts, in whatever order. Each name is used once in
        an attempt.
        start: the cursor before the first `advance`.
        cursor: the type of a cursor that is None before the first `advance`.
        isolated: the step has an attempt of its own: the job comes back for it, and after it.

        Cursors and results may be None, bool, int, float, str, bytes, date, datetime with its
        zone, time, timedelta, UUID, Decimal, and tuples, lists and dicts of them.

        Raises UsageError for a wrong or repeated name, and for one step too many.
        """
        if function is None:
            return self._block(name, args, **kwargs)
        return self.work.steps.call(name, function, args, kwargs)

    def _block(
        self,
        name: str,
        args: tuple[Any, ...],
        start: Any = None,
        cursor: type[Any] | None = None,
        isolated: bool = False,
    ) -> Step[Any]:
        if args or (cursor is not None and start is not None):
            raise UsageError(
                f"ctx.step({name!r}, …) takes a function and its arguments, or start=, or cursor="
            )
        return Step(self.work.steps, name, start, is_isolated=isolated)

    # -- state --------------------------------------------------------------------------------

    async def state(self, kind: type[T], /) -> T:
        """The job's state as a value of this type, to be read and changed.

        In the first attempt it is `kind()`. Later ones get it as it was. It is stored together
        with each cursor and each finished step. Outside of steps it is stored when the attempt
        fails, is stopped or gives its slot away; within a step such an end takes it back to the
        last cursor. `save()` stores it at once. In one attempt each call returns the same object.

        kind: a dataclass, an attrs class, a msgspec Struct, a pydantic model or a TypedDict, whose
        fields have defaults. What a step may keep may be in its fields. A field that a deploy
        has added has its default.

        Raises UsageError for another type, and for two types in one job.
        """
        return await self.work.state.get(kind)

    async def save(self) -> None:
        """Return when the store has the state and all cursors of this attempt as they are now."""
        self.work.steps.note_state()
        await self.work.book.write()

    # -- waits --------------------------------------------------------------------------------

    async def sleep(
        self,
        delay: Seconds | None = None,
        *,
        until: datetime | None = None,
        name: str | None = None,
    ) -> None:
        """Wait without a slot: the job is given away, and runs again when the time has come. Then
        it passes this line. It spends no attempt, and survives the end of its worker.

        delay: seconds or timedelta.
        until: an aware datetime instead.
        name: matches the sleep of earlier attempts. Without it the first sleep of an attempt
        matches the first one, and so on: give names where a branch may leave one out.

        The job runs again from its start, so what is before this line belongs into steps. Less
        than a second is waited for in the slot. A plain call waits in place.

        Raises UsageError unless one of `delay` and `until` is given, and ConfigError for a wrong
        one.
        """
        await self.work.sleeps.sleep(delay, until, name)

    # -- events -------------------------------------------------------------------------------

    @property
    def waits(self) -> EventWaits:
        """Its waits for events."""
        try:
            return self._own_waits
        except AttributeError:
            self._own_waits = self._new_waits()
            return self._own_waits

    def _new_waits(self) -> EventWaits:
        raise NotImplementedError  # the context of the job knows its store

    @overload
    async def wait_for(
        self, name: str, *, key: str = "", timeout: Seconds | None = None
    ) -> Any: ...
    @overload
    async def wait_for(
        self, name: str, *, key: str = "", timeout: Seconds | None = None, type: type[T]
    ) -> T: ...
    async def wait_for(
        self,
        name: str,
        *,
        key: str = "",
        timeout: Seconds | None = None,
        type: Any = Any,
    ) -> Any:
        """Wait for an event without a slot, and return its value: `paid = await ctx.wait_for(
        "paid", key=order_id, timeout=86_400)`.

        The job gives its slot away. It runs again when `app.send_event` has sent an event with
        this name and key, and then passes this line. It spends no attempt, and survives the end
        of its worker. The job runs again from its start, so what is before this line belongs into
        steps.

        name, key: texts, both together name the event.
        timeout: seconds or timedelta; None: a year.
        type: what the value is, such as a dataclass, a TypedDict, Decimal or datetime. It is
        converted and checked, as annotated arguments are.

        An event that was sent before counts, too, if it was sent since the job was enqueued and is
        still kept (`event_ttl`). The second wait of a job for an event gets the second event.

        Raises EventTimeout when none has come in time; UsageError for a wrong name or key, in a
        plain call, while another task of the job waits, for a type that nobody can convert to, and
        for a value that is no such one; ConfigError for a wrong time-out.
        """
        return await self.waits.wait(name, key, timeout, type)

    # -- stops --------------------------------------------------------------------------------

    @property
    def should_stop(self) -> StopReason | None:
        """Why the job should stop now; None while it may go on.

        `shutdown`: the worker ends. It becomes true when the grace of the stop begins: until the
        grace is over, the job may finish the piece that it works on. The others come together
        with the cancellation of an async job: `cancel`, `timeout`, `lease lost`. A sync job cannot
        be cancelled: it has to ask. Works from threads.
        """
        return self.seat.stop_reason

    async def stopping(self) -> StopReason:
        """Wait until the job should stop; why. See `should_stop`."""
        return await self.seat.stopping()

    def interrupt(self) -> NoReturn:
        """End this attempt here, and run the job again at once: on another worker, if this one
        ends. Spends no attempt.

        Does not return. For a job that `should_stop` and has finished its piece.
        """
        raise Suspend(0, "interrupted")

    def hear_stop(self) -> None:
        """The worker has told the attempt to stop."""
        try:
            seat = self._own_seat
        except AttributeError:
            return
        seat.wake()
