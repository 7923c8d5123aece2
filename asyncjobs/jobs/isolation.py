"""Where a job function runs. Decided once, at its registration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

__all__ = ["Isolation", "isolation_of"]


class Isolation(Enum):
    """How far an attempt is kept apart from other attempts. A worker has an executor for each."""

    LOOP = "loop"
    """Not at all: an async function shares the event loop with all others."""
    THREAD = "thread"
    """In a thread, because a sync function may block and would block the event loop."""

    @property
    def starts_at_once(self) -> bool:
        """False if an attempt may have to wait for a place in its executor."""
        return self is Isolation.LOOP

    @property
    def shares_memory(self) -> bool:
        """False if what the worker has opened cannot reach the function."""
        return self in (Isolation.LOOP, Isolation.THREAD)

    @property
    def is_cancellable(self) -> bool:
        """False if an attempt cannot be stopped. It then keeps its slot until it ends."""
        return self is Isolation.LOOP


def isolation_of(function: Callable[..., Any]) -> Isolation:
    """The isolation that this function needs."""
    if inspect.iscoroutinefunction(function):
        return Isolation.LOOP
    return Isolation.THREAD
