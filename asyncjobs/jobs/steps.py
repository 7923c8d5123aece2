"""Steps of a job: what is done is not done again, and a loop goes on at its cursor."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

import anyio.to_thread

from asyncjobs.errors import UsageError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.cursors import from_tagged, to_tagged
from asyncjobs.jobs.notebook import Notebook
from asyncjobs.jobs.seat import Seat
from asyncjobs.jobs.suspend import Suspend
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.notes import STEP
from asyncjobs.model.refs import JobRef

__all__ = ["Step", "StepNote", "Steps", "read_step"]

logger = GuardedLog("asyncjobs.worker")

MOST_NAME: Final = 200
"""Characters of the name of a step."""
_UNSET: Final[Any] = object()
_ISOLATED: Final = "isolated"
_FINISHED: Final = b'{"finished":true'
"""How the notes of finished steps begin."""

C = TypeVar("C")


class StepNote(NamedTuple):
    """A step as the store keeps it. `at_ms`: when it was written, by the store's clock."""

    is_finished: bool
    cursor: Any
    result: Any
    at_ms: int


def read_step(raw: bytes) -> StepNote:
    """Raises BadRecord."""
    fields = read_fields(raw)
    at_ms = fields.get("at")
    if type(at_ms) is not int or type(fields.get("finished")) is not bool:
        raise BadRecord("a field of the step has the wrong type")
    cursor, result = from_tagged(fields.get("cursor")), from_tagged(fields.get("result"))
    return StepNote(fields["finished"], cursor, result, at_ms)


