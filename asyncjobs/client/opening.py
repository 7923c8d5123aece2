"""Opens and closes the store: on the app's loop, or on a loop in a background thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from importlib import metadata
from typing import Any, TypeVar

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from asyncjobs.client import Client
from asyncjobs.client.listeners import AsyncListeners
from asyncjobs.errors import NotOpen, UsageError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import in_own_thread
from asyncjobs.model.events import Events
from asyncjobs.options.app import AppSettings
from asyncjobs.store import make_backend, store_url
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["BackgroundOpening", "Opening", "Openings"]

logger = GuardedLog("asyncjobs")

T = TypeVar("T")

_LIFESPAN = """open it around the code that enqueues:

    async with app:
        ...

or, in a web application, by its lifespan:

    from asyncjobs.integrations.asgi import lifespan

    web = FastAPI(lifespan=lifespan(app))      # also Starlette, Litestar

and in its tests, where a client that is not entered runs no lifespan:

    with TestClient(web) as client:
        ..."""


class Opening:
    """One opening of the store, on one event loop of one process, for any number of users.

    Owns the backend and the client from the first `enter` to the last `leave`. After that it is
    over: the app makes another one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        new_backend: Callable[[], Backend],
        settings: AppSettings,
        events: Events,
        *,
        has_listeners: bool = True,
    ) -> None:
        """`has_listeners`: whether the async listeners of the app run here."""
        self.loop = loop
        self.pid = os.getpid()
        self.backend: Backend
        self.client: Client | None = None
        self.info: StoreInfo | None = None
        self.is_over = False
        self._new_backend = new_backend
        self._has_listeners = has_listeners
        self._settings = settings
        self._events = events
        self._listeners: AsyncListeners | None = None
        self._users = 0
        # Opening and closing wait for the store. Whoever enters or leaves meanwhile has to wait,
        # or two users would open the store twice.
        self._lock = asyncio.Lock()

    async def enter(self) -> bool:
        """Join. The first user opens the store. Returns False if this opening is over."""
        async with self._lock:
            if self.is_over:
                return False
            if self._users == 0:
                await self._open()
            self._users += 1
            return True

    async def leave(self) -> None:
        """Leave. The last user closes the store, even if it is cancelled meanwhile."""
        with CancelScope(shield=True):
            async with self._lock:
                self._users -= 1
                if self._users == 0:
                    await self._close()

    async def _open(self) -> None:
        try:
            # Making the first backend imports its driver and reads its scripts from disk. That
            # takes long enough to block the loop.
            self.backend = await in_own_thread(self._new_backend)
            try:
                self.info = await self.backend.open()
            except BaseException:
                with CancelScope(shield=True):
                    await self.backend.close()
                raise
        except BaseException:
            self.is_over = True
            raise
        for warning in self.info.warnings:
            logger.warning("store %s: %s", self.info.address, warning)
        await _warn_of_namesake()
        self.client = Client(self.backend, self._settings, self._events)
        if self._has_listeners:
            self._listeners = AsyncListeners(self._events)
            self._listeners.start()

    async def _close(self) -> None:
        # Before the client closes: a listener may still enqueue.
        if self._listeners is not None:
            await self._listeners.stop()
        # Hide the client first, so that nobody enqueues while it closes.
        client = self.client
        self.client = None
        self.info = None
        try:
            if client is not None:
                await client.close()
        finally:
            try:
                await self.backend.close()
            finally:
                self.is_over = True

    def serves_threads(self) -> bool:
        """Whether threads of this process can use this opening."""
        return self.client is not None and self.pid == os.getpid() and self.loop.is_running()

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """Run `ask` on the opening's loop, for a thread that runs none, and return its answer.

        Errors begin with `name`. Raises what `ask` raises, and NotOpen if the loop stops
        meanwhile.
        """
        client = self.client
        if client is None:
            raise NotOpen(f"{name}: the app was closed meanwhile")
        call = ask(client)
        try:
            future = asyncio.run_coroutine_threadsafe(call, self.loop)
        except RuntimeError as error:
            call.close()
            raise NotOpen(f"{name}: the app's event loop has ended: {error}") from error
        try:
            # A loop that stops runs no more callbacks, so the future never ends. Without this
            # check the thread would wait for ever.

            while not wait([future], timeout=1.0).done:
                if not self.loop.is_running():
                    raise NotOpen(
                        f"{name}: the app's event loop stopped; what was asked may be done"
                    )
            return future.result()
        finally:
            # If Ctrl-C has ended the wait, nobody is left to take the answer.
            future.cancel()


