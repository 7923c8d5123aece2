"""Handles the three signals of a worker's end: finish, release, exit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType, TracebackType
from typing import Any, Final, Self

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.children import end_children
from asyncjobs.host.exits import ExitCode, say_at_once

__all__ = ["Signals"]

logger = GuardedLog("asyncjobs.cli")

LOOK_S: Final = 0.5
"""How often to check whether a job has replaced the handlers."""
_PR_SET_PDEATHSIG: Final = 1
_HANDLED: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)
)


class Signals:
    """Owns the handlers of SIGTERM and SIGINT while it is entered, on the main thread.

    The first two signals are passed to `on_signal` on the loop. The third one ends the process at
    once. The handlers are the interpreter's and not the loop's: when a job blocks the loop, the
    third signal must work all the same. They are for this process only: a child that a job forks
    gets the handlers from before.

    on_signal: called with the name of the signal and its count, in the context of the code that has
    entered. A handler runs in the context of the code that it interrupts, so a log line would carry
    the id of some job.
    at_once: called in the handler itself, even if a job blocks the loop. It must take no lock.
    on_count: called in the handler itself with the count. It may do next to nothing.
    last_words: written to stderr when the third signal ends the process.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_signal: Callable[[str, int], None],
        *,
        at_once: Callable[[], None],
        last_words: bytes,
        on_count: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._loop = loop
        self._on_signal = on_signal
        self._at_once = at_once
        self._on_count = on_count
        self._last_words = last_words
        self._context = copy_context()
        self._count = 0
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._die_with_parent = _parent_death()
        # Each access to `_handle` makes a new object. One is kept, to be found by `is`.
        self._handler = self._handle
        self._before: dict[int, Any] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._context = copy_context()
        for number in _HANDLED:
            self._before[number] = signal.signal(number, self._handler)
        _entered.append(self)
        self._timer = self._loop.call_later(LOOK_S, self._look, context=self._context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _entered.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        # The worker has ended and its exit code is decided. A signal this late must not make the
        # end look like a failure.
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)

    def interrupt(self) -> None:
        """A KeyboardInterrupt has stopped the loop. A job has raised it, or it comes from a SIGINT
        after a job has replaced the handler."""
        if self._take_back():
            self._handle(signal.SIGINT, None)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look, context=self._context)
        self._take_back()

    def _take_back(self) -> list[str]:
        """Install the handlers again that somebody has replaced. Returns their names."""
        names = []
        for number in _HANDLED:
            if signal.getsignal(number) is not self._handler:
                signal.signal(number, self._handler)
                names.append(signal.Signals(number).name)
        if names:
            logger.warning(
                "a job has replaced the handler of %s: the worker could not be stopped by it, so "
                "it has installed its own again; run code that handles signals in another process",
                " and ".join(names),
            )
        return names

    def leave_child(self) -> None:
        """Called in a forked child, which must not act as the worker."""
        for number, handler in self._before.items():
            # rule:17 a forked child has no handlers of the worker
            if signal.getsignal(number) is self._handler:
                signal.signal(number, handler)
        with contextlib.suppress(ValueError):
            # Otherwise a signal of the child would wake the loop of the worker.
            signal.set_wakeup_fd(-1)
        if threading.get_ident() != self._thread:
            # The system takes the end of the thread that forks for the death of the parent.
            return
        self._die_with_parent()
        if os.getppid() != self._pid:
            # The worker was killed before this: the signal of its death will not come.
            os._exit(ExitCode.FAILED)
        if self._loop.is_running():
            # A child that returns into the loop would be a second worker on the same connections.
            # Its copies of the ready callbacks are dropped, and the next turn ends it. uvloop does
            # not show its ready callbacks.
            ready = getattr(self._loop, "_ready", None)
            if isinstance(ready, deque):
                ready.clear()
            self._loop.call_soon(_end_stray)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A fork in C code, which has not called the hooks of Python.
            self.leave_child()
            os.kill(os.getpid(), number)
            return
        self._count += 1
        if self._count > 3:
            # The third signal is already ending the process.
            return
        if self._count == 3:
            # Not by the log: the interrupted thread may hold its lock.
            say_at_once(self._last_words)
            end_children(0)
            os._exit(128 + number)
        # rule:7 a worker that was told to end says so also when a job blocks the loop
        # rule:17 the store hears of the end from the signal handler, whatever blocks the loop
        self._at_once()
        self._on_count(self._count)
        if not self._loop.is_closed():
            name = signal.Signals(number).name
            self._loop.call_soon_threadsafe(
                self._on_signal, name, self._count, context=self._context
            )


def _parent_death() -> Callable[[], object]:
    """Makes a forked child end with this process, even if that is killed. On Linux only."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_entered: Final[list[Signals]] = []
_held: Final = threading.local()


def _hold_signals() -> None:
    """Before a fork: hold signals back until the child has its own handlers.

    Python drops the signals that a child gets before that. A job that ends its child at once would
    then wait for its end in vain.
    """
    if _entered:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def _release_signals() -> None:
    mask = getattr(_held, "mask", None)
    if mask is not None:
        del _held.mask
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_child() -> None:
    while _entered:
        _entered.pop().leave_child()
    _release_signals()


def _end_stray() -> None:
    say_at_once(b"asyncjobs: a job has forked, and its child came back to the loop; it ends here\n")
    os._exit(ExitCode.FAILED)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_signals, after_in_parent=_release_signals, after_in_child=_leave_child
    )
