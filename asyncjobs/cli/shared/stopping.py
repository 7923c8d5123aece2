"""For commands that run until somebody stops them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["stop_signals"]


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event of the running loop that SIGINT and SIGTERM set, instead of ending the process.

    At the end the former handlers are back.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int, frame: object) -> None:
        # A handler runs between any two steps of the program. This call is safe there, and it wakes
        # the loop.
        loop.call_soon_threadsafe(stop.set)

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
