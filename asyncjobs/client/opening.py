"""One opening of the store: on the app's loop, or on a loop in a background thread."""

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
    """The store, open on one event loop of one process, for any number of users.

    Owns the backend and the client from the first `enter` to the last `leave`; is never
    opened again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        new_backend: Callable[[], Backend],
        settings: AppSettings,
        events: Events,
    ) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self.backend: Backend
        self.client: Client | None = None
        self.info: StoreInfo | None = None
        self.is_over = False
        self._new_backend = new_backend
        self._settings = settings
        self._events = events
        self._users = 0
        # Opening and closing take time: whoever comes meanwhile waits for the end of it.
        self._lock = asyncio.Lock()

    async def enter(self) -> bool:
        """Join, and open the store as the first; False when this opening is over."""
        async with self._lock:
            if self.is_over:
                return False
            if self._users == 0:
                await self._open()
            self._users += 1
            return True

    async def leave(self) -> None:
        """Part, and close the store as the last, also when the caller is cancelled."""
        with CancelScope(shield=True):
            async with self._lock:
                self._users -= 1
                if self._users == 0:
                    await self._close()

    async def _open(self) -> None:
        try:
            # The first backend imports its driver and reads its scripts: not on the loop.
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

    async def _close(self) -> None:
        # From here on nobody finds the client; who entered meanwhile gets a new opening.
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
        """True when threads of this process can enqueue through this opening."""
        return self.client is not None and self.pid == os.getpid() and self.loop.is_running()

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """What `ask` answers on the opening's loop, to a thread that has none; `name` is of
        the one who asks.

        Raises what `ask` raises, and NotOpen when the loop stops meanwhile.
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
            # A loop that stops runs no callbacks: without this look the thread waits for ever.
            while not wait([future], timeout=1.0).done:
                if not self.loop.is_running():
                    raise NotOpen(
                        f"{name}: the app's event loop stopped; what was asked may be done"
                    )
            return future.result()
        finally:
            # Also when Ctrl-C has ended the wait: nobody is there for the answer.
            future.cancel()


class BackgroundOpening:
    """An opening on an event loop in a thread of its own, for sync code without a loop.

    Owns the thread until the interpreter ends. Belongs to one process: a forked child
    has no such thread and makes its own.
    """

    def __init__(self, backend: Backend, settings: AppSettings, events: Events) -> None:
        """Opens the store and blocks meanwhile; raises what `Backend.open` raises."""
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
        """False in a forked child, and after close()."""
        return not self._is_closed and self._pid == os.getpid()

    def call_from_thread(self, ask: Callable[[Client], Coroutine[Any, Any, T]], name: str) -> T:
        """What `ask` answers there, to any thread. Raises what it raises, and NotOpen."""
        if self._opening.client is None:
            raise NotOpen(f"{name}: the interpreter is ending; nothing is stored or asked")
        return self._opening.call_from_thread(ask, name)

    def close(self) -> None:
        """Send what waits and end the thread; does nothing in a forked child."""
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
    """What an app has open: its store on one event loop, and another one for threads.

    Owns at most one opening of each kind. Each forked child has its own.
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
        """`before_open` is called before each opening: telemetry that was set up late.
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
        """Open the store on this loop, or join those who have. Raises as `AsyncJobs` says."""
        while not await self._here().enter():
            pass  # it was closed meanwhile: there is a new one

    async def leave(self) -> None:
        """Part; the last one closes the store."""
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
        """Of the server behind the open store; empty without one."""
        current = self.current
        if current is None or current.info is None:
            return ""
        return current.info.address

    @property
    def queues(self) -> set[str]:
        """The queues that jobs have gone to, since the store was opened."""
        current = self.current
        if current is None or current.client is None:
            return set()
        return current.client.queues

    def _here(self) -> Opening:
        """The opening to enter: the one that is there, or a new one."""
        loop = running_loop()
        if loop is None:
            raise UsageError(
                "asyncjobs runs on asyncio, and no asyncio event loop runs here (is this Trio?); "
                "use asyncio.run() or anyio.run(..., backend='asyncio')"
            )
        self._before_open()
        current = self.current
        # A loop that ended without leaving has taken its connections with it.
        if current is None or current.is_over or current.loop.is_closed():
            current = Opening(loop, self.new_backend, self._settings, self._events)
            self.current = current
        elif current.pid != os.getpid() or current.loop is not loop:
            raise why_not_open(current)
        return current

    def new_backend(self) -> Backend:
        """The backend that was given, or one for the URL. Raises ConfigError, before anything
        is asked of the store."""
        backend = self._given
        if backend is None:
            backend = make_backend(store_url(self.url), self._settings.store())
        self._check_store(backend)
        return backend

    # ── from threads ─────────────────────────────────────────────────────────────────

    def from_thread(self, instead: str) -> Opening | BackgroundOpening:
        """The store where it is open in this process, else a connection in the background.

        Raises NotOpen, and UsageError with `instead` where a loop runs: it would be blocked.
        """
        if running_loop() is not None:
            raise UsageError(instead)
        current = self.current
        if current is not None and current.serves_threads():
            return current
        return self._in_background()

    def _in_background(self) -> BackgroundOpening:
        # One lock a process: one that is held while another thread forks stays shut.
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
"""Keeps them from being collected: in a forked child that would wait for ever for the
thread of the parent, which is not there."""


async def _new_opening(backend: Backend, settings: AppSettings, events: Events) -> Opening:
    return Opening(asyncio.get_running_loop(), lambda: backend, settings, events)


@contextmanager
def unless_ending() -> Iterator[None]:
    """Raises NotOpen for what Python refuses while the interpreter ends: it starts no thread
    any more, and imports nothing at the very end. It has no class of its own for that."""
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
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def why_not_open(opening: Opening | None) -> NotOpen:
    """What keeps an app from being used here, whose newest opening this is."""
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
    """Once a process: a look at the installed distributions reads folders."""
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
