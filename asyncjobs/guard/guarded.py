"""Calls user code that observes our work and must not change it.

Log handlers, filters and record factories, listeners and span processors run inside the worker.
If one of them raised, it would end an attempt before its settlement, a heartbeat, or the event
loop. So everything that they raise stops here, even SystemExit, and is reported once on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asyncjobs.guard.texts import visible

__all__ = ["GuardedLog", "call", "error_text", "is_small", "loop_guarded", "report"]

MOST_REPORTS: Final = 100
"""The most reports of one process. Each is for another place or type of error."""
MOST_CHARACTERS: Final = 4_000
MOST_LINKED: Final = 200
"""Errors that a traceback may show: causes, contexts, and members of groups."""
_reported: set[tuple[str, str]] = set()


def call(what: str, function: Callable[..., object], *args: Any) -> None:
    """Call `function`. Report an exception as a failure of `what`, and do not raise it."""
    try:
        function(*args)
    except BaseException as error:
        report(f"{what} failed", error)


@contextlib.contextmanager
def loop_guarded() -> Iterator[None]:
    """While entered, no log handler can end the running loop.

    asyncio logs the exceptions of callbacks and transports. A log handler that raises there would
    end the loop, and with it the worker and all of its jobs.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if before is None:
            call("asyncio's log", loop.default_exception_handler, context)
        else:
            call("the exception handler of the loop", before, loop, context)

    # rule:16 a log handler that raises in asyncio's own log does not end the loop
    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        if loop.get_exception_handler() is handle:
            loop.set_exception_handler(before)


def report(what: str, error: BaseException, line: str = "") -> None:
    """Report on stderr that user code has raised, once for each `what` and type of error.

    Does not log, because logging may be what has failed. Never raises. `line`: the log line that
    was lost by the error.
    """
    # Without a working stderr nobody can be told.
    with contextlib.suppress(BaseException):
        kind = _kind(error)
        key = (what, kind)
        if key in _reported or len(_reported) >= MOST_REPORTS:
            return
        _reported.add(key)
        parts = [f"asyncjobs: {what}: {kind}; jobs go on, and this is reported once"]
        if line:
            parts.append(f"what could not be logged: {line}")
        parts.append(error_text(error, chain=False))
        stream = sys.stderr
        # Indented and without control characters, because a job may have chosen the text.
        text = visible("\n".join(parts).rstrip()[:MOST_CHARACTERS]).replace("\n", "\n    ")
        stream.write(text[:MOST_CHARACTERS] + "\n")
        stream.flush()


def is_small(error: BaseException) -> bool:
    """Whether the error has few enough linked errors to write its traceback quickly.

    A group of 100,000 failed downloads takes seconds, and a group that contains itself never ends.
    """
    left: list[Any] = [error]
    seen = {id(error)}
    for _ in range(MOST_LINKED):
        if not left:
            return True
        each = left.pop()
        for link in (each.__cause__, each.__context__):
            # An error that is both cause and context is written once; a group's member each time.
            if link is not None and id(link) not in seen:
                seen.add(id(link))
                left.append(link)
        if issubclass(type(each), BaseExceptionGroup):
            left += each.exceptions[: MOST_LINKED + 1]
    return not left


def error_text(error: BaseException, *, chain: bool = True) -> str:
    """The traceback as text, even of an error whose own text cannot be made."""
    trace = error.__traceback__
    try:
        if not is_small(error):
            frames = "".join(traceback.format_tb(trace))
            return f"{frames}{_kind(error)}: {error}"
        return "".join(traceback.format_exception(type(error), error, trace, chain=chain))
    except BaseException as fault:
        frames = "".join(traceback.format_tb(trace))
        return f"{frames}{_kind(error)}: (its text could not be made: {_kind(fault)})"


def _kind(error: BaseException) -> str:
    try:
        return str(type(error).__qualname__)
    except BaseException:  # a metaclass of the user's own may raise
        return "an error"


class GuardedLog:
    """A logger of `logging`, except that its calls never raise.

    Each module of ours logs by one of these. The fields of `extra` are always set: a record
    factory of the user's own may have set attributes with the same names before, which makes
    a plain logger raise KeyError.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def name(self) -> str:
        """The name of the logger."""
        return self._logger.name

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as the logger calls it
        """Whether a line of this level would be written anywhere."""
        return self._logger.isEnabledFor(level)

    def debug(self, text: str, *args: Any, **more: Any) -> None:
        self._write(logging.DEBUG, text, args, **more)

    def info(self, text: str, *args: Any, **more: Any) -> None:
        self._write(logging.INFO, text, args, **more)

    def warning(self, text: str, *args: Any, **more: Any) -> None:
        self._write(logging.WARNING, text, args, **more)

    def error(self, text: str, *args: Any, **more: Any) -> None:
        self._write(logging.ERROR, text, args, **more)

    def critical(self, text: str, *args: Any, **more: Any) -> None:
        self._write(logging.CRITICAL, text, args, **more)

    def exception(self, text: str, *args: Any, **more: Any) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, text, args, exc_info=sys.exception(), **more)

    def log(self, level: int, text: str, *args: Any, **more: Any) -> None:
        self._write(level, text, args, **more)

    def _write(
        self,
        level: int,
        text: str,
        args: tuple[Any, ...],
        *,
        extra: Mapping[str, Any] | None = None,
        exc_info: BaseException | None = None,
        exc_text: str | None = None,
        stacklevel: int = 1,
    ) -> None:
        """`exc_text`: a traceback as text, for an exception that handlers must not see."""
        logger = self._logger
        try:
            if not logger.isEnabledFor(level):
                return
            # Two stack levels are ours: this function and its caller.
            path, number, function, _ = logger.findCaller(stacklevel=stacklevel + 2)
            error = None if exc_info is None else (type(exc_info), exc_info, exc_info.__traceback__)
            # rule:16 the fields of a log line may have been set by a record factory
            record = logger.makeRecord(
                logger.name, level, path, number, text, args, error, function
            )
            if exc_text is not None:
                record.exc_text = exc_text
            if extra is not None:
                vars(record).update(extra)
            logger.handle(record)
        # rule:16 a log handler that raises ends nothing
        except BaseException as fault:
            report(f"writing a line to the log {self.name!r}", fault, _line(text, args))


def _line(text: str, args: tuple[Any, ...]) -> str:
    try:
        return text % args if args else text
    except BaseException:  # the repr of a listener, for example
        return text