class BackgroundOpening:
    """An opening on an event loop in a thread of its own, for sync code without a loop.

    Owns the thread until the interpreter ends. Belongs to one process: a forked child does not
    inherit the thread, so it makes its own.
    """

    def __init__(self, backend: Backend, settings: AppSettings, events: Events) -> None:
        """Opens the store, and blocks until it is open. Raises what `Backend.open` raises."""
        self._pid = os.getpid()
        self._is_closed = False
        self._starting = start_blocking_portal(backend="asyncio", name="asyncjobs enqueue_sync")
        self._portal = self._starting.__enter__()
        try:
            self._opening = self._portal.call(_new_opening, backend, settings, events)
            self._portal.call(self._opening.enter)
        except BaseException:
            self._stop()
            raise
        atexit.register(self.close)
        _not_closed.add(self)

    def is_usable(self) -> bool:
        """False in a forked child and after `close`."""
        return not self._is_closed and self._pid == os.getpid()

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """Run `ask` on that loop, for any thread. Raises what `ask` raises, and NotOpen."""
        if self._opening.client is None:
            raise NotOpen(f"{name}: the interpreter is ending; nothing is stored or asked")
        return self._opening.call_from_thread(ask, name)

    def close(self) -> None:
        """Send what waits, and end the thread. Does nothing in a forked child."""
        if self.is_usable():
            atexit.unregister(self.close)
            try:
                self._portal.call(self._opening.leave)
            finally:
                self._stop()

    def _stop(self) -> None:
        self._is_closed = True
        _not_closed.discard(self)
        self._starting.__exit__(None, None, None)


class Openings:
    """The openings of one app: one on an event loop, and one in the background for threads.

    Owns at most one of each. A forked child makes its own.
    """

    def __init__(
        self,
        settings: AppSettings,
        events: Events,
        url: str | None,
        backend: Backend | None,
        before_open: Callable[[], None],
        check_store: Callable[[Backend], None],
    ) -> None:
        """`before_open` is called before each opening, so that telemetry may be set up late.
        `check_store` raises for a store that cannot keep what the app needs."""
        self.current: Opening | None = None
        self.background: BackgroundOpening | None = None
        self._settings = settings
        self._events = events
        self.url = url
        self._given = backend
        self._before_open = before_open
        self._check_store = check_store
        self._locks: dict[int, threading.Lock] = {}

    # ── on the loop ──────────────────────────────────────────────────────────────────

    async def enter(self) -> None:
        """Open the store on this loop, or join those who have. `AsyncJobs` lists the errors."""
        while not await self._here().enter():
            pass  # the last user closed it while we waited: try the next opening

    async def leave(self) -> None:
        """Leave. The last user closes the store."""
        if self.current is not None:
            await self.current.leave()

    @property
    def client(self) -> Client:
        """The open client of the running loop. Raises NotOpen."""
        current = self.current
        if current is not None and current.client is not None and current.loop is running_loop():
            return current.client
        raise why_not_open(current)

    @property
    def backend(self) -> Backend:
        """The open store. Raises NotOpen."""
        current = self.current
        if current is None or current.client is None:
            raise why_not_open(current)
        return current.backend

    @property
    def store_url(self) -> str | None:
        """The URL of the store; None for a backend that was given. Raises ConfigError when there
        is none."""
        if self._given is not None:
            return None
        return store_url(self.url)

    @property
    def info(self) -> StoreInfo:
        """The server behind the open store. Raises NotOpen."""
        current = self.current
        if current is None or current.info is None:
            raise why_not_open(current)
        return current.info

    @property
    def is_open(self) -> bool:
        """Whether jobs can be enqueued, on the loop of the opening."""
        return self.current is not None and self.current.client is not None

    @property
    def address(self) -> str:
        """The address of the open store; empty if none is open."""
        current = self.current
        if current is None or current.info is None:
            return ""
        return current.info.address

    @property
    def queues(self) -> set[str]:
        """The queues in which jobs were stored since the store was opened."""
        current = self.current
        if current is None or current.client is None:
            return set()
        return current.client.queues

    def _here(self) -> Opening:
        """The opening to enter: the current one if it still can be used, or a new one."""
        loop = running_loop()
        if loop is None:
            raise UsageError(
                "asyncjobs runs on asyncio, and no asyncio event loop runs here (is this Trio?); "
                "use asyncio.run() or anyio.run(..., backend='asyncio')"
            )
        self._before_open()
        current = self.current
        # A loop that was closed without leaving the app took its connections with it. Waiting
        # for that opening would fail, so it is replaced.
        if current is None or current.is_over or current.loop.is_closed():
            current = Opening(loop, self.new_backend, self._settings, self._events)
            self.current = current
        elif current.pid != os.getpid() or current.loop is not loop:
            raise why_not_open(current)
        return current

    def new_backend(self) -> Backend:
        """The backend that was given, or one for the URL. Asks the store nothing.

        Raises ConfigError.
        """
        backend = self._given
        if backend is None:
            backend = make_backend(store_url(self.url), self._settings.store())
        self._check_store(backend)
        return backend

    # ── from threads ─────────────────────────────────────────────────────────────────

    def from_thread(self, instead: str) -> Opening | BackgroundOpening:
        """The opening of this process if there is one, else a background opening.

        Raises NotOpen, and UsageError with the text `instead` on a running loop, which would be
        blocked.
        """
        if running_loop() is not None:
            raise UsageError(instead)
        current = self.current
        if current is not None and current.serves_threads():
            return current
        return self._in_background()

    def _in_background(self) -> BackgroundOpening:
        # One lock for each process: a lock that is held while another thread forks stays locked
        # in the child for ever.
        with unless_ending(), self._locks.setdefault(os.getpid(), threading.Lock()):
            background = self.background
            if background is None or not background.is_usable():
                backend = self.new_backend()
                if not backend.capabilities.shared:
                    raise why_not_open(self.current)
                if backend is self._given:
                    backend = backend.for_thread()
                self._before_open()
                background = BackgroundOpening(backend, self._settings, self._events)
                self.background = background
            return background


