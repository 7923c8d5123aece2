"""Schedules that are declared in code: `@app.cron(...)` and `@app.every(...)`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.rule import CallOptions, Rule
from asyncjobs.jobs.tick import check_call

__all__ = ["Declarations", "DeclaredSchedule", "Draft", "drafts_on"]

_DRAFTS: Final = "__asyncjobs_schedules__"
"""The attribute of a plain function with the drafts that stand below its `@app.job`."""


class Draft:
    """A schedule whose job function is not known yet: what `cron(...)` and `every(...)` return.

    It is checked as far as that goes without the function.
    """

    __slots__ = ("args", "id", "is_taken", "kwargs", "on", "rule")

    def __init__(self, rule: Rule, call: CallOptions) -> None:
        self.rule = rule
        self.id = call.id
        self.args = call.args
        self.kwargs = call.kwargs
        self.is_taken = False
        self.on = ""
        """The plain function that it stands on."""

    def wait_on(self, function: Any) -> None:
        """Stand on a plain function until `@app.job` makes a job function of it.

        Raises RegistrationError for what can be none.
        """
        if not inspect.isfunction(function):
            raise RegistrationError(
                f"a schedule needs a job function, not {shown(function)}; write @app.job on the "
                "function"
            )
        self.on = f"{function.__module__}.{function.__qualname__}"
        # On the function and not in the registry: functools.wraps carries it to a wrapper, and any
        # registry may make the job function.
        function.__dict__.setdefault(_DRAFTS, []).append(self)


class DeclaredSchedule:
    """A schedule that the code declares. `id` is unique in its app."""

    __slots__ = ("args", "function", "id", "kwargs", "rule")

    def __init__(self, id: str, function: JobFunction[..., Any], draft: Draft) -> None:
        self.id = id
        self.function = function
        self.rule = draft.rule
        self.args = draft.args
        self.kwargs = draft.kwargs

    def __repr__(self) -> str:
        return f"<DeclaredSchedule {self.id} of {self.function.name}>"


class Declarations:
    """The schedules of one registry, with those of the registries that it includes.

    Also knows the drafts that wait for their `@app.job`.
    """

    def __init__(self) -> None:
        self.schedules: dict[str, DeclaredSchedule] = {}
        self._waiting: list[Draft] = []

    def wait(self, draft: Draft, function: Any) -> None:
        """A draft stands on a function that is no job function yet. Raises RegistrationError."""
        draft.wait_on(function)
        self._waiting.append(draft)

    def new(self, draft: Draft, function: JobFunction[..., Any]) -> DeclaredSchedule:
        """The schedule of this draft. It is not added yet.

        Raises ArgumentsError, EncodeError, and ConfigError for options of a single job and for a
        unique key that does not fit.
        """
        # Now, at the import of the module, and not each night in the log of a worker.
        check_call(function, draft.args, draft.kwargs, draft.rule.overlap)
        draft.is_taken = True
        return DeclaredSchedule(draft.id or self._own_id(function), function, draft)

    def _own_id(self, function: JobFunction[..., Any]) -> str:
        """The name of the function for the schedule nearest to its `def`, then `name#2` and so on.

        So a schedule that is added above the others changes no id.
        """
        # Not from the expression: then a changed one would be another schedule, and its counters,
        # its pause and its runs would be lost.
        number = 1
        name = function.name
        while name in self.schedules:
            number += 1
            name = f"{function.name}#{number}"
        return name

    def check_free(self, schedule: DeclaredSchedule) -> None:
        """Raises RegistrationError if another schedule has its id."""
        taken = self.schedules.get(schedule.id)
        if taken is not None and taken is not schedule:
            raise RegistrationError(
                f"two schedules have the id {schedule.id!r}: of {taken.function.name} and of "
                f"{schedule.function.name}; give one of them another id=..."
            )

    def add(self, schedules: Iterable[DeclaredSchedule]) -> None:
        """Add schedules whose ids are free."""
        self.schedules.update({each.id: each for each in schedules})

    def drop(self, names: Iterable[str]) -> None:
        """Forget the schedules of job functions with these names: they were defined again."""
        # Otherwise a reload with another expression would find its own id taken.
        gone = frozenset(names)
        self.schedules = {
            id: each for id, each in self.schedules.items() if each.function.name not in gone
        }

    def check_waiting(self) -> None:
        """Raises RegistrationError for a schedule whose function never became a job function."""
        # Some have found their `@app.job` since they were written down.
        self._waiting = [draft for draft in self._waiting if not draft.is_taken]
        for draft in self._waiting:
            raise RegistrationError(
                f"{draft.on} has a schedule ({draft.rule.text}), but is no job function, so "
                "nothing would run; write @app.job on it"
            )


def drafts_on(function: Any) -> list[Draft]:
    """The drafts below `@app.job`, the one nearest to the `def` first."""
    found: list[Draft] = getattr(function, _DRAFTS, [])
    return [draft for draft in found if not draft.is_taken]