class Steps:
    """The steps of one attempt. Used on the worker's loop only."""

    def __init__(self, seat: Seat, book: Notebook, ref: JobRef, function: str) -> None:
        self.seat = seat
        self.book = book
        self.ref = ref
        self._function = function
        self._used: set[str] = set()
        """Names that this attempt may not use again."""
        self._open: list[str] = []
        self._said: dict[str, tuple[bool, Any]] = {}
        """Whether each step is finished, and its cursor as JSON."""
        self._has_worked = False
        self._was_isolated = False
        self._is_broken = False
        """Whether a step was left by an error."""
        self.note_state: Callable[[], None] = lambda: None
        """Notes the state of the job as it is now."""

    async def begin(self, name: str, *, is_isolated: bool) -> StepNote | None:
        """Enter a step; what the store knows of it. Raises UsageError, BadRecord, and Suspend if
        an attempt of its own has to run it."""
        _check_name(name)
        if name in self._used:
            raise UsageError(
                f"{self._function} has two steps with the name {shown(name)} in one attempt; "
                "steps are matched by name, so give each its own"
            )
        if is_isolated and self._open:
            raise UsageError(
                f"the isolated step {shown(name)} of {self._function} is inside the step "
                f"{shown(self._open[-1])}; an isolated step has an attempt of its own"
            )
        self._used.add(name)
        try:
            known = await self._known(name)
            if known is None or not known.is_finished:
                # rule:24 a step that the store would not keep does not run
                self.book.check_room(STEP + name, f"step {shown(name)}")
                if not self._has_worked:
                    self._warn_of_removed()
                await self._stand_apart(is_isolated=is_isolated)
        except BaseException:
            self._used.discard(name)
            raise
        self._open.append(name)
        if known is not None:
            self._said[name] = known.is_finished, to_tagged(known.cursor, "the cursor")
        return known

    async def _known(self, name: str) -> StepNote | None:
        raw = (await self.book.read()).get(STEP + name)
        if raw is None:
            return None
        try:
            return read_step(raw)
        except BadRecord as error:
            raise BadRecord(f"the note of the step {shown(name)} cannot be read: {error}") from None

    async def _stand_apart(self, *, is_isolated: bool) -> None:
        """An isolated step begins an attempt, and nothing follows it there."""
        if self._was_isolated or (is_isolated and self._has_worked):
            await self.write()
            # After steps that have failed the next attempt would come here again, for ever.
            # rule:24 a job comes back for an isolated step only after it went forward
            if self.book.is_ahead:
                raise Suspend(0, _ISOLATED)
        self._has_worked = True
        self._was_isolated = is_isolated

    def _warn_of_removed(self) -> None:
        """Earlier attempts have finished steps that this one has not come to, and it begins a new
        one."""
        for note, raw in self.book.known.items():
            name = note.removeprefix(STEP)
            if name != note and name not in self._used and raw.startswith(_FINISHED):
                _warn_once(self._function, name)

    def note(self, name: str, *, is_finished: bool, cursor: Any, result: Any = None) -> None:
        what = f"step {shown(name)}"
        record: dict[str, Any] = {"finished": is_finished, "at": self.seat.now_ms}
        if cursor is not None:
            record["cursor"] = to_tagged(cursor, f"the cursor of {what} of {self.ref}")
        if result is not None:
            record["result"] = to_tagged(result, f"the result of {what} of {self.ref}")
        said = is_finished, record.get("cursor")
        # rule:24 a cursor that stays where it was brings no job forward
        is_forward = said != self._said.get(name)
        self._said[name] = said
        self.book.note(STEP + name, to_json(record), what, forward=is_forward)
        # rule:24 the state is noted with each cursor, and sent in one request with it
        self.note_state()

    async def finish(self, name: str, began_s: float, cursor: Any, result: Any = None) -> None:
        """Return when the store knows that the step is finished."""
        # rule:24 a step is finished when the store knows it, and not before
        self.note(name, is_finished=True, cursor=cursor, result=result)
        await self.write()
        self.seat.tell_finished(name, time.monotonic() - began_s)
        self._open.remove(name)

    def leave(self, name: str) -> None:
        """The body has raised, or has finished before. After an error the attempt may try the same
        step again."""
        self._open.remove(name)

    def leave_failed(self, name: str) -> None:
        self.leave(name)
        self._used.discard(name)
        self._is_broken = True

    async def write(self) -> None:
        """Return when the store has all notes."""
        self.note_end()
        await self.book.write()

    def note_end(self) -> None:
        """Note the state where the attempt is left.

        Not in the midst of a step: a later attempt begins at the cursor, and would count twice
        what the state has of the piece behind it.
        """
        # rule:24 the state of a piece that was not finished is not kept
        if not self._open and not self._is_broken:
            self.note_state()

    async def call(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call `function` if no attempt has finished this step, and keep what it returns."""
        known = await self.begin(name, is_isolated=False)
        # rule:24 a finished step does not run again
        if known is not None and known.is_finished:
            self.leave(name)
            return known.result
        began_s = time.monotonic()
        try:
            result = await _called(function, args, kwargs)
            await self.finish(name, began_s, None, result)
        except BaseException:
            if name in self._open:
                self.leave_failed(name)
            raise
        return result


async def _called(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = getattr(function, "__call__", None)  # noqa: B004  an object may have an async one
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return await function(*args, **kwargs)
    # It may block, and must not hold up the other jobs of the loop.
    value = await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs))
    if inspect.isawaitable(value):
        return await value
    return value


class Step(Generic[C]):
    """A step with a cursor, made by `ctx.step(name, start=…)`. Two ways to enter it:

    `async for step in ctx.step(…):` runs its body once: a finished step is passed.
    `async with ctx.step(…) as step:` runs its body in each attempt, for Python has no way to skip
    it: ask `step.is_finished` before effects that must not come twice.

    The step is finished when the body ends without an error, and the store knows it before the
    line behind the body. A body that is left by `break` or by an error is not finished.
    """

    __slots__ = ("_began_s", "_cursor", "_is_finished", "_is_isolated", "_steps", "name")

    def __init__(self, steps: Steps, name: str, start: C, *, is_isolated: bool) -> None:
        self._steps = steps
        self.name = name
        self._cursor = start
        self._is_isolated = is_isolated
        self._is_finished: bool | None = None
        self._began_s = 0.0

    @property
    def cursor(self) -> C:
        """Where the step goes on: the newest cursor that it was advanced to, in this attempt or
        an earlier one; `start` before that. It has the type that it had."""
        self._check_entered()
        return self._cursor

    @property
    def is_finished(self) -> bool:
        """Whether an earlier attempt has finished this step."""
        self._check_entered()
        return bool(self._is_finished)

    def _check_entered(self) -> None:
        if self._is_finished is None:
            raise UsageError(
                f"the step {shown(self.name)} was not entered; write `async for step in "
                f"ctx.step({shown(self.name)}, …):`"
            )

    async def advance(self, cursor: C) -> None:
        """All up to `cursor` is done: an attempt after this one goes on behind it.

        Does not wait for the store. It hears of the newest cursor a few times a second, at the
        end of the step, and when the attempt ends with an error or by a stop. After a kill -9 an
        attempt may so begin a fraction of a second before. See `checkpoint`.

        Raises EncodeError for a value that JSON cannot hold with its type, and UsageError for one
        that is too large.
        """
        self._check_entered()
        self._steps.note(self.name, is_finished=False, cursor=cursor)
        self._cursor = cursor

    async def checkpoint(self, cursor: C = _UNSET) -> None:
        """`advance`, and return only when the store has it, even if it is away until then.

        cursor: the new cursor; without one, that of the last `advance` is written.

        If the job is another worker's by now, the attempt is cancelled here.
        """
        self._check_entered()
        if cursor is not _UNSET:
            await self.advance(cursor)
        await self._steps.write()

    async def _enter(self) -> bool:
        """Whether the body is to be run."""
        known = await self._steps.begin(self.name, is_isolated=self._is_isolated)
        self._is_finished = False
        if known is not None:
            self._is_finished = known.is_finished
            if known.cursor is not None:
                self._cursor = known.cursor
        self._began_s = time.monotonic()
        return not self._is_finished

    async def _end(self) -> None:
        if self._is_finished:
            self._steps.leave(self.name)
            return
        await self._steps.finish(self.name, self._began_s, self._cursor)

    async def __aenter__(self) -> Self:
        await self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._end()
        else:
            self._steps.leave_failed(self.name)

    def __aiter__(self) -> _Pass[C]:
        return _Pass(self)

    def __repr__(self) -> str:
        return f"<Step {shown(self.name)} of {self._steps.ref}>"


class _Pass(Generic[C]):
    """The loop around a step's body: one turn, or none if the step is finished.

    No generator: one that is left by an error would be closed by a task of the loop, at any time.
    """

    __slots__ = ("_has_begun", "_step")

    def __init__(self, step: Step[C]) -> None:
        self._step = step
        self._has_begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Step[C]:
        if self._has_begun:
            await self._step._end()
            raise StopAsyncIteration
        self._has_begun = True
        # rule:24 the body of a finished step is passed
        if not await self._step._enter():
            await self._step._end()
            raise StopAsyncIteration
        return self._step


_warned: set[tuple[str, str]] = set()
"""Function and step of each warning: thousands of jobs would say the same. Bounded below."""
_MOST_WARNED: Final = 1_000


def _warn_once(function: str, step: str) -> None:
    if (function, step) in _warned or len(_warned) >= _MOST_WARNED:
        return
    _warned.add((function, step))
    logger.warning(
        "%s: an earlier attempt has finished the step %r, and this one has not come to it; if it "
        "was renamed, it runs again under its new name",
        function,
        step,
    )


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name or len(name) > MOST_NAME or not name.isprintable():
        raise UsageError(
            f"the name of a step must be a printable text of 1 to {MOST_NAME} characters, not "
            f"{shown(name)}"
        )