_not_closed: set[BackgroundOpening] = set()
"""Keeps them from being collected. In a forked child, collecting one would wait for ever for the
parent's thread, which does not exist there."""


async def _new_opening(backend: Backend, settings: AppSettings, events: Events) -> Opening:
    # Its loop is none that the program knows: async listeners wait for the app's own one.
    loop = asyncio.get_running_loop()
    return Opening(loop, lambda: backend, settings, events, has_listeners=False)


@contextmanager
def unless_ending() -> Iterator[None]:
    """Raises NotOpen for what Python refuses while the interpreter ends.

    It then starts no threads, and at the very end it imports nothing. There is no error class for
    that, so the state of the main thread decides.
    """
    try:
        yield
    except (RuntimeError, ImportError) as error:
        if threading.main_thread().is_alive():
            raise
        raise NotOpen(
            "the interpreter is ending, and no connection to the store can be opened any more: "
            "nothing is stored or asked. Do it before the end of the program, or open the "
            "connection before: the first enqueue_sync() does"
        ) from error


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def why_not_open(opening: Opening | None) -> NotOpen:
    """The error for an app that cannot be used here. `opening` is its newest one."""
    if opening is None or opening.is_over or opening.loop.is_closed():
        return NotOpen(f"the app is not open; {_LIFESPAN}")
    if opening.pid != os.getpid():
        return NotOpen(
            f"the app was opened in process {opening.pid} and this is its forked child "
            f"{os.getpid()}; connections cannot be shared: open the app after the fork, in "
            "each process, or start processes with the 'spawn' method"
        )
    if opening.loop is not running_loop():
        return NotOpen(
            "the app is open on another event loop; await it there, call enqueue_sync() "
            "from a thread, or use one AsyncJobs for each loop"
        )
    return NotOpen(f"the app is just being opened or closed; {_LIFESPAN}")


_namesake_checked = threading.Event()


async def _warn_of_namesake() -> None:
    """Checks once in each process, and in a thread, because listing distributions reads disks."""
    if not _namesake_checked.is_set():
        _namesake_checked.set()
        if await in_own_thread(_has_namesake):
            logger.warning(
                "the distribution 'asyncjobs' is installed next to 'asyncjobs-framework'; both "
                "install the import package 'asyncjobs' and overwrite each other: run "
                "'pip uninstall asyncjobs', then reinstall 'asyncjobs-framework'"
            )


def _has_namesake() -> bool:
    try:
        metadata.distribution("asyncjobs")
    except metadata.PackageNotFoundError:
        return False
    return True
