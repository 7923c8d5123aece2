"""The types of the decorators that `job(...)` returns, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from asyncjobs.jobs.function import JobFunction

__all__ = ["Register", "RegisterBatch"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Register(Protocol):
    """What `job(queue=...)` returns: a decorator for async and sync functions."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...


class RegisterBatch(Protocol):
    """What `job(batch=...)` returns: a decorator for functions that take a list. A job has one
    item of it, and its result is that of the item."""

    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, None]], /
    ) -> JobFunction[[T], None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> JobFunction[[T], R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], None], /) -> JobFunction[[T], None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Sequence[R | Exception]], /
    ) -> JobFunction[[T], R]: ...
