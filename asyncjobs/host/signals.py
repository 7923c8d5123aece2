"""The three signals of a worker's end: finish, release, exit."""

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
"""How often it is looked whether a job has replaced the handlers."""
_PR_SET_PDEATHSIG: Final = 1
_HANDLED: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)
)


class Signals:
    """Owns the handlers of SIGTERM and SIGINT while it is entered, on the main thread.

    The first two signals are handed to `on_signal` on the loop, with their name and
    count. The third ends the process at once. Handlers of the interpreter and not of the
    loop: when a job blocks the loop, the third signal must work all the same.

    `at_once` is called in the handler itself, whatever blocks the loop: it must take no lock.

    `on_signal` runs in the context of whoever enters. A handler runs in that of the code that
    it interrupts, and a log line would then carry the id of some job.
    `on_count` is called in the handler itself, with the count: it may do next to nothing.

    They are this process's alone: a child that a job forks gets back what was there before.
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
        self._handler = self._handle  # one object, to be known again
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
        # The worker has ended and the exit code stands: a signal that comes this late must not
        # make the end look like a failure.
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)

    def interrupt(self) -> None:
        """KeyboardInterrupt came out of the loop: a job's own, or that of a SIGINT whose
        handler a job has replaced."""
        if self._take_back():
            self._handle(signal.SIGINT, None)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look, context=self._context)
        self._take_back()

    def _take_back(self) -> list[str]:
        """Install the handlers again that somebody has replaced; returns their names."""
        names = []
        for number in _HANDLED:
            if signal.getsignal(number) is not self._handler:
                signal.signal(number, self._handler)
                names.append(signal.Signals(number).name)
        if names:
            logger.warning(
                "a job has replaced the handler of %s: the worker could not be stopped by it, and "
                "has its own back; run what handles signals in a process of its own",
                " and ".join(names),
            )
        return names

    def leave_child(self) -> None:
        """In a forked child: nothing here is the child's."""
        for number, handler in self._before.items():
            # rule:17 a forked child has no handlers of the worker
            if signal.getsignal(number) is self._handler:
                signal.signal(number, handler)
        with contextlib.suppress(ValueError):
            # Else its signals would wake the loop of the worker.
            signal.set_wakeup_fd(-1)
        if threading.get_ident() != self._thread:
            # The system would take the end of the thread that forks for that of the process.
            return
        self._die_with_parent()
        if os.getppid() != self._pid:
            # The worker was killed in between: no signal would come.
            os._exit(ExitCode.FAILED)
        if self._loop.is_running():
            # Should it return into the loop, it would be a second worker on our connections.
            # What is ready there is the worker's to do; uvloop shows nobody its own.
            ready = getattr(self._loop, "_ready", None)
            if isinstance(ready, deque):
                ready.clear()
            self._loop.call_soon(_end_stray)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A fork that Python has not heard of.
            self.leave_child()
            os.kill(os.getpid(), number)
            return
        self._count += 1
        if self._count > 3:
            # It has interrupted the end.
            return
        if self._count == 3:
            # Not through the log: the thread that is interrupted may be writing to it.
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
    """What makes a forked child end with this process, also when that is killed. On Linux."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_entered: Final[list[Signals]] = []
_held: Final = threading.local()


def _hold_signals() -> None:
    """Before a fork: what comes for the child waits until it has its own handlers.

    Python forgets the signals that have come by the time a child sets out, and a job that ends
    its child at once would wait for it in vain.
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
