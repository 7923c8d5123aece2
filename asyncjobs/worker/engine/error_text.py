"""Formats the error of an attempt, without sensitive values of its job."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType
from typing import Any, NamedTuple

from asyncjobs.guard.guarded import MOST_LINKED, GuardedLog, is_small
from asyncjobs.model.codec import MAX_TEXT, clean_text
from asyncjobs.policy.redaction import Mask
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.engine.attempt import Attempt

__all__ = ["ErrorText", "FromElsewhere", "describe", "log_failure"]


class ErrorText(NamedTuple):
    """An error as text of bounded size: its qualified type, its message, its traceback.

    Made once for each failure: for the log, for the stored job and for the dead letter.
    `shown`: the error itself, if log handlers may have it. They would format it again. So they do
    not get it if the job has sensitive arguments, or if it cannot be formatted, or not soon.
    """

    kind: str
    message: str
    trace: str
    shown: BaseException | None


class FromElsewhere:
    """Base of errors that were raised in another process, which has sent their text along as
    `told_elsewhere`. Here they have no frames."""

    __slots__ = ()


def describe(error: BaseException, mask: Mask | None = None) -> ErrorText:
    """The error as text. Raises nothing, whatever the user's own exception does."""
    elsewhere = _told_elsewhere(error, mask)
    if elsewhere is not None:
        return elsewhere
    kind = class_name(type(error))
    shown = None
    if mask is None:
        shown = error
    try:
        message = str(error)
    except BaseException as fault:  # a __str__ of the user's own may raise
        message = _no_text(fault)
        shown = None
    try:
        if is_small(error):
            trace = _of_the_job(error)
            text = "".join(traceback.format_exception(type(error), error, trace))
        else:
            last_line = f"{kind}: {message}\n(more than {MOST_LINKED} errors are linked with it)"
            text = _frames(error, last_line)
            shown = None
    except BaseException:  # a __cause__ of the user's own, or a __str__ in the chain
        text = _frames(error, f"{kind}: {message}")
        shown = None
    try:
        if mask is not None:
            # Before the text is cut off: half of a secret would not be found.
            message = mask.text(message, MAX_TEXT)
            text = mask.text(text, MAX_TEXT)
    except BaseException as fault:
        message = _no_text(fault)
        text = ""
    return ErrorText(kind, clean_text(message), clean_text(text), shown)


def log_failure(
    logger: GuardedLog,
    attempt: Attempt,
    text: str,
    *args: Any,
    error: ErrorText,
    level: int = logging.ERROR,
    **fields: Any,
) -> None:
    """A line about this attempt, with the traceback of its error."""
    exc_text = None
    if error.shown is None:
        exc_text = error.trace.rstrip()
    extra = {**attempt.label, **fields}
    logger.log(
        level, text, *args, exc_info=error.shown, exc_text=exc_text, extra=extra, stacklevel=2
    )


def _told_elsewhere(error: BaseException, mask: Mask | None) -> ErrorText | None:
    try:
        told: ErrorText = BaseException.__getattribute__(error, "__dict__")["told_elsewhere"]
        message, trace = told.message, told.trace
        if mask is not None:
            message, trace = mask.text(message, MAX_TEXT), mask.text(trace, MAX_TEXT)
        return ErrorText(told.kind, clean_text(message), clean_text(trace), None)
    except BaseException:  # nearly all errors are from here
        return None


def _no_text(fault: BaseException) -> str:
    return f"(its text could not be made: {class_name(type(fault))})"


def _frames(error: BaseException, last_line: str) -> str:
    """The frames alone, for an error that cannot be formatted."""
    try:
        return "".join(traceback.format_tb(_of_the_job(error))) + last_line
    except BaseException:
        return last_line


def _of_the_job(error: BaseException) -> TracebackType | None:
    """The traceback without our own frames at its top, which tell the user nothing."""
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(
        ("asyncjobs.worker.", "concurrent.futures.")
    ):
        trace = trace.tb_next
    return trace
