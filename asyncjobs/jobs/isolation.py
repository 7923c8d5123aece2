"""Where a job function runs. Decided once, at its registration."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from asyncjobs.errors import RegistrationError
from asyncjobs.jobs.main_module import main_module

__all__ = ["Isolation", "isolation_of"]


class Isolation(Enum):
    """How far an attempt is kept apart from other attempts. A worker has an executor for each."""

    LOOP = "loop"
    """Not at all: an async function shares the event loop with all others."""
    THREAD = "thread"
    """In a thread, because a sync function may block and would block the event loop."""
    PROCESS = "process"
    """In a process of its own, which can be ended at any time and takes nobody with it."""

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
        return self is not Isolation.THREAD


def isolation_of(function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Isolation:
    """The isolation of this function: what the options of its registration ask for, else what it
    needs.

    Raises RegistrationError for what does not go together.
    """
    is_async = inspect.iscoroutinefunction(function)
    isolation = Isolation.LOOP if is_async else Isolation.THREAD
    if (asked := options.get("isolation")) is not None:
        isolation = Isolation(asked)
    if options.get("max_memory") is not None and isolation is not Isolation.PROCESS:
        raise RegistrationError(
            f"{name}: max_memory is a limit of a process; add isolation='process'"
        )
    if isolation is Isolation.THREAD and is_async:
        raise RegistrationError(
            f"{name} is async, and isolation='thread' is for sync functions; leave it out to run "
            "on the event loop, or write isolation='process'"
        )
    # A sync function on the loop would hold up all other jobs of the worker, and heartbeats.
    if isolation is Isolation.LOOP and not is_async:
        raise RegistrationError(
            f"{name} is sync and would block the event loop; make it async def, or leave out "
            "isolation='loop' to run it in a thread"
        )
    if isolation is Isolation.PROCESS:
        if options.get("batch") is not None:
            raise RegistrationError(
                f"{name}: batch= and isolation='process' do not go together, for the items of a "
                "batch are settled one by one in the worker; leave out one of them"
            )
        _check_process(function, name)
    return isolation


def _check_process(function: Callable[..., Any], name: str) -> None:
    if not hasattr(os, "fork"):
        raise RegistrationError(
            f"{name}: isolation='process' needs a POSIX system, such as Linux or macOS"
        )
    if function.__module__ == "__main__" and main_module() is None:
        raise RegistrationError(
            f"{name}: isolation='process' needs a module that another process can import, and "
            "this function is written on a command line, in an interactive session or in a "
            "notebook; move it to a module"
        )
