"""Declares the schedules of the code, and fires those of the worker's queues."""

from __future__ import annotations

import time
from typing import Final, Self

from asyncjobs.store.schedules import Schedules
from asyncjobs.worker.declaring import Declaring
from asyncjobs.worker.duties.duty import Duty, Site
from asyncjobs.worker.engine.loop import Processor
from asyncjobs.worker.firing import Firing

__all__ = ["Ticks"]

HEARS_S: Final = 0.5
"""The longest sleep. A signal may say meanwhile that a schedule was stored or changed."""
SEARCH_S: Final = 300.0
"""How often a worker looks which of its queues have schedules. A signal usually says so."""


class Ticks(Duty):
    """Ticks without a leader: each worker fires what is due in its queues, and the store lets each
    tick fire once.

    Only queues that have schedules are asked. A worker without any sends two requests when it
    starts, and one in five minutes.

    A worker that runs with `burst` neither declares nor fires. It is started to work off what is
    there, often from a test or a script, and must not end as the only one that declares.
    """

    def __init__(
        self,
        store: Schedules,
        queues: frozenset[str],
        declaring: Declaring,
        firing: Firing,
        processor: Processor,
    ) -> None:
        self._store = store
        self._queues = queues
        self._declaring = declaring
        self._firing = firing
        self._processor = processor
        self._known: frozenset[str] = frozenset()
        """Those of the queues that have schedules."""
        self._search_s = 0.0

    @classmethod
    def of(cls, site: Site) -> Self | None:
        backend = site.backend
        if not backend.capabilities.schedules:
            return None
        store = backend.schedules
        queues = frozenset(site.session.spec.queues)
        declaring = Declaring(store, site.registry.schedules(), queues)
        return cls(store, queues, declaring, Firing(store, site.hub), site.processor)

    def hear_changed(self, queue: str) -> None:
        """A signal says that a schedule of this queue was stored or changed."""
        self._known |= {queue} & self._queues
        self._firing.hasten()

    async def run(self) -> float:
        if self._processor.intake.appetite.burst.is_burst:
            return SEARCH_S
        now_s = time.monotonic()
        # Rare: it is for signals that were lost, while the listener connects again for example.
        if now_s >= self._search_s:
            found = frozenset(await self._store.queues()) & self._queues
            self._known = found | self._declaring.queues
            self._search_s = time.monotonic() + SEARCH_S
        if not self._known:
            return min(self._search_s - now_s, HEARS_S)
        # What is declared fires in this very run, if it is due.
        if now_s >= self._declaring.due_s:
            await self._declaring.run(self._known)
        if now_s >= self._firing.due_s:
            await self._firing.run(self._known)
        # Not longer than it takes to hear a signal: it comes by `hear_changed` in between.
        left_s = min(self._declaring.due_s, self._firing.due_s) - time.monotonic()
        return max(min(left_s, HEARS_S), 0.0)
