"""What a worker shows about itself when it has started."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from asyncjobs.cli.shared.logs import wants_colors
from asyncjobs.cli.shared.values import count, show_duration
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.seam import StoreInfo

__all__ = ["Banner", "loop_name"]

logger = GuardedLog("asyncjobs.cli")

SHOWN_NAMES = 8
"""At most this many job functions are listed by name; an app may have hundreds."""


@dataclass(frozen=True, slots=True)
class Banner:
    """The facts that a worker shows. The address of the store is without credentials."""

    version: str
    worker: str
    store: StoreInfo
    queues: dict[str, int]
    functions: Sequence[str]
    concurrency: int
    grace_s: float
    loop: str
    processes: int | None = None
    """Worker processes of this parent; None if this process is the worker."""

    def show(self, *, json: bool) -> None:
        """Write it to stderr, as text or as one JSON log line."""
        if json:
            logger.info("worker started", extra=self.fields())
        else:
            click.echo(self.text(), err=True, color=wants_colors())

    def fields(self) -> dict[str, Any]:
        fields = {
            "version": self.version,
            "worker": self.worker,
            "store": self.store.name,
            "store_version": self.store.version,
            "store_address": self.store.address,
            "queues": self.queues,
            "functions": list(self.functions),
            "concurrency": self.concurrency,
            "grace_s": self.grace_s,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "loop": self.loop,
        }
        if self.processes is not None:
            fields["processes"] = self.processes
        return fields

    def text(self) -> str:
        process = f"pid {os.getpid()}"
        each = ""
        if self.processes == 1:
            process = f"{process} with 1 worker process"
            each = " in each process"
        elif self.processes is not None:
            process = f"{process} with {self.processes:,} worker processes"
            each = " in each process"
        rows = {
            "store": _store(self.store),
            "queues": ", ".join(map(_weighted, self.queues, self.queues.values())),
            "functions": _cut(self.functions),
            "concurrency": f"{count(self.concurrency, 'job')} at a time{each}",
            "grace": show_duration(self.grace_s),
            "process": f"{process}, Python {platform.python_version()}, {self.loop}",
        }
        head = click.style(f"asyncjobs {self.version}", bold=True) + f", worker {self.worker}"
        return "\n".join([head, *(f"  {name:<12} {value}" for name, value in rows.items())])


def _store(store: StoreInfo) -> str:
    server = f"{store.name} {store.version}"
    scheme, _, folder = store.address.partition(":")
    if scheme == "embedded":
        return f"{server}, embedded in {folder}; it stops with its last user"
    return f"{server} at {store.address}"


def _weighted(queue: str, weight: int) -> str:
    if weight == 1:
        return queue
    return f"{queue} (weight {weight})"


def _cut(names: Sequence[str]) -> str:
    if not names:
        return "none"
    # "and 1 more" would be as long as the one name that it replaces.
    if len(names) <= SHOWN_NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_NAMES])} and {len(names) - SHOWN_NAMES} more"


def loop_name(loop: object) -> str:
    """`uvloop` or `asyncio`."""
    package = type(loop).__module__.partition(".")[0]
    if package == "uvloop":
        return package
    return "asyncio"
