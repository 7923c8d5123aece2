"""Opens the store of a test on whatever event loop asks for it, and without `async with app`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import CancelScope

from asyncjobs.client import Client
from asyncjobs.client.listeners import AsyncListeners
from asyncjobs.client.opening import Opening, Openings, running_loop, why_not_open
from asyncjobs.errors import UsageError
from asyncjobs.model.events import Events
from asyncjobs.options.app import AppSettings
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["OwnLoop", "StageOpenings"]

T = TypeVar("T")


class OwnLoop:
    """An event loop for tests that are not async. It turns only while such a test waits."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        # Threads of one test may ask at the same moment, and a loop has one of them.
        self._turn = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this to its end, in a thread without a running loop."""
        with self._turn:
            if self._runner is None:
                # With a factory it leaves alone which loop is the current one of the thread: the
                # plugins of async tests have their own ideas of that.
                self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            return self._runner.run(work)

    def close(self) -> None:
        """Cancel what is left on it."""
        if self._runner is not None:
            self._runner.close()


class _Listening:
    """The async listeners of the app, on the loop of those who have entered it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        self.loop = loop
        self.users = 0
        self.listeners = AsyncListeners(events)
        self.listeners.start()


class StageOpenings(Openings):
    """The openings of an app during one test.

    The store is in memory and needs no connection. So it is open everywhere: on the loop of an
    async test, on that of a web application's test client, and in sync tests.
    """

    def __init__(
        self,
        before: Openings,
        settings: AppSettings,
        events: Events,
        backend: MemoryBackend,
        own_loop: OwnLoop,
    ) -> None:
        super().__init__(settings, events, None, backend, before._before_open, before._check_store)
        self._backend = backend
        self._own_loop = own_loop
        self._open: list[Opening] = []
        self._listening: _Listening | None = None

    async def enter(self) -> None:
        """Join. The first one lets the async listeners of the app run on its loop."""
        loop = self._on_this_loop().loop
        listening = self._listening
        if listening is None or listening.loop.is_closed():
            listening = self._listening = _Listening(loop, self._events)
        if listening.loop is loop:
            listening.users += 1

    async def leave(self) -> None:
        """Leave. The store stays open until the end of the test: the jobs are looked at after
        that."""
        listening = self._listening
        if listening is None or listening.loop is not running_loop():
            return
        listening.users -= 1
        if listening.users == 0:
            self._listening = None
            with CancelScope(shield=True):
                await listening.listeners.stop()

    def close(self) -> None:
        """The test is over: the app's own opening shall tell its listeners nothing of it."""
        inboxes = self._events.inboxes
        inboxes.keep_by(None)
        for inbox in inboxes.all:
            while len(inbox):
                inbox.next()

    @property
    def client(self) -> Client:
        client = self._on_this_loop().client
        assert client is not None
        return client

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def store_url(self) -> str | None:
        return self._backend.address

    @property
    def info(self) -> StoreInfo:
        return _info(self._backend)

    @property
    def is_open(self) -> bool:
        return True

    @property
    def address(self) -> str:
        return self._backend.address

    @property
    def queues(self) -> set[str]:
        return {queue for each in self._open if each.client for queue in each.client.queues}

    def from_thread(self, instead: str) -> Any:
        if running_loop() is not None:
            raise UsageError(instead)
        # The loop of an async test that has called sync code in a thread: it must do this itself,
        # for a store in memory is not for two threads at once.
        for opening in reversed(self._open):
            if opening.serves_threads():
                return opening
        return self

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """Ask on the loop of sync tests. See `ThreadWay`."""
        return self._own_loop.run(self._asked(ask))

    async def _asked(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        return await ask(self.client)

    def _on_this_loop(self) -> Opening:
        loop = running_loop()
        if loop is None:
            raise why_not_open(None)
        for opening in self._open:
            if opening.loop is loop:
                return opening
        self._before_open()
        self._check_store(self._backend)
        opening = Opening(loop, lambda: self._backend, self._settings, self._events)
        opening.backend = self._backend
        opening.info = _info(self._backend)
        opening.client = Client(self._backend, self._settings, self._events)
        self._open.append(opening)
        self.current = opening
        return opening


def _info(backend: MemoryBackend) -> StoreInfo:
    return StoreInfo("memory", "1", backend.address)
