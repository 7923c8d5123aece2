"""The three signals of a worker's end: finish, release, exit."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType, TracebackType
from typing import Final, Self

__all__ = ["Signals"]

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
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_signal: Callable[[str, int], None],
        *,
        at_once: Callable[[], None],
        last_words: bytes,
    ) -> None:
        self._loop = loop
        self._on_signal = on_signal
        self._at_once = at_once
        self._last_words = last_words
        self._context = copy_context()
        self._count = 0

    def __enter__(self) -> Self:
        self._context = copy_context()
        for number in _HANDLED:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The worker has ended and the exit code stands: a signal that comes this late must not
        # make the end look like a failure.
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= 3:
            # Not through the log: the thread that is interrupted may be writing to it.
            os.write(2, self._last_words)
            os._exit(128 + number)
        self._at_once()
        if not self._loop.is_closed():
            name = signal.Signals(number).name
            self._loop.call_soon_threadsafe(
                self._on_signal, name, self._count, context=self._context
            )
