"""What a worker tells a child while its attempt runs, and what the job may ask about it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

from asyncjobs.errors import UsageError
from asyncjobs.jobs.seat import Seat, StopReason
from asyncjobs.model.awaiting import Awaited
from asyncjobs.model.clock import now_ms
from asyncjobs.model.notes import Notes
from asyncjobs.worker.engine.processes.frames import HEAD, Kind

__all__ = ["Orders"]

T = TypeVar("T")

LOOK_S: Final = 0.1
REASONS: Final[Mapping[int, StopReason]] = {
    Kind.SHUTDOWN: "shutdown",
    Kind.CANCEL: "cancel",
    Kind.TIMEOUT: "timeout",
    Kind.LEASE_LOST: "lease lost",
}


class Orders:
    """Hears when the attempt has to stop: an order on the line, then SIGTERM.

    SIGTERM alone means nothing. A service manager may send it to all processes of a service, and
    then the worker lets attempts finish within its grace.

    It is also the seat of the attempt, and gives it to the job's context.
    """

    is_local = False

    def __init__(self, line: socket.socket) -> None:
        self.are_over = False
        """Whether the function has ended, so that nothing is left to stop."""
        self._line = line
        self._is_heard = False

    def _come(self) -> bytes:
        """The kind of each order that has come. None has a body, and none is taken away: so a
        signal handler may look while the job looks."""
        try:
            seen = self._line.recv(1024, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""
        return seen[:: HEAD.size]

    @contextlib.contextmanager
    def heard_by(self, tell: Callable[[], object]) -> Iterator[None]:
        """Call `tell` once, in the main thread, if the attempt has to stop."""

        def handle(number: int, frame: FrameType | None) -> None:
            # rule:27 a SIGTERM that the worker has not sent ends no attempt
            if not self.are_over and not self._is_heard and Kind.STOP in self._come():
                self._is_heard = True
                tell()

        signal.signal(signal.SIGTERM, handle)
        # It may have come before there was a handler.
        handle(signal.SIGTERM, None)
        try:
            yield
        finally:
            self.are_over = True

    # -- the seat ------------------------------------------------------------------------------

    def seat_of(self, context: object) -> Seat:
        """The seat of this attempt."""
        return self

    @property
    def is_open(self) -> bool:
        """Whether the attempt goes on."""
        return not self.are_over

    @property
    def now_ms(self) -> int:
        """The time by this machine: the store's is not known here."""
        return now_ms()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the job should stop now."""
        for kind in reversed(self._come()):
            if kind in REASONS:
                return REASONS[kind]
        return None

    async def stopping(self) -> StopReason:
        """Wait until the job should stop."""
        while (reason := self.stop_reason) is None:  # noqa: ASYNC110 - orders stay on the line
            await asyncio.sleep(LOOK_S)
        return reason

    def wake(self) -> None:
        """Nobody waits here but `stopping`, which looks by itself."""
        return

    async def aside(self, wait: Coroutine[Any, Any, T]) -> T:
        # Its slot is that of its process, which goes on.
        return await wait

    async def read(self) -> Notes:
        """Raises UsageError."""
        _refuse()

    async def write(self, notes: Mapping[str, bytes]) -> None:
        """Raises UsageError."""
        _refuse()

    def has_failed(self, attempt: int, kind: str) -> bool:
        """Nobody comes here: `read` refuses before."""
        return False

    async def await_event(
        self, name: str, key: str, note: str, after: str, timeout_ms: int, over: bytes
    ) -> Awaited:
        """Raises UsageError."""
        _refuse()

    def effects(self) -> NoReturn:
        """Raises UsageError."""
        _refuse()

    def tell_finished(self, step: str, duration_s: float) -> None:
        """Nobody comes here: `write` refuses before."""
        return


def _refuse() -> NoReturn:
    raise UsageError(
        "steps, ctx.state, ctx.sleep, ctx.wait_for and ctx.enqueue do not work with "
        "isolation='process', which has no way to the store; let an async job without it call "
        "this one"
    )
