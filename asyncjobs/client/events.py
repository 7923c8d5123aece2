"""Sending events to jobs that wait for them: `app.send_event`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from asyncjobs.client.sender import Access
from asyncjobs.errors import (
    EncodeError,
    MissingCapability,
    PayloadTooLarge,
    StoreError,
    StoreUnavailable,
)
from asyncjobs.jobs.waiting import check_event_name, event_value
from asyncjobs.model.awaiting import MOST_EVENT_BYTES, NewEvent
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import new_id
from asyncjobs.model.codec import check_json
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.seam import Backend

__all__ = ["EventSender", "new_event", "send"]

PAUSE_FIRST_S: Final = 0.05
PAUSE_MOST_S: Final = 1.0


class EventSender:
    """Sends the events of one app. `known`: the queues of the app."""

    def __init__(
        self, access: Access, known: Callable[[], Sequence[str]], settings: AppSettings
    ) -> None:
        self._access = access
        self._known = known
        self._settings = settings

    def use(self, access: Access) -> None:
        """Send events to another open store from now on."""
        self._access = access

    async def send(self, name: str, key: str, value: Any, queues: Iterable[str] | None) -> int:
        """See `AsyncJobs.send_event`."""
        event, chosen = self._checked(name, key, value, queues)
        backend = self._access.client.backend
        return await send(backend, event, chosen, self._settings.connect_timeout_s)

    def send_from_thread(
        self, name: str, key: str, value: Any, queues: Iterable[str] | None
    ) -> int:
        """See `AsyncJobs.send_event_sync`."""
        event, chosen = self._checked(name, key, value, queues)
        limit_s = self._settings.connect_timeout_s
        what = "send_event_sync"
        way = self._access.from_thread(
            f"{what} would block the event loop that runs here; write await app.send_event(...)"
        )
        return way.call_from_thread(
            lambda client: send(client.backend, event, chosen, limit_s), what
        )

    def _checked(
        self, name: str, key: str, value: Any, queues: Iterable[str] | None
    ) -> tuple[NewEvent, list[str]]:
        event = new_event(name, key, value)
        if queues is None:
            return event, list(self._known())
        # A single name would be taken for its letters.
        names = [queues] if isinstance(queues, str) else queues
        return event, [check_queue_name(queue) for queue in dict.fromkeys(names)]


def new_event(name: str, key: str, value: Any) -> NewEvent:
    """An event to send. Raises UsageError, EncodeError and PayloadTooLarge."""
    check_event_name(name, key, "send_event")
    # Before it is written: JSON would silently make a list of a tuple.
    check_json(value, "the value of the event")
    try:
        raw = event_value(value)
    except (TypeError, ValueError) as error:
        raise EncodeError(f"the value of the event cannot be written as JSON: {error}") from error
    if len(raw) > MOST_EVENT_BYTES:
        raise PayloadTooLarge(
            f"the value of the event {name!r} is {len(raw):,} bytes, over {MOST_EVENT_BYTES:,}: "
            "each job that waits for it gets a copy; store the data elsewhere and send its key"
        )
    return NewEvent(name, key, raw, new_id())


async def send(backend: Backend, event: NewEvent, queues: Sequence[str], limit_s: float) -> int:
    """Send it until the store confirms it, for about `limit_s`; how many jobs it has woken.

    Raises MissingCapability, StoreUnavailable, and the error of a queue that has not answered,
    after all others are served.
    """
    if not backend.capabilities.events:
        raise MissingCapability(
            f"the store at {backend.address} has no capability 'events', which send_event needs: "
            "use a store that has it"
        )
    pauses = Pauses(PAUSE_FIRST_S, PAUSE_MOST_S)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + limit_s
    while True:
        try:
            answer = await backend.send_event(event, queues)
            break
        except StoreUnavailable as error:
            # Its token makes sure that it is kept once.
            pause_s = pauses.next_s()
            if loop.time() + pause_s >= end_s:
                raise StoreUnavailable(
                    f"the store at {backend.address} did not confirm the event {event.name!r} "
                    f"within connect_timeout={limit_s:g} s: {error}. It may be sent"
                ) from error
            await asyncio.sleep(pause_s)
    # The others have it, and it must not look as if all had.
    for queue, refusal in answer.refused.items():
        raise StoreError(
            f"queue {queue!r} has not taken the event {event.name!r}, and the others have: "
            f"{refusal}"
        ) from refusal
    return sum(sent.woken for sent in answer.by_queue.values())
