"""The events that wait for async listeners. An event may happen in any thread, without a loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from asyncjobs.guard.guarded import GuardedLog

__all__ = ["MOST_EVENTS", "Inbox", "Inboxes"]

logger = GuardedLog("asyncjobs.events")

MOST_EVENTS: Final = 10_000
"""Events that wait for one listener. More are counted, logged and dropped: whoever emits them must
not wait."""

AsyncListener: TypeAlias = Callable[[Any], Coroutine[Any, Any, object]]


class Inbox:
    """The events of one async listener, oldest first. Called like a plain listener, in any thread.

    `wake` is set by whoever runs the listener. None: the events wait.
    """

    def __init__(self, listener: AsyncListener) -> None:
        self.listener = listener
        self.wake: Callable[[], None] | None = None
        self.is_closed = False
        """Whether the listener was removed."""
        self._events: deque[Any] = deque()
        self._lock = threading.Lock()
        self._dropped = 0

    def __call__(self, event: Any) -> None:
        # rule:16 the events that wait for a listener are bounded
        if len(self._events) >= MOST_EVENTS:
            self._drop()
            return
        self._events.append(event)
        wake = self.wake
        if wake is not None:
            wake()

    def __len__(self) -> int:
        return len(self._events)

    def next(self) -> Any:
        """Take the oldest event; None if there is none. For one task only."""
        if self._events:
            return self._events.popleft()
        if self._dropped:
            self._tell_dropped()
        return None

    def close(self) -> None:
        """The listener was removed: it gets no more events."""
        self.is_closed = True
        self._events.clear()
        wake = self.wake
        if wake is not None:
            wake()

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1
            is_first = self._dropped == 1
        if is_first:
            why = "it is too slow"
            if self.wake is None:
                why = "its app is not open on an event loop"
            logger.error(
                "the async listener %r has %d events waiting, %s: more are dropped",
                self.listener,
                MOST_EVENTS,
                why,
            )

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped = self._dropped
            self._dropped = 0
        logger.error("the async listener %r has missed %d events", self.listener, dropped)


class Inboxes:
    """The inboxes of an app, and who runs their listeners: the opening of the app on its loop."""

    def __init__(self) -> None:
        self.all: list[Inbox] = []
        self._keep: Callable[[Inbox], None] | None = None

    def new(self, listener: AsyncListener) -> Inbox:
        """The inbox of a new listener."""
        inbox = Inbox(listener)
        self.all.append(inbox)
        if self._keep is not None:
            self._keep(inbox)
        return inbox

    def drop(self, inbox: object) -> None:
        """This listener was removed. Nothing happens for one that has no inbox."""
        if isinstance(inbox, Inbox) and inbox in self.all:
            self.all.remove(inbox)
            inbox.close()

    def keep_by(self, keep: Callable[[Inbox], None] | None) -> None:
        """From now on `keep` gets each inbox, those that are there at once. It may be called in any
        thread. None: the events wait."""
        self._keep = keep
        for inbox in tuple(self.all):
            if keep is None:
                inbox.wake = None
            else:
                keep(inbox)
