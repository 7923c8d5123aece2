"""Stored arguments that do not fit their job function any more, and how that shows."""

from __future__ import annotations

from types import CodeType
from typing import Any

from asyncjobs.errors import ArgumentsError, UnfitArguments
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.envelope import Envelope
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["unfit_or", "unfit_plain"]


def unfit_plain(attempt: Attempt) -> UnfitArguments | None:
    """What does not fit in the call of a function whose arguments are not converted."""
    envelope = attempt.envelope
    try:
        attempt.function.binding.loaded(envelope.args, envelope.kwargs)
    except UnfitArguments as error:
        return error
    return None


def unfit_or(attempt: Attempt, error: BaseException) -> BaseException:
    """The error of an attempt; UnfitArguments if it is a TypeError of the call itself.

    So functions whose arguments are not looked at before the call pay nothing for it.
    """
    # A TypeError of the function's own body is its own error. The check below would nearly always
    # say so, too: this one is sure, and quicker.
    if type(error) is not TypeError or _has_begun(attempt.function, error):
        return error
    # Decoded anew: steps before the call may have changed the arguments.
    envelope = Envelope.decode(attempt.job.envelope)
    try:
        attempt.function.binding.check(envelope.args, envelope.kwargs)
    except ArgumentsError as wrong:
        unfit = UnfitArguments(str(wrong))
        unfit.__cause__ = error
        return unfit
    return error


def _has_begun(function: JobFunction[..., Any], error: BaseException) -> bool:
    """Whether the body of the user's own function has run. A decorator around it may have."""
    inner: Any = function.function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    code: CodeType | None = getattr(inner, "__code__", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False
