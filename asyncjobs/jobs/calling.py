"""The steps between a stored call and the call of its function.

Most functions have none, and nothing here runs for them. A job function that has some names them
once, in `JobFunction.plan`. Each attempt passes them in order: inside the middleware `within` it,
before the executor. So a step is a part of the attempt: its time-out runs, and what it raises is
judged.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeAlias

__all__ = ["CallPlan", "Prepared", "Step"]


class Prepared:
    """The arguments of one call, while the steps make them ready.

    A step replaces `args` and `kwargs`, or changes `kwargs` in place. `kwargs` has the injected
    JobContext already. What a step opens, it enters on `exits`: it is closed after the call.
    """

    __slots__ = ("_exits", "args", "kwargs")

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self._exits: AsyncExitStack | None = None

    @property
    def exits(self) -> AsyncExitStack:
        """What is closed after the call, whatever the call does."""
        if self._exits is None:
            self._exits = AsyncExitStack()
        return self._exits

    @property
    def has_exits(self) -> bool:
        """Whether a step has asked for `exits`."""
        return self._exits is not None


Step: TypeAlias = Callable[[Prepared], Coroutine[Any, Any, None] | None]
"""One step. A sync one returns None; a coroutine is awaited before the next step."""


class CallPlan:
    """The steps of one job function. An empty plan is false."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self._steps = tuple(steps)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __add__(self, other: CallPlan) -> CallPlan:
        """The steps of this plan, then those of the other one."""
        return CallPlan((*self._steps, *other._steps))

    async def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        execute: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]],
    ) -> Any:
        """Pass the steps, and let `execute` call the function. Raises what either raises."""
        prepared = Prepared(args, kwargs)
        try:
            for step in self._steps:
                waiting = step(prepared)
                if waiting is not None:
                    await waiting
            value = await execute(partial(function, *prepared.args, **prepared.kwargs))
        except BaseException as error:
            # The resources see the error, as in an `async with` around the call.
            # rule:28 what was made for an attempt is ended, whatever the end of the attempt is
            if prepared.has_exits:
                await prepared.exits.__aexit__(type(error), error, error.__traceback__)
            # rule:28 a dependency that swallows the error of its job does not make it a success
            raise
        if prepared.has_exits:
            await prepared.exits.aclose()
        return value
