"""Brings what settlements cause in other queues there: at once, and beside the exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.store.seam import Backend

__all__ = ["Relays"]

logger = GuardedLog("asyncjobs.worker")


class Relays:
    """Relays the outboxes of queues in a task of its own. Owns that task.

    It stops where nothing moves: what is left then, the duty `Relay` brings there.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def hear(self, queues: Collection[str]) -> None:
        """A settlement has noted something in the outboxes of these queues, if there are any."""
        if not queues:
            return
        self._wanted.update(queues)
        if self._task is None or self._task.done():
            # Hidden: a job that cancels all tasks must not end it.
            self._task = hide(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        while self._wanted:
            queues = sorted(self._wanted)
            self._wanted.clear()
            try:
                answer = await self._backend.relay(queues)
            except StoreError as error:
                logger.debug("the outboxes of %s are relayed later: %s", queues, error)
                return
            except Exception:
                logger.exception("relaying the outboxes of %s has failed", queues)
                return
            # Without that it would ask a queue that is away again and again.
            if answer.moved:
                self._wanted.update(answer.left)

    async def close(self) -> None:
        """End the task. What it has not done, another worker does."""
        task, self._task = self._task, None
        self._wanted.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
