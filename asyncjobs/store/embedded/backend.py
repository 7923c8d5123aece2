"""The embedded store: the Redis backend, plus a hold on the server."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

from asyncjobs.errors import AsyncJobsError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide, in_own_thread
from asyncjobs.store.answers import Enqueued
from asyncjobs.store.embedded.folder import StoreFolder
from asyncjobs.store.embedded.joining import Hold, join
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import Clock, EnqueueBatch, StoreInfo, StoreSettings

__all__ = ["EmbeddedBackend"]

logger = GuardedLog("asyncjobs")

FOLDER_CHECK_S = 1.0
"""How often a user checks that the guardian lives and the folder is there."""
TELL_S = 60.0
"""How often it logs that the folder is gone."""


class EmbeddedBackend(RedisBackend):
    """Owns its hold on the store from open to close.

    While it is open, it replaces a guardian that was killed. The guardian restarts a server that
    died.
    """

    def __init__(
        self,
        folder: StoreFolder,
        settings: StoreSettings | None = None,
        *,
        now_ms: Clock | None = None,
        address: Address | None = None,
        label: str = "client",
    ) -> None:
        # The socket's path is known once the store is joined. Every connection reads it from here.
        address = address or replace(Address.parse("unix:///"), text=folder.address)
        super().__init__(address, settings, now_ms=now_ms, label=label)
        self._folder = folder
        self._hold: Hold | None = None
        self._is_displaced = False
        self._told_s = float("-inf")
        self._watcher: asyncio.Task[None] | None = None

    def for_thread(self) -> EmbeddedBackend:
        """A twin that holds the store only when it is opened itself."""
        return EmbeddedBackend(
            self._folder,
            self._settings,
            now_ms=self._now_ms,
            address=self._address,
            label="lease",
        )

    async def open(self) -> StoreInfo:
        """Join the store, and start it if this is the first user. Then open it like any store.

        Also raises ConfigError for a folder that cannot be used, and StoreUnavailable with the
        server's last lines if it does not start.
        """
        await self._join()
        try:
            info = await super().open()
        except BaseException:
            await self.close()
            raise
        self._watcher = hide(asyncio.create_task(self._watch(), name="asyncjobs-embedded"))
        return info

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        """As on any store. Raises StoreUnavailable if its folder was deleted: a job that is stored
        then would be on no disk, and in no store that anybody else opens."""
        if self._is_displaced:
            raise StoreUnavailable(self._displaced())
        return await super().enqueue(batch)

    async def close(self) -> None:
        watcher = self._watcher
        self._watcher = None
        try:
            if watcher is not None:
                watcher.cancel()
                await asyncio.wait([watcher])
            await super().close()
        finally:
            hold = self._hold
            self._hold = None
            if hold is not None:
                hold.release()

    async def _join(self) -> None:
        stop = threading.Event()
        joining = hide(asyncio.create_task(in_own_thread(join, self._folder, stop)))
        try:
            hold = await asyncio.shield(joining)
        except asyncio.CancelledError:
            # The thread goes on for a moment. If it still gets a hold, that is given back.
            stop.set()
            joining.add_done_callback(_release)
            raise
        before = self._hold
        self._hold = hold
        self._is_displaced = False
        self._address.arguments["path"] = hold.socket_path
        if before is not None:
            before.release()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(FOLDER_CHECK_S)
            hold = self._hold
            if hold is None:
                continue
            if hold.is_guarded():
                self._is_displaced = not await in_own_thread(hold.is_in_place)
                self._tell_displaced()
                continue
            logger.warning("store %s: its guardian is gone; starting another", self.address)
            try:
                await self._join()
            except AsyncJobsError as error:
                logger.warning("%s", error)

    def _tell_displaced(self) -> None:
        now_s = time.monotonic()
        if self._is_displaced and now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            logger.error("%s", self._displaced())

    def _displaced(self) -> str:
        return (
            f"the store at {self.address} is not available for new jobs: its folder was deleted or "
            "replaced while this process uses it. What it holds is in memory only, and who opens "
            "the store from now on gets another one; let running jobs end, then start this "
            "process again"
        )


def _release(joining: asyncio.Future[Hold]) -> None:
    if not joining.cancelled() and joining.exception() is None:
        joining.result().release()
