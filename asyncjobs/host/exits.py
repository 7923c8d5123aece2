"""How the process of a worker ends."""

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
"""How long the log may take to be written: nobody may be reading it any more."""


class ExitCode(IntEnum):
    """How `asyncjobs worker` ends; a third signal ends it with 128 + its number."""

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
        """FAILED when there are any problems, else CLEAN."""
        return cls.FAILED if problems else cls.CLEAN


def say_at_once(words: bytes, stream: int = 2) -> None:
    """Write a few words to stderr, past the log, if they can be written now. Raises nothing.

    For who ends the process, also in a signal handler: a reader of stderr that is gone, or one
    that reads no more, must not keep it from that.
    """
    with suppress(OSError, ValueError):
        # Windows can ask this of sockets alone.
        if os.name != "posix" or select.select([], [stream], [], 0)[1]:
            os.write(stream, words)


def exit_now(code: int) -> NoReturn:
    """End the process at once, whatever runs in it, with what jobs have started; what is
    logged already is written."""
    flush = threading.Thread(target=_flush, daemon=True)
    try:
        flush.start()
    except RuntimeError:
        # The interpreter is at its end, or out of threads.
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
