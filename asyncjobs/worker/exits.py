"""How the process of a worker ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
from enum import IntEnum
from typing import Final, NoReturn

from asyncjobs.worker.children import end_children

__all__ = ["ExitCode", "exit_now"]

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
