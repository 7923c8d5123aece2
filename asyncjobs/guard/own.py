"""asyncjobs' own tasks and threads. No job can cancel them or keep them waiting."""

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
    """Call a blocking function in a new thread, and return or raise what it does.

    Not `asyncio.to_thread`: the threads of the loop's default executor belong to jobs. Jobs that
    fill it would delay a reconnect, a heartbeat or the worker's end. The thread is a daemon, so it
    does not delay the end of the process. If the caller is cancelled, the thread goes on alone.
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
    # If the loop has been closed, nobody waits for the answer.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle, answer, outcome)


def _succeed(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def hide(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Remove the task from `asyncio.all_tasks()`, and return it.

    Some jobs clean up with `for task in asyncio.all_tasks(): task.cancel()`. That must not end the
    worker, or the enqueue of another job. Only for tasks whose owner cancels them: `asyncio.run`
    does not find a hidden task at its end.
    """
    # rule:17 tasks of the worker are hidden from jobs
    asyncio._unregister_task(task)
    return task
