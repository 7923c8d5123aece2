"""Runs the async listeners of an app on the loop on which it is open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

from asyncjobs.guard.errand import run_errand
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.events import Events
from asyncjobs.model.inboxes import Inbox

__all__ = ["AsyncListeners"]

logger = GuardedLog("asyncjobs.events")

LIMIT_S: Final = 30.0
"""How long a listener may take for one event."""
CLOSE_S: Final = 5.0
"""How long listeners may take for what waits when the app is closed."""
END_S: Final = 1.0
"""How long cancelled listeners may take for their `finally` blocks."""


class AsyncListeners:
    """One task for each async listener, which gets its events one after the other.

    Owns the tasks from `start` to `stop`. What happens after that waits for the next opening.
    """

    def __init__(self, hub: Events) -> None:
        """Must be made on the loop that it runs on."""
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tasks: dict[asyncio.Task[None], Inbox] = {}
        self._is_ending = False

    def start(self) -> None:
        """Run the listeners that there are, and those that are added later."""
        self._hub.inboxes.keep_by(self._keep)

    def _keep(self, inbox: Inbox) -> None:
        if threading.get_ident() == self._thread:
            self._serve(inbox)
            return
        # A listener that was added in another thread. A closed loop means that the app is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._serve, inbox)

    def _serve(self, inbox: Inbox) -> None:
        if self._is_ending:
            return
        news = asyncio.Event()
        thread, loop = self._thread, self._loop

        def wake() -> None:
            if threading.get_ident() == thread:
                news.set()
                return
            # rule:16 an event of another thread reaches the loop of its listener
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(news.set)

        inbox.wake = wake
        # Hidden: a job that cancels all tasks must not end a listener.
        task = hide(loop.create_task(self._run(inbox, news)))
        self._tasks[task] = inbox
        task.add_done_callback(self._tasks.pop)

    async def _run(self, inbox: Inbox, news: asyncio.Event) -> None:
        while not inbox.is_closed:
            event = inbox.next()
            if event is None:
                if self._is_ending:
                    return
                await news.wait()
                news.clear()
                continue
            error = await run_errand(LIMIT_S, inbox.listener, event)
            if error is not None:
                self._hub.failures.tell(inbox.listener, type(event), error)

    async def stop(self) -> None:
        """Let the listeners hear what has happened, for some seconds; then cancel them."""
        self._is_ending = True
        for inbox in tuple(self._tasks.values()):
            if inbox.wake is not None:
                inbox.wake()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=CLOSE_S)
        self._hub.inboxes.keep_by(None)
        # rule:16 a listener that does not end is cancelled when its app is closed
        left = dict(self._tasks)
        for task, inbox in left.items():
            logger.error(
                "the async listener %r was cancelled, because its app is closed; %d events wait",
                inbox.listener,
                len(inbox),
            )
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=END_S)
