"""Waiting for facts outside this process, always with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.kit.environment import LIMIT_S

__all__ = ["is_alive", "ticks", "until", "wait_gone"]


def ticks() -> Iterator[None]:
    """Until the limit is over, a look every 10 ms."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S * 100)):
        yield
        pause.wait(0.01)


def until(fact: Callable[[], bool]) -> None:
    """Wait until a fact holds."""
    end = time.monotonic() + LIMIT_S
    while not fact():
        assert time.monotonic() < end, f"not true within {LIMIT_S:g} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """False also for one that has ended, and that its parent has not waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # After the name, which may hold anything.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_gone(pid: int) -> None:
    for _ in ticks():
        if not is_alive(pid):
            return
    raise AssertionError(f"pid {pid} is still there")
