"""`app.queues`: pausing, draining and purging queues. The command line does the same by it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asyncjobs.client.draining import Drain, Drained
from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.events import Events, QueuePaused, QueuePurged, QueueResumed
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_function_name, check_queue_name
from asyncjobs.store.control import Pause, Purge
from asyncjobs.store.seam import Backend

__all__ = ["PURGEABLE", "QueuePause", "Queues", "check_control", "read_pause"]

STEP: Final = 500
"""How many jobs one call of a purge looks at. In between, the store serves others."""
MOST_REASON: Final = 1000
"""The longest reason of a pause, in characters."""
PURGEABLE: Final = (State.HELD, State.READY, State.SCHEDULED)


@dataclass(frozen=True, slots=True)
class QueuePause:
    """A queue, or one job function of it, that is paused.

    function: the name of the job function; None: the whole queue.
    since: when it was paused, by the store's clock.
    by: who has paused it; reason: why. None if nobody has said.
    is_resuming: it was resumed, and some of its jobs are still on their way back.
    """

    queue: str
    function: str | None
    since: datetime
    by: str | None
    reason: str | None
    is_resuming: bool


class Queues:
    """What an operator does to queues. It counts at once, for all workers.

    A name of a queue that was never used is not refused: it can be paused before its first job.
    """

    def __init__(
        self, opened: Callable[[], Backend], settings: AppSettings, events: Events
    ) -> None:
        self._opened = opened
        self._settings = settings
        self._events = events

    async def pause(
        self,
        name: str,
        function: str | JobFunction[..., Any] | None = None,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> bool:
        """Hand out no more jobs of this queue, on any worker. Returns False if it was paused.

        function: only jobs of this job function, or of this name.
        reason: why, for those who look at the queue later.
        by: who; by default the user and the host of this process.

        Jobs that run go on and are settled. Jobs can be enqueued, and scheduled ones become ready
        at their time. All ready jobs keep their order. Raises UsageError when 1,000 functions of
        the queue are paused already, and for a longer reason than 1,000 characters.
        """
        check_queue_name(name)
        if len(reason or "") > MOST_REASON:
            raise UsageError(f"the reason has over {MOST_REASON:,} characters; shorten it")
        if by is None:
            by = _somebody()
        queues = check_control(self._opened(), "queues.pause").control.queues
        info = to_json({"by": by, "reason": reason})
        # A job function is one to its users, whatever its jobs are called.
        is_new = False
        for each in _names(function):
            (answer,) = await queues.pause([name], each, info)
            is_new |= answer
        self._events.emit(QueuePaused(name, _shown(function), by, reason))
        return is_new

    async def resume(self, name: str, function: str | JobFunction[..., Any] | None = None) -> bool:
        """Hand out jobs again. Returns False if it was not paused.

        What was paused by its function is resumed by it: to resume the queue does not resume its
        functions.
        """
        check_queue_name(name)
        queues = check_control(self._opened(), "queues.resume").control.queues
        was_paused = False
        for each in _names(function):
            (answer,) = await queues.resume([name], each)
            was_paused |= answer
        if was_paused:
            self._events.emit(QueueResumed(name, _shown(function)))
        return was_paused

    async def paused(self, name: str | None = None) -> list[QueuePause]:
        """What is paused in this queue, or in all queues: first queues, then functions by name."""
        backend = check_control(self._opened(), "queues.paused")
        names: Sequence[str] = await backend.inspect.queues.names()
        if name is not None:
            names = [check_queue_name(name)]
        found = await backend.control.queues.paused(names)
        return [read_pause(pause) for pauses in found for pause in pauses]

    async def drain(
        self,
        name: str,
        *,
        timeout: Seconds | None = None,
        scheduled: bool = False,
        pause: bool = False,
        on_progress: Callable[[Drained], object] | None = None,
    ) -> Drained:
        """Wait until no job of the queue is ready or running; see `Drained`.

        timeout: wait at most so long (seconds or timedelta).
        scheduled: wait for scheduled jobs, too. That includes retries.
        pause: pause the queue once it is empty, and wait for what was taken just before. When this
        returns nothing runs, and nothing will before somebody resumes the queue.
        on_progress: called with each look, about once a second.

        Raises DrainTimeout. Raises UsageError if the queue has ready jobs that nobody may take,
        because they are paused.
        """
        backend = check_control(self._opened(), "queues.drain")
        timeout_s = None
        if timeout is not None:
            timeout_s = seconds(timeout, field="timeout")
        drain = Drain(backend, check_queue_name(name), scheduled, timeout_s, on_progress)
        found = await drain.wait()
        # Not paused before: then its ready jobs would never end. So a job may slip in between the
        # last look and the pause, and is waited for.
        if pause:
            await self.pause(name, reason="drained")
            found = await drain.wait_for_running()
        return found

    async def purge(
        self,
        name: str,
        *,
        function: str | JobFunction[..., Any] | None = None,
        states: Collection[State] = PURGEABLE,
        dry_run: bool = False,
        on_progress: Callable[[int], object] | None = None,
    ) -> int:
        """Cancel the jobs of the queue that wait; running ones stay. Returns how many there were.

        function: only jobs of this job function, or of this name.
        states: `State.HELD`, `State.READY`, `State.SCHEDULED`, or some of them. A retry that waits
        is scheduled.
        dry_run: only count them.
        on_progress: called with how many there are so far, after each part.

        It goes in parts, so jobs may run in between. Jobs that are enqueued meanwhile may stay.
        After an error some are cancelled: call it again. Raises UsageError for another state.
        """
        if strange := set(states) - set(PURGEABLE):
            raise UsageError(
                f"states={sorted(strange)} cannot be purged: use State.HELD, READY and SCHEDULED; "
                "handle.cancel() stops running jobs"
            )
        backend = check_control(self._opened(), "queues.purge")
        ttl_ms = self._settings.result_ttl_ms
        outcome = None
        if ttl_ms:
            outcome = Outcome(State.CANCELLED).encode()
        jobs = 0
        # A job has one name, so none is counted twice.
        for each in _names(function):
            about = (check_queue_name(name), each, frozenset(states), outcome, ttl_ms, dry_run)
            async for number in _parts(backend, Purge(*about)):
                jobs += number
                if on_progress is not None:
                    on_progress(jobs)
        if jobs and not dry_run:
            self._events.emit(QueuePurged(name, _shown(function), jobs))
        return jobs


async def _parts(backend: Backend, purge: Purge) -> AsyncIterator[int]:
    after: bytes | None = None
    while True:
        number, after = await backend.control.queues.purge(purge, STEP, after)
        yield number
        if after is None:
            return


def check_control(backend: Backend, call: str) -> Backend:
    """The store, if it can do what this call asks for. Raises MissingCapability."""
    if not backend.capabilities.control:
        raise MissingCapability(
            f"the store at {backend.address} has no capability 'control', which app.{call} needs: "
            "use a store that has it"
        )
    return backend


def read_pause(pause: Pause) -> QueuePause:
    """A pause of the store, for people. Whatever a foreign writer has put there is shown."""
    try:
        fields = read_fields(pause.info)
    except BadRecord:
        # It counts all the same, and must be seen to be ended.
        fields = {}
    since = datetime.fromtimestamp(min(pause.since_ms, _LAST_MS) / 1000, UTC)
    by, reason = _text(fields.get("by")), _text(fields.get("reason"))
    return QueuePause(pause.queue, pause.function, since, by, reason, pause.is_resuming)


_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999, which is as far as a datetime goes."""


def _text(value: Any) -> str | None:
    return value[:MOST_REASON] if isinstance(value, str) and value else None


def _names(function: str | JobFunction[..., Any] | None) -> Iterator[str | None]:
    """The names under which jobs of a function are stored; None for all functions."""
    if function is None or isinstance(function, str):
        yield function and check_function_name(function, field="function")
        return
    yield function.name
    # Jobs that older releases have enqueued carry an older name.
    yield from function.aliases


def _shown(function: str | JobFunction[..., Any] | None) -> str | None:
    return function.name if isinstance(function, JobFunction) else function


def _somebody() -> str:
    host = socket.gethostname()
    # Not the name of the program: who reads it later asks a person.
    try:
        return f"{getpass.getuser()}@{host}"
    except (KeyError, OSError, ImportError):
        # A container may have no name for its user.
        return host
