"""A job that was enqueued during a test, and how it compares to what the test expects."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from asyncjobs.errors import AsyncJobsError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.clock import Seconds, at_ms
from asyncjobs.model.job import Priority
from asyncjobs.model.refs import JobRef
from asyncjobs.policy.masking import MASK
from asyncjobs.policy.redaction import mask_of
from asyncjobs.testing.matching import differences

__all__ = ["UNSET", "EnqueuedCall", "Expected", "named_arguments"]


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final[Any] = _Unset()
"""The default of an expectation that is not given, where None has a meaning."""
NEAR: Final = timedelta(seconds=1)
"""How far a due time may be from `at=`: a test that does not stop the clock cannot know it to the
millisecond."""


@dataclass(frozen=True, slots=True)
class EnqueuedCall:
    """A job that was enqueued during a test.

    name: the name of its job function.
    args, kwargs: its arguments, as they are stored.
    ref: its queue and id.
    priority: its priority.
    at: when it is due; None: at once.
    """

    name: str
    args: list[Any] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    ref: JobRef
    priority: Priority
    at: datetime | None
    envelope: bytes = field(repr=False)
    function: JobFunction[..., Any] | None = field(repr=False)

    @property
    def queue(self) -> str:
        """The queue that it was enqueued to."""
        return self.ref.queue

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.ref.id

    @property
    def arguments(self) -> dict[str, Any]:
        """All its arguments by the names of their parameters, as the job function takes them:
        converted by their annotations, defaults included. References to rows are not loaded."""
        args: Sequence[Any] = self.args
        kwargs: Mapping[str, Any] = self.kwargs
        if self.function is not None:
            # A test of a changed signature has arguments that do not fit any more.
            with suppress(AsyncJobsError):
                args, kwargs = self.function.binding.loaded(args, kwargs)
        return named_arguments(self.function, args, kwargs, defaults=True)

    @property
    def stored_arguments(self) -> dict[str, Any]:
        """The same as JSON."""
        return named_arguments(self.function, self.args, self.kwargs, defaults=True)

    def text(self) -> str:
        """One line about it, without sensitive values."""
        args: Sequence[Any] = self.args
        kwargs: Mapping[str, Any] = self.kwargs
        if self.function is not None:
            mask = mask_of(self.function.redaction, self.envelope)
            if mask is not None:
                args, kwargs = mask.arguments()
        parts = [shown(value) for value in args]
        parts += [f"{name}={shown(value)}" for name, value in kwargs.items()]
        due = ""
        if self.at is not None:
            due = f", at {self.at.isoformat()}"
        level = self.priority.name.lower()
        return f"{self.name}({', '.join(parts)}) in queue {self.queue!r}, {level}{due}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a test expects of a job. None, or UNSET for `at`: anything."""

    function: JobFunction[..., Any] | None
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    queue: str | None
    priority: Priority | None
    at: datetime | None
    within: Seconds | None
    now: datetime

    @classmethod
    def of(
        cls,
        function: JobFunction[..., Any] | None,
        now: datetime,
        *,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        queue: str | None,
        priority: Priority | int | str | None,
        at: datetime | None,
        within: Seconds | None,
    ) -> Expected:
        """Raises UsageError for what cannot be an expectation."""
        if function is not None and not isinstance(function, JobFunction):
            raise UsageError(
                f"a job function is expected, decorated by @app.job, not {shown(function)}"
            )
        if function is None and (args or kwargs):
            raise UsageError("args= and kwargs= need the job function whose arguments they are")
        if isinstance(at, datetime):
            at_ms(at)  # it refuses one without a time zone
        return cls(function, args, kwargs, queue, _priority(priority), at, within, now)

    def misfits(self, call: EnqueuedCall) -> list[str]:
        """Why this call is not the expected one: a text for each difference. Empty if it is."""
        if self.function is not None and call.name != self.function.name:
            return [f"is not {self.function.name}"]
        return [*self._other_arguments(call), *self._other_place(call), *self._other_time(call)]

    def _other_arguments(self, call: EnqueuedCall) -> list[str]:
        wanted = self._wanted()
        if not wanted:
            return []
        differ = differences(wanted, call.arguments)
        # A test may also write what is stored. But a predicate expects what the function takes.
        as_stored = {name: wanted[name] for name in differ if not callable(wanted[name])}
        fit = as_stored.keys() - differences(as_stored, call.stored_arguments)
        return [f"{name} differs" for name in differ if name not in fit]

    def _wanted(self) -> dict[str, Any]:
        given = list(self.args or ())
        return named_arguments(self.function, given, self.kwargs or {}, defaults=False)

    def _other_place(self, call: EnqueuedCall) -> list[str]:
        found = []
        if self.queue is not None and call.queue != self.queue:
            found.append(f"queue is not {self.queue!r}")
        if self.priority is not None and call.priority is not self.priority:
            found.append(f"priority is not {self.priority.name.lower()}")
        return found

    def _other_time(self, call: EnqueuedCall) -> list[str]:
        found = []
        if self.at is None and call.at is not None:
            found.append("it waits, and is not due at once")
        if isinstance(self.at, datetime) and (call.at is None or abs(call.at - self.at) > NEAR):
            found.append(f"it is not due at {self.at.isoformat()}")
        if self.within is not None and call.at is not None and call.at > self._latest():
            found.append(f"it is due after {self._latest().isoformat()}")
        return found

    def _latest(self) -> datetime:
        within = self.within
        assert within is not None
        if not isinstance(within, timedelta):
            within = timedelta(seconds=within)
        return self.now + within

    def text(self) -> str:
        """What is expected, without sensitive values."""
        if self.function is None:
            name = "any job function"
        else:
            name = self.function.name
        about = [f"{key}={self._shown(key, value)}" for key, value in self._wanted().items()]
        if self.queue is not None:
            about.append(f"queue={self.queue!r}")
        if self.priority is not None:
            about.append(f"priority={self.priority.name.lower()!r}")
        if self.at is not UNSET:
            about.append(f"at={None if self.at is None else self.at.isoformat()}")
        if self.within is not None:
            about.append(f"within={self.within}")
        return f"{name} with {', '.join(about)}" if about else name

    def _shown(self, name: str, value: Any) -> str:
        # A test that fails is shown in the logs of a CI server, where many can read it.
        # rule:29 what a test expects is hidden where it is sensitive
        if self.function is not None and self.function.redaction.hides(name):
            return MASK
        return shown(value)


def named_arguments(
    function: JobFunction[..., Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    defaults: bool,
) -> dict[str, Any]:
    """Arguments by the names of their parameters; by their places where they do not fit.

    So a test need not know whether `f.enqueue(17)` or `f.enqueue(order=17)` was written.
    """
    if function is not None:
        signature = inspect.Signature(list(function.binding.parameters.all))
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError:
            pass  # stored by an older version of the function; or expected in error
        else:
            if defaults:
                bound.apply_defaults()
            return dict(bound.arguments)
    return {**{f"argument {n}": value for n, value in enumerate(args, 1)}, **kwargs}


def _priority(value: Priority | int | str | None) -> Priority | None:
    if value is None or isinstance(value, Priority):
        return value
    try:
        if isinstance(value, str):
            return Priority[value.upper()]
        return Priority(value)
    except (KeyError, ValueError):
        names = ", ".join(each.name.lower() for each in Priority)
        raise UsageError(f"priority={shown(value)} is none of {names}") from None
