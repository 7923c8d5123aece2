"""Handlers that answer the error of an attempt before its job is judged."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from asyncjobs.errors import JobSignal, RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.middleware import CallNext
from asyncjobs.policy.retry import class_name

__all__ = ["Answers", "ErrorHandler", "Handler", "Rescue", "Succeed", "check_kinds"]

E = TypeVar("E", bound=Exception)
R = TypeVar("R")

ErrorHandler: TypeAlias = Callable[[JobAttempt, Any], Coroutine[Any, Any, Any]]
MOST_LEAVES: Final = 10_000
"""Errors of a group that are looked at."""


class Succeed:
    """What a handler of errors returns to let the attempt succeed with any value, None included.

    value: the result of the job.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Answers(Protocol[E]):
    """What `on_error(...)` returns: a decorator that leaves the handler as it is."""

    def __call__(
        self, handler: Callable[[JobAttempt, E], Coroutine[Any, Any, R]], /
    ) -> Callable[[JobAttempt, E], Coroutine[Any, Any, R]]: ...


class Handler(NamedTuple):
    """One handler, and the classes of errors that it answers."""

    kinds: tuple[type[Exception], ...]
    function: ErrorHandler


class Rescue:
    """The handlers of one job function: those of its own scope first, those of the app last."""

    __slots__ = ("_scopes",)

    def __init__(self, scopes: Sequence[Sequence[Handler]]) -> None:
        self._scopes = scopes

    async def run(self, attempt: JobAttempt, call: CallNext) -> Any:
        """Run `call`, and let a handler answer its error. Raises what the answer asks for."""
        try:
            return await call()
        # What is no Exception ends the attempt: it was told to stop, or wants to exit.
        except Exception as error:
            # rule:16 no handler answers what a stopped attempt raises
            if attempt.info.stop_asked is not None:
                raise
            leaves = _errors_in(error)
            if not leaves:
                raise
            for handlers in self._scopes:
                handler = nearest(handlers, leaves)
                if handler is None:
                    continue
                # What it raises counts. Python links it with the error.
                answer = await handler(attempt, error)
                # rule:16 a handler that answers nothing leaves the error as it is
                if answer is None:
                    continue
                if isinstance(answer, JobSignal):
                    raise answer from error
                if isinstance(answer, Succeed):
                    return answer.value
                return answer
            raise


def nearest(handlers: Sequence[Handler], leaves: Sequence[Exception]) -> ErrorHandler | None:
    """The handler with the most specific class that fits all of these errors, and of equals the
    one that was added first. None if none fits."""
    best: ErrorHandler | None = None
    best_distance = 0
    for handler in handlers:
        for kind in handler.kinds:
            if not all(isinstance(leaf, kind) for leaf in leaves):
                continue
            distance = max(_distance(leaf, kind) for leaf in leaves)
            if best is None or distance < best_distance:
                best = handler.function
                best_distance = distance
    return best


def _distance(error: Exception, kind: type[Exception]) -> int:
    """How far above the class of the error this one is."""
    mro = type(error).__mro__
    if kind in mro:
        return mro.index(kind)
    # An abstract class that was registered for it is farther away than any real base.
    return len(mro)


def _errors_in(error: Exception) -> list[Exception]:
    """The errors that a handler may answer: of a group its leaves, without signals of the job."""
    found: list[Exception] = []
    left: list[BaseException] = [error]
    seen = 0
    while left:
        each = left.pop()
        seen += 1
        # A group that contains itself never ends. Such an error is judged as it is.
        if seen > MOST_LEAVES:
            return []
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
        elif isinstance(each, Exception) and not isinstance(each, JobSignal):
            found.append(each)
    return found


def check_kinds(kinds: Sequence[Any]) -> tuple[type[Exception], ...]:
    """Raises RegistrationError for what no handler can answer."""
    if not kinds:
        raise RegistrationError("on_error() names no exception class; write on_error(Exception)")
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise RegistrationError(
                f"on_error() takes classes of Exception, not {shown(kind)}: cancellation and exits "
                "are no errors of the job"
            )
        if issubclass(kind, BaseExceptionGroup):
            raise RegistrationError(
                f"on_error({class_name(kind)}) would never be called: a group counts as the errors "
                "in it; name their classes"
            )
        if issubclass(kind, JobSignal):
            raise RegistrationError(
                f"on_error({class_name(kind)}) would never be called: it is a signal and no error"
            )
    return tuple(kinds)
