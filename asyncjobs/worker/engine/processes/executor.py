"""The executor of job functions with `isolation="process"`."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from asyncjobs.errors import ProcessDied
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import JobContext
from asyncjobs.model.codec import BadRecord, to_json
from asyncjobs.policy.retry import is_cancellation
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.places import Places
from asyncjobs.worker.engine.processes.child_line import Child, died
from asyncjobs.worker.engine.processes.frames import Frame, Kind
from asyncjobs.worker.engine.processes.log_records import level_of_all, write_line
from asyncjobs.worker.engine.processes.origin import Origin
from asyncjobs.worker.engine.processes.pool import Pool
from asyncjobs.worker.engine.processes.told import error_of, without_frames
from asyncjobs.worker.engine.processes.trace import current_trace
from asyncjobs.worker.engine.records import Unkept
from asyncjobs.worker.engine.unfinished import not_done

__all__ = ["Processes"]

logger = GuardedLog("asyncjobs.worker")

STOP_S: Final = 2.0
"""How long an attempt that is told to stop may take for its `finally` blocks."""
LEAVE_S: Final = 2.0
"""How long a child may take to end after its attempt."""
REASONS: Final = {
    Reason.TIMEOUT: Kind.TIMEOUT,
    Reason.CANCEL: Kind.CANCEL,
    Reason.SHUTDOWN: Kind.SHUTDOWN,
    Reason.LEASE_LOST: Kind.LEASE_LOST,
}
STATUS_S: Final = 5.0
"""How long to wait for the news how a child has ended."""
AT_A_TIME: Final = 64
"""Frames of one child after which the loop takes care of others."""


class Processes:
    """Runs each attempt in a child of its own. Owns the pool of children.

    An attempt that has to stop gets SIGTERM, and after STOP_S its process and what that has started
    are killed. It then ends as an async function does that was cancelled.
    """

    def __init__(
        self, origin: Origin, most: int, queues: Mapping[str, bool], max_result: int
    ) -> None:
        self.places = Places(most, queues)
        self.on_progress: Callable[[JobContext, bytes], None] = lambda context, report: None
        self._pool = Pool(origin, most)
        self._max_result = max_result
        self._loop = asyncio.get_running_loop()
        self._given: deque[Child] = deque()
        """Children of attempts that have a place, and have not called their function."""
        self._called: set[Attempt] = set()
        self._busy: set[Child] = set()
        self._is_ending = False

    async def start(self) -> None:
        """Start the children. Raises ConfigError if another process cannot import the app."""
        await self._pool.ready()

    async def acquire(self, attempt: Attempt) -> None:
        """Wait until one more attempt may run. Raises ConfigError."""
        await self.places.acquire()
        try:
            # Here and not in `call`: the time-out of an attempt runs from its begin, and must not
            # run while a process is forked.
            self._given.append(await self._pool.take())
        except BaseException:
            self.places.release()
            raise

    def release(self, attempt: Attempt) -> None:
        """This attempt is over."""
        if attempt in self._called:
            self._called.remove(attempt)
        else:
            # It never came to its function. Its child has run nothing, so the next one gets it.
            self._pool.give_back(self._given.popleft())
        self.places.release()

    async def call(self, attempt: Attempt, function: Callable[[], Any]) -> Any:
        """Run the attempt in a child. `function` is not called here: the child has its own."""
        self._called.add(attempt)
        child = self._given.popleft()
        while child.ended.done():
            # Somebody has ended it while it waited.
            child.close()
            child = await self._pool.take()
        talk = _Talk(child, attempt, self.on_progress)
        end: _Value | BaseException | None
        self._busy.add(child)
        try:
            try:
                await talk.begin(self._task_of(attempt))
                if self._is_ending:
                    child.order(Kind.SHUTDOWN)
                end = await talk.end()
            except asyncio.CancelledError:
                end = await self._stopped(talk, attempt)
                if end is None:
                    raise
        finally:
            self._busy.remove(child)
            self._let_go(child)
        if isinstance(end, _Value):
            return end.value
        if type(end) is ProcessDied:
            raise without_frames(end)
        raise end

    def _task_of(self, attempt: Attempt) -> bytes:
        context = attempt.context
        deadline = context.deadline
        about = {
            "queue": attempt.job.queue,
            "id": attempt.job.id,
            "name": attempt.function.name,
            "max_attempts": context.max_attempts,
            "crashes": context.crashes,
            "deadline_ms": None if deadline is None else round(deadline.timestamp() * 1000),
            "max_memory": attempt.settings.max_memory,
            "max_result": self._max_result,
            "log_level": level_of_all(),
            "trace": current_trace(),
        }
        return to_json(about) + b"\n" + attempt.job.envelope

    async def _stopped(self, talk: _Talk, attempt: Attempt) -> _Value | BaseException | None:
        """End the process of an attempt that has to stop. Returns how the function has ended, if
        it has in the time that it gets; None if it was only stopped."""
        child = talk.child
        # rule:27 what stops an attempt ends its process
        grace_s = STOP_S
        if attempt.reason is not None:
            child.order(REASONS[attempt.reason])
        if attempt.reason is Reason.LEASE_LOST:
            # Another worker may run the job already: there is no time for clean-ups.
            grace_s = 0.0
            self._pool.signal(child, signal.SIGKILL)
        child.order(Kind.STOP)
        self._pool.signal(child, signal.SIGTERM)
        kill = self._loop.call_later(grace_s, self._pool.signal, child, signal.SIGKILL)
        try:
            while True:
                try:
                    end = await talk.end()
                    break
                except asyncio.CancelledError:
                    # Told to stop once more: its time is over.
                    self._pool.signal(child, signal.SIGKILL)
        finally:
            kill.cancel()
        if isinstance(end, BaseException):
            is_just_stopped = isinstance(end, SystemExit | ProcessDied) or is_cancellation(end)
            return None if is_just_stopped else end
        return end

    def _let_go(self, child: Child) -> None:
        """The attempt is over. Its child ends by itself, or else by a signal."""
        if child.ended.done():
            child.close()
            return
        kill = self._loop.call_later(LEAVE_S, self._pool.signal, child, signal.SIGKILL)

        def ended(future: object) -> None:
            kill.cancel()
            child.close()

        child.ended.add_done_callback(ended)

    def end(self) -> None:
        """The worker takes no more jobs and will end: let those that run know."""
        self._is_ending = True
        for child in self._busy:
            child.order(Kind.SHUTDOWN)

    async def close(self) -> None:
        """End all children."""
        await self._pool.close()


class _Value:
    """What a function has returned."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Talk:
    """What a worker and the child of one attempt say to each other."""

    def __init__(
        self, child: Child, attempt: Attempt, on_progress: Callable[[JobContext, bytes], None]
    ) -> None:
        self.child = child
        self._attempt = attempt
        self._on_progress = on_progress
        self._heard = 0

    async def begin(self, task: bytes) -> None:
        """Send the attempt."""
        try:
            await self.child.send(Kind.TASK, task)
        except OSError:
            return  # `end` says how the child has ended

    async def end(self) -> _Value | BaseException:
        """How the function ends. Meanwhile its progress and its log lines come through. To be
        called again after a cancel."""
        try:
            while (frame := await self.child.read()) is not None:
                end = self._hear(frame)
                if end is not None:
                    return end
                # Frames that are there already are read without a turn of the loop.
                self._heard += 1
                if self._heard % AT_A_TIME == 0:
                    await asyncio.sleep(0)
        except (BadRecord, ValueError, TypeError, KeyError) as error:
            # Something else has written to the child's line.
            return ProcessDied(f"its process has sent what cannot be read: {error}")
        try:
            async with asyncio.timeout(STATUS_S):
                # rule:27 a process that dies fails its attempt
                return died(await asyncio.shield(self.child.ended))
        except TimeoutError:
            return ProcessDied("its process has closed its line to the worker")

    def _hear(self, frame: Frame) -> _Value | BaseException | None:
        attempt = self._attempt
        match frame.kind:
            case Kind.VALUE:
                return _Value(frame.fields()["r"])
            case Kind.UNKEPT:
                return _Value(Unkept(str(frame.fields()["problem"])))
            case Kind.UNFINISHED:
                function = attempt.function
                work = str(frame.fields()["work"])
                return not_done(function.name, work, is_async=function.is_async)
            case Kind.ERROR:
                return error_of(frame.fields())
            case Kind.PROGRESS:
                frame.fields()
                self._on_progress(attempt.context, frame.body)
            case Kind.LOG:
                write_line(frame.fields())
            case _:
                raise BadRecord(f"a frame of kind {frame.kind}")
        return None
