"""How far the run is: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol


class Progress(Protocol):
    """Told after each job."""

    def show(self, done: int) -> None: ...


class Lines:
    """Four lines on the way."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._step = max(total // 4, 1)

    def show(self, done: int) -> None:
        if done % self._step == 0:
            print(f"          {done:,} of {self._total:,}", flush=True)


class Nothing:
    """Says nothing."""

    def show(self, done: int) -> None:
        return


@asynccontextmanager
async def progress_of(total: int, *, quiet: bool) -> AsyncIterator[Progress]:
    """A bar where somebody watches and rich is installed; NO_COLOR is honoured by rich."""
    if quiet:
        yield Nothing()
        return
    if not sys.stdout.isatty():
        yield Lines(total)
        return
    try:
        from rich.progress import Progress as Bar
    except ImportError:
        yield Lines(total)
        return
    with Bar() as bar:
        task = bar.add_task("files", total=total)

        class Live:
            def show(self, done: int) -> None:
                bar.update(task, completed=done)

        yield Live()
