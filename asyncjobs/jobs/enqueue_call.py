"""One call that is enqueued, as the middleware of enqueues sees and changes it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, Unpack

from asyncjobs.jobs.handle import JobHandle
from asyncjobs.options.table import EnqueueOptions, JobOptions

__all__ = ["EnqueueCall", "EnqueueMiddleware", "Send"]


class Called(Protocol):
    """What a call needs of its job function."""

    name: str

    @property
    def settings(self) -> JobOptions: ...

    def options(self, **options: Unpack[EnqueueOptions]) -> Any: ...


class EnqueueCall:
    """A call of a job function on its way to the store. Never changes: `replace` makes another.

    `args` and `kwargs` are the arguments as the caller has given them. They may hold secrets: mask
    them before you log them.
    """

    __slots__ = ("_function", "args", "kwargs")

    def __init__(self, function: Called, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._function = function
        self.args: tuple[Any, ...] = tuple(args)
        self.kwargs: Mapping[str, Any] = MappingProxyType(dict(kwargs))

    @property
    def name(self) -> str:
        """The name of the job function."""
        return self._function.name

    @property
    def function(self) -> Any:
        """The job function, with the options of this call."""
        return self._function

    @property
    def options(self) -> JobOptions:
        """All options of the job, with the defaults of the function and of the app."""
        return self._function.settings

    def replace(
        self,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> EnqueueCall:
        """The same call with other arguments or options: `send(call.replace(priority="low"))`.

        args: all positional arguments; None leaves them.
        kwargs: all keyword arguments; None leaves them.
        Further options are those of `JobFunction.options`.

        The arguments are checked when the call is sent. Raises ConfigError naming an option, and
        TypeError for an unknown one.
        """
        function = self._function
        if options:
            function = function.options(**options)
        if args is None:
            args = self.args
        if kwargs is None:
            kwargs = self.kwargs
        return EnqueueCall(function, args, kwargs)

    def __repr__(self) -> str:
        # Without the arguments: a repr is what ends up in logs.
        return f"<EnqueueCall {self.name}>"


class Send(Protocol):
    """What a middleware of enqueues gets as its second argument.

    `await send()` gives the call to what is inside, at last to the store, and returns the handle of
    the job. `await send(changed)` gives another call of the same function, made by `replace`.
    """

    def __call__(
        self, call: EnqueueCall | None = None, /
    ) -> Coroutine[Any, Any, JobHandle[Any]]: ...


EnqueueMiddleware: TypeAlias = Callable[
    [EnqueueCall, Send], Coroutine[Any, Any, JobHandle[Any] | None]
]
"""A middleware around enqueues: `async def e(call, send)`."""
