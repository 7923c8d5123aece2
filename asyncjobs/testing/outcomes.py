"""What has become of the jobs that a test has run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from asyncjobs.errors import JobsDied
from asyncjobs.jobs.info import Progress
from asyncjobs.model import events
from asyncjobs.model.events import AttemptEnded, Event, JobDead
from asyncjobs.model.refs import JobRef
from asyncjobs.model.step_events import JobSuspended
from asyncjobs.testing.calls import EnqueuedCall

__all__ = ["Drained", "Ending", "Performed", "drained_of", "ending_of", "raise_dead"]

R_co = TypeVar("R_co", covariant=True)

Ending: TypeAlias = Literal[
    "succeeded", "retry", "snoozed", "suspended", "discarded", "dead", "cancelled", "released"
]
"""How an attempt has ended. `retry`: it failed and runs again. `snoozed`: it runs again, and no
attempt was spent. `suspended`: it has given its slot away, to sleep for example. `released`: it was
stopped and given back."""

_ENDINGS: Final[Sequence[tuple[type[AttemptEnded], Ending]]] = (
    (events.JobSucceeded, "succeeded"),
    (events.JobRetryScheduled, "retry"),
    (events.JobSnoozed, "snoozed"),
    (JobSuspended, "suspended"),
    (events.JobDiscarded, "discarded"),
    (events.JobDead, "dead"),
    (events.JobCancelled, "cancelled"),
    (events.JobReleased, "released"),
)
MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Drained:
    """How many attempts have ended how, while the jobs of a test were run.

    retried: they failed, and were stored for a later attempt.
    snoozed: they asked to run later.
    suspended: they gave their slot away, to sleep or to wait.
    released: they were stopped and given back.
    dead_jobs: the jobs that died.
    """

    succeeded: int = 0
    retried: int = 0
    snoozed: int = 0
    suspended: int = 0
    discarded: int = 0
    dead: int = 0
    cancelled: int = 0
    released: int = 0
    dead_jobs: tuple[JobRef, ...] = field(default=(), repr=False)

    @property
    def attempts(self) -> int:
        """How many attempts have ended in all."""
        failed = self.retried + self.discarded + self.dead
        later = self.snoozed + self.suspended + self.released
        return self.succeeded + failed + later + self.cancelled


def ending_of(event: Event) -> Ending | None:
    """How an attempt has ended, by its event; None for an event that is no end of an attempt."""
    for kind, ending in _ENDINGS:
        if isinstance(event, kind):
            return ending
    return None


def drained_of(heard: Iterable[Event]) -> Drained:
    """The sum of these events."""
    counts: dict[str, int] = {}
    dead: list[JobRef] = []
    for event in heard:
        ending = ending_of(event)
        if ending is not None:
            counts[ending] = counts.get(ending, 0) + 1
        if isinstance(event, JobDead):
            dead.append(event.ref)
    if "retry" in counts:
        counts["retried"] = counts.pop("retry")
    return Drained(**counts, dead_jobs=tuple(dead))


def raise_dead(heard: Iterable[Event]) -> None:
    """Raise JobsDied if one of these events says that a job is dead."""
    dead = [event for event in heard if isinstance(event, JobDead)]
    if not dead:
        return
    lines = [f"\n  {event.name} ({event.ref}): {_told(event)}" for event in dead[:MOST_SHOWN]]
    if len(dead) > MOST_SHOWN:
        lines.append(f"\n  … and {len(dead) - MOST_SHOWN} more")
    word = "job is" if len(dead) == 1 else "jobs are"
    raise JobsDied(
        f"{len(dead)} {word} dead; give raise_dead=False if a test expects that:{''.join(lines)}",
        dead=tuple(event.ref for event in dead),
    ) from dead[0].error


def _told(event: JobDead) -> str:
    # Not the text of the error, which may hold a sensitive argument. It is the cause, and shown
    # as such.
    kind = "" if event.error is None else f", {type(event.error).__name__}"
    return f"{event.reason} at attempt {event.attempt}{kind}"


@dataclass(frozen=True, slots=True)
class Performed(Generic[R_co]):
    """One attempt of a call, made by `perform`.

    state: how it has ended.
    error: what the job function has raised, if the job is retried or dead.
    delay: how long a retry, a snooze or a suspended job waits.
    reason: why it was discarded, is dead or is suspended.
    attempt: the number of the attempt.
    duration: how long it took, by the real clock.
    logs: what was logged in it, as far as the levels of your loggers let it through.
    enqueued: the jobs that it has enqueued.
    progress: its newest report by `ctx.progress(...)`.
    """

    state: Ending
    error: BaseException | None = None
    delay: timedelta | None = None
    reason: str | None = None
    attempt: int = 1
    duration: timedelta = timedelta()
    logs: Sequence[logging.LogRecord] = field(default=(), repr=False)
    enqueued: Sequence[EnqueuedCall] = field(default=(), repr=False)
    progress: Progress | None = None
    _value: Any = field(default=None, repr=False)
    _no_value: BaseException | None = field(default=None, repr=False)

    @property
    def value(self) -> R_co:
        """What the job function has returned, as `handle.result()` returns it.

        Raises what the job function has raised; ResultUnavailable for a value that cannot be kept;
        AssertionError if the job has no value for another reason, such as a snooze.
        """
        if self._no_value is not None:
            raise self._no_value
        value: R_co = self._value
        return value
