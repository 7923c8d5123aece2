"""Ends the process of a worker, by a code that says why."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from contextlib import suppress
from enum import IntEnum
from typing import Final, NoReturn

from asyncjobs.host.children import end_children

__all__ = ["ExitCode", "exit_now", "say_at_once"]

FLUSH_S: Final = 2.0
"""How long it may take to write the log. Perhaps nobody reads it any more, and it would block."""


class ExitCode(IntEnum):
    """The exit codes of `asyncjobs worker`. A third signal ends it with 128 + its number."""

    CLEAN = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    RELEASED = 4
    BLOCKED = 5
    MEMORY = 6
    LOOP = 7

    @classmethod
    def failed_if(cls, problems: object) -> ExitCode:
        """FAILED when there are any problems, CLEAN when there are none."""
        if problems:
            return cls.FAILED
        return cls.CLEAN


def say_at_once(words: bytes, stream: int = 2) -> None:
    """Write a few words to stderr without the log, if that is possible now. Raises nothing.

    For code that ends the process, also in a signal handler. A reader of stderr that is gone, or
    that does not read, must not hold up the end.
    """
    with suppress(OSError, ValueError):
        # On Windows `select` works for sockets only.
        if os.name != "posix" or select.select([], [stream], [], 0)[1]:
            os.write(stream, words)


def exit_now(code: int) -> NoReturn:
    """End the process at once, whatever runs in it, and the processes that jobs have started. Lines
    that are logged already are written."""
    flush = threading.Thread(target=_flush, daemon=True)
    try:
        flush.start()
    except RuntimeError:
        # The interpreter is at its end, or the system has no more threads.
        _flush()
    else:
        flush.join(FLUSH_S)
    end_children()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # A reader that is gone, or a stream that the user's code has closed.
            continue
    logging.shutdown()
