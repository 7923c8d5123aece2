"""Awaits user code that observes our work: with a time limit, and whatever it raises stops here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["run_errand"]


async def run_errand(
    limit_s: float, function: Callable[..., Coroutine[Any, Any, object]], *args: Any
) -> BaseException | None:
    """Await `function(*args)`, and return what it has raised; TimeoutError after `limit_s`.

    Raises only CancelledError, when somebody cancels the task that runs it.
    """
    try:
        async with asyncio.timeout(limit_s):
            await function(*args)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # The user's code has raised it by itself.
        return error
    # rule:16 user code that is awaited may raise what is no Exception
    except BaseException as error:
        return error
    return None
