"""Where a job function runs. Decided once, when it is registered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

__all__ = ["Isolation", "isolation_of"]


class Isolation(Enum):
    """What an attempt of a job function is kept apart from. A worker has an executor for each."""

    LOOP = "loop"
    """Nothing: an async function shares the event loop with all others."""
    THREAD = "thread"
    """The event loop: a sync function may block, so it runs in a thread."""

    @property
    def starts_at_once(self) -> bool:
        """False when an attempt has to wait until its executor has a place for it."""
        return self is Isolation.LOOP

    @property
    def is_cancellable(self) -> bool:
        """False when what runs cannot be stopped and keeps its slot until it ends."""
        return self is Isolation.LOOP


def isolation_of(function: Callable[..., Any]) -> Isolation:
    """Where this function has to run."""
    if inspect.iscoroutinefunction(function):
        return Isolation.LOOP
    return Isolation.THREAD
