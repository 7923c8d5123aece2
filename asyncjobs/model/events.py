"""Events: what happens to jobs and workers, as frozen values for listeners.

Telemetry and users listen. Code that emits does not know its listeners. Without a listener a job
pays one check: `if events.active`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.inboxes import Inboxes
from asyncjobs.model.job import NewJob
from asyncjobs.model.listening import Failures, check_kind, check_listener, is_async, refuse_answer
from asyncjobs.model.refs import JobRef

__all__ = [
    "AttemptEnded",
    "AttemptEvent",
    "AttemptInfo",
    "CronEnqueued",
    "CronMissed",
    "CronSkipped",
    "EnqueueFailed",
    "Event",
    "Events",
    "JobCancelled",
    "JobDead",
    "JobDiscarded",
    "JobEnqueued",
    "JobEvent",
    "JobExpired",
    "JobLost",
    "JobPutBack",
    "JobReleased",
    "JobRetryScheduled",
    "JobSnoozed",
    "JobStarted",
    "JobStuck",
    "JobSucceeded",
    "JobsPromoted",
    "JobsReclaimed",
    "LeaseLost",
    "Listener",
    "LoopBlocked",
    "QueuePaused",
    "QueuePurged",
    "QueueResumed",
    "ScheduleEvent",
    "WorkerQuiet",
    "WorkerResumed",
    "WorkerStarted",
    "WorkerStopped",
    "listening",
    "tell_failed",
    "tell_stored",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    """Something that happened to one job; `name` is its job function."""

    ref: JobRef
    name: str


@dataclass(frozen=True, slots=True)
class JobEnqueued(JobEvent):
    """The store has the job. `is_new` is False when a job with this id or unique key was already
    there; then `ref` is that job.

    `size`: bytes of the stored job. `duration_s`: how long the caller waited.
    """

    is_new: bool
    size: int = field(default=0, compare=False)
    duration_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class EnqueueFailed(JobEvent):
    """The job was refused, or the store did not confirm it. In the second case it may be stored.

    A call for many jobs emits this for each job of the batch that failed, or for the one that is
    too large. The jobs behind it were not sent. `duration_s`: how long the caller waited.
    """

    error: Exception
    duration_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class AttemptEvent(JobEvent):
    """Something that happened to one attempt. `attempt`: its number, from 1.

    `info`: which attempt it is; all events of one attempt have the same object. None if the job
    was taken, but given back, cancelled or found unreadable before there was an attempt.
    """

    attempt: int
    info: AttemptInfo | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class JobStarted(AttemptEvent):
    """An attempt begins. A sync function begins when it has a thread.

    `queue_time_ms`: from being ready to the start, by the store's clock. `shown_call()` returns
    the positional and keyword arguments, with sensitive values masked.
    """

    queue_time_ms: int
    shown_call: Callable[[], tuple[list[Any], dict[str, Any]]] | None = field(
        default=None, compare=False, repr=False
    )


@dataclass(frozen=True, slots=True)
class AttemptEnded(AttemptEvent):
    """Base of the events that end an attempt. `duration_s` is 0 if the job did not start."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class JobSucceeded(AttemptEnded):
    """The job function returned."""


@dataclass(frozen=True, slots=True)
class JobRetryScheduled(AttemptEnded):
    """The attempt failed, and another one is scheduled."""

    delay_s: float
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class JobSnoozed(AttemptEnded):
    """The job asked to run later. No attempt is spent."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class JobDiscarded(AttemptEnded):
    """The job ended by `Discard` or `discard_on`, or expired before an attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class JobExpired(JobDiscarded):
    """The job did not start before its `expires`. `reason` is `expired`."""


@dataclass(frozen=True, slots=True)
class JobDead(AttemptEnded):
    """The job is dead. `reason`: exhausted, crashed, unknown, unreadable or unrecorded."""

    reason: str
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class JobCancelled(AttemptEnded):
    """Cancelled by a user.

    `was_queued`: no attempt was stopped. Either the job waited: then the client that cancelled it
    emits this, with attempt 0, and with the name '' if its handle does not know the function. Or
    an attempt had just failed, and the next one was dropped: then the worker emits this after
    JobRetryScheduled.
    """

    was_queued: bool = False


