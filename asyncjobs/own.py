"""Tasks and threads of asyncjobs itself, where no job can keep them waiting or cancel them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["hide", "in_own_thread"]

T = TypeVar("T")

_THREAD: Final = "asyncjobs-own"


async def in_own_thread(function: Callable[..., T], *args: Any) -> T:
    """Call what blocks in a thread that is started for it; returns or raises what it does.

    Not `asyncio.to_thread`: the threads of the loop's default executor belong to jobs. Jobs
    that fill it would keep a reconnect, a heartbeat or the worker's end waiting. The thread
    is a daemon, so it holds up no end either. A caller that leaves is not waited for.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            value = function(*args)
        except BaseException as error:
            _tell(loop, answer, _fail, error)
        else:
            _tell(loop, answer, _succeed, value)

    # rule:17 what waits waits in a thread of its own
    threading.Thread(target=work, name=_THREAD, daemon=True).start()
    return await answer


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[T],
    settle: Callable[[asyncio.Future[T], Any], None],
    outcome: Any,
) -> None:
    # A loop that has been closed has nobody left who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle, answer, outcome)


def _succeed(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def hide(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Take the task out of `asyncio.all_tasks()`, and return it.

    Jobs clean up with `for task in asyncio.all_tasks(): task.cancel()`. That must not end
    the worker, or the enqueue of another job. Only for tasks that an owner of ours cancels:
    the end of `asyncio.run` does not find them any more.
    """
    # rule:17 tasks of the worker are hidden from jobs
    asyncio._unregister_task(task)
    return task
