"""Batch consumers: what `batch=` says about the calls of a job function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.options.checks import check_whole
from asyncjobs.options.durations import MOST_BYTES, parse_duration, parse_size

__all__ = ["Batch", "check_batch"]

MOST_JOBS: Final = 10_000
LONGEST_WINDOW_S: Final = 3_600.0
"""A window holds slots. Who wants to wait for longer wants a schedule."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Hand the jobs of a function to it in batches: `batch=Batch(size=100, window="50ms")`.

    The function takes a list: `async def store(rows: list[Row])`, and is enqueued with one of them:
    `store.enqueue(row)`. It runs when one of these is reached:

    size: so many jobs. They hold as many slots; a worker with fewer slots makes smaller batches.
    window: so long after the first job: seconds, timedelta or a text such as `50ms`.
    max_bytes: so many bytes of stored jobs, as a number or `1MiB`; None is no limit.

    by: jobs of one batch have the same key: the name of a key of the item (of a field, for a
    dataclass), or a function that gets the item and returns what JSON has.

    Raises ConfigError for what cannot work.
    """

    size: int = 100
    window: Seconds | str = 0.05
    max_bytes: int | str | None = None
    by: str | Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_whole(self.size, field="Batch(size)", minimum=1, maximum=MOST_JOBS)
        if self.window_s > LONGEST_WINDOW_S:
            raise ConfigError(
                f"Batch(window={shown(self.window)}) is longer than 1 h, and its jobs would hold "
                "slots for so long; enqueue them by a schedule instead"
            )
        if self.most_bytes is not None:
            check_whole(self.most_bytes, field="Batch(max_bytes)", minimum=1, maximum=MOST_BYTES)
        if self.by is not None and not (isinstance(self.by, str) or callable(self.by)):
            raise ConfigError(
                f"Batch(by={shown(self.by)}) must be the name of a key of the item, or a function "
                "of the item"
            )

    @property
    def window_s(self) -> float:
        """The window in seconds. Raises ConfigError."""
        if isinstance(self.window, str):
            return parse_duration(self.window, field="Batch(window)")
        return seconds(self.window, field="Batch(window)")

    @property
    def most_bytes(self) -> int | None:
        """The most bytes of a batch; None if there is no limit. Raises ConfigError."""
        if isinstance(self.max_bytes, str):
            return parse_size(self.max_bytes, field="Batch(max_bytes)")
        return self.max_bytes


def check_batch(value: Batch, *, field: str) -> Batch:
    """Raises ConfigError for what is no Batch."""
    if not isinstance(value, Batch):
        raise ConfigError(f"{field}={shown(value)} must be a Batch: Batch(size=100, window='50ms')")
    return value