@dataclass(frozen=True, slots=True)
class JobReleased(AttemptEnded):
    """Given back unharmed at a stop, started or not.

    An attempt that swallows its cancellation emits JobStuck instead.
    """


@dataclass(frozen=True, slots=True)
class JobLost(AttemptEnded):
    """Stopped because the lease has ended. The job runs elsewhere, and its end there counts."""


@dataclass(frozen=True, slots=True)
class JobStuck(AttemptEvent):
    """The attempt swallows its cancellation, and loses its slot.

    `reason`: why it was asked to stop, `seconds` ago. `stack`: where it hangs. The event that ends
    the attempt follows, according to the reason.
    """

    reason: str
    seconds: float
    stack: str


@dataclass(frozen=True, slots=True)
class JobPutBack(JobEvent):
    """This worker does not know the function or the envelope's version, and put the job back."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class JobsReclaimed(Event):
    """Jobs of workers whose lease ended are ready again. `queues`: those that were looked at."""

    jobs: int
    leases: int
    queues: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class JobsPromoted(Event):
    """`jobs` scheduled jobs of this queue were due, and are ready now."""

    jobs: int
    queue: str


@dataclass(frozen=True, slots=True)
class ScheduleEvent(Event):
    """Something that happened to a schedule. `name`: its job function.

    Each event is emitted once, by the worker that has handled the tick.
    """

    schedule: str
    queue: str
    name: str


@dataclass(frozen=True, slots=True)
class CronEnqueued(ScheduleEvent):
    """A tick has made a job. `scheduled_ms`: the tick, in milliseconds since the epoch.

    `lag_s`: how long after the tick the job was stored, by the store's clock.
    """

    ref: JobRef
    scheduled_ms: int
    lag_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class CronMissed(ScheduleEvent):
    """Ticks have made no job, because no worker handled them in time. See `catch_up`.

    `ticks`: how many.
    """

    ticks: int


@dataclass(frozen=True, slots=True)
class CronSkipped(ScheduleEvent):
    """Ticks have made no job, because an earlier job of the schedule had not ended (see `overlap`),
    or because another job held the unique key of theirs.

    `ticks`: how many. `holder`: the job that holds the key; None if the overlap is why.
    """

    ticks: int
    holder: JobRef | None = None


@dataclass(frozen=True, slots=True)
class QueuePaused(Event):
    """This process has paused a queue, or one job function of it. See `app.queues.pause`.

    function: the name of the job function; None: the whole queue.
    """

    queue: str
    function: str | None
    by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class QueueResumed(Event):
    """This process has resumed a queue, or one job function of it."""

    queue: str
    function: str | None


@dataclass(frozen=True, slots=True)
class QueuePurged(Event):
    """This process has cancelled `jobs` waiting jobs of a queue, or of one job function of it.

    The jobs emit no JobCancelled of their own: there may be a million.
    """

    queue: str
    function: str | None
    jobs: int


@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """This worker lost its lease in these queues. Its running jobs there are stopped."""

    worker: str
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopBlocked(Event):
    """A worker's event loop stood still for `seconds`. Emitted once it turns again.

    `ref` and `name`: the job that blocked it; None and '' if it was no job. `stack`: where that
    job was. `queues`: the worker's. `is_starved`: nothing on the loop blocked it, but computing
    threads left it no turn; then `stack` is that of the busiest thread. `info`: the attempt, if
    it still runs. The log says the same while the loop is still blocked.
    """

    worker: str
    ref: JobRef | None
    name: str
    seconds: float
    stack: str
    queues: tuple[str, ...] = field(default=(), compare=False)
    is_starved: bool = False
    info: AttemptInfo | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    """The worker has registered in its queues and takes jobs."""

    worker: str
    queues: tuple[str, ...]
    concurrency: int


@dataclass(frozen=True, slots=True)
class WorkerQuiet(Event):
    """The worker takes no more jobs: it ends, or an operator has ordered it to be quiet."""

    worker: str
    queues: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class WorkerResumed(Event):
    """The worker was quiet by order, and takes jobs again."""

    worker: str
    queues: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    """The worker has ended. `released`: jobs that it gave back."""

    worker: str
    released: int
    queues: tuple[str, ...] = field(default=(), compare=False)


E = TypeVar("E", bound=Event)
Listener: TypeAlias = Callable[[E], object]


class Events:
    """Holds the listeners, and calls them in the order in which they were added.

    A plain listener runs where the event happens: keep it short. An async one gets its events from
    an inbox, in order, on the loop on which the app is open: an event may happen in any thread. A
    listener that raises does not disturb the job. It is logged once for each type of event and of
    error.
    """

    __slots__ = ("_listeners", "_wanted", "active", "failures", "inboxes")

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], object]]] = []
        # The listeners by the exact class of event, found once for each class.
        self._wanted: dict[type[Event], tuple[Callable[[Any], object], ...]] = {}
        self.failures = Failures()
        self.inboxes = Inboxes()
        self.active = False

    def on(self, kind: type[E], listener: Callable[[E], object]) -> Callable[[], None]:
        """Call `listener` for each event of `kind`, subclasses included.

        Returns a function that removes it again. Raises UsageError if `kind` is not a class of
        event, or if `listener` cannot be called or is a generator, which would never run.
        """
        check_kind(kind, Event)
        check_listener(listener)
        called: Callable[[Any], object] = listener
        if is_async(listener):
            called = self.inboxes.new(cast("Any", listener))
        entry = (kind, called)
        self._listeners.append(entry)
        # Replaced, not cleared: another thread may be emitting an event by the old dict.
        self._wanted = {}
        self.active = True

        def remove() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)
            self.inboxes.drop(called)
            self._wanted = {}
            self.active = bool(self._listeners)

        return remove

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of exactly this class. If not, none need be made."""
        return bool(self._of(kind))

    def emit(self, event: Event) -> None:
        """Tell the listeners."""
        kind = type(event)
        # As in `_of`, which is called for the first one only.
        for listener in self._wanted.get(kind) or self._of(kind):
            try:
                answer = listener(event)
                if answer is not None:
                    refuse_answer(listener, answer)
            # rule:16 a listener may raise what is no Exception
            except BaseException as error:
                # A SystemExit here would end the attempt without its settlement, or the loop.
                self.failures.tell(listener, kind, error)

    def _of(self, kind: type[Event]) -> tuple[Callable[[Any], object], ...]:
        wanted = self._wanted
        found = wanted.get(kind)
        if found is None:
            # Into the dict from before: a listener that is added meanwhile replaces `_wanted`,
            # and this answer would be wrong there.
            found = tuple(each for base, each in tuple(self._listeners) if issubclass(kind, base))
            wanted[kind] = found
        return found


def listening(hub: Events, kind: type[E]) -> Callable[[Listener[E]], Listener[E]]:
    """A decorator that adds the function as a listener, and returns it unchanged."""
    check_kind(kind, Event)

    def decorate(listener: Listener[E]) -> Listener[E]:
        hub.on(kind, listener)
        return listener

    return decorate


def tell_stored(
    hub: Events,
    jobs: Sequence[NewJob],
    names: Sequence[str],
    stored: Sequence[tuple[JobRef, bool]],
    duration_s: float,
) -> None:
    """Emit the events of one answered batch. `stored`: for each job, the one in its place, and
    whether that is new."""
    for job, name, (ref, is_new) in zip(jobs, names, stored, strict=False):
        hub.emit(JobEnqueued(ref, name, is_new, len(job.envelope), duration_s))


def tell_failed(
    hub: Events, jobs: Sequence[NewJob], names: Sequence[str], error: Exception, duration_s: float
) -> None:
    """Emit the events of jobs whose enqueue has failed."""
    if hub.active:
        for job, name in zip(jobs, names, strict=False):
            hub.emit(EnqueueFailed(job.ref, name, error, duration_s))
