"""Measures the memory of this process, and notices when it is too much: `--max-memory`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from asyncjobs.errors import ConfigError

__all__ = ["MemoryLimit", "resident_bytes", "show_bytes"]

LOOK_S: Final = 1.0
"""How often the memory is measured."""
LINUX: Final = sys.platform == "linux"
NOT_MEASURED: Final = (
    "max_memory={limit} cannot be kept: this system does not tell how much memory a process "
    "holds; leave it out, and limit the process from outside"
)


class MemoryLimit:
    """Watches how much memory this process holds. Stops nothing itself.

    most: the limit in bytes.
    `found`: the bytes that the process held when they were over the limit; None before.
    """

    def __init__(self, most: int) -> None:
        """Raises ConfigError if the memory cannot be measured here, or if the process holds that
        much already: it would end before its first job, again and again."""
        held = resident_bytes()
        if held is None:
            raise ConfigError(NOT_MEASURED.format(limit=show_bytes(most)))
        if held >= most:
            raise ConfigError(
                f"max_memory={show_bytes(most)} is too low: the process holds "
                f"{show_bytes(held)} before its first job; give a multiple of that"
            )
        self.most = most
        self.found: int | None = None

    async def watch(self, on_over: Callable[[], object]) -> None:
        """Wait until the process holds more than the limit, then call `on_over` and return."""
        while self.found is None:
            await asyncio.sleep(LOOK_S)
            held = resident_bytes()
            if held is not None and held > self.most:
                self.found = held
        on_over()


def resident_bytes() -> int | None:
    """The memory of this process in bytes, without that of its children.

    Where the system tells only the most that the process ever held, as on macOS, it is that. None
    where the system tells nothing, as on Windows.
    """
    if LINUX:
        with suppress(OSError):
            return _now_on_linux()
    return _most_ever()


def _now_on_linux() -> int:
    # Two numbers of pages: all, then the resident ones. The kernel answers from memory, so this
    # does not block the loop.
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pages = int(os.pread(statm, 128, 0).split()[1])
    finally:
        os.close(statm)
    return pages * os.sysconf("SC_PAGE_SIZE")


def _most_ever() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    # Bytes on macOS, KiB elsewhere.
    unit = 1024
    if sys.platform == "darwin":
        unit = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def show_bytes(number: int) -> str:
    """`536870912` as `512 MiB`."""
    if number >= 1 << 30:
        return f"{number / (1 << 30):,.2f} GiB"
    if number >= 1 << 20:
        return f"{number / (1 << 20):,.0f} MiB"
    if number >= 1 << 10:
        return f"{number / 1024:,.0f} KiB"
    # Most likely somebody has forgotten the unit. As 0 KiB they would not recognise their value.
    return f"{number} bytes"
