"""How an attempt's error is put into words, without what is sensitive in its job."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from asyncjobs.codec import clean_text
from asyncjobs.policy.redaction import Mask
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.run import Run

__all__ = ["describe", "log_failure"]


def describe(error: BaseException, mask: Mask | None = None) -> tuple[str, str, str]:
    """Qualified type, message and traceback of an error, as text of bounded size."""
    kind = type(error)
    try:
        message = str(error)
        text = "".join(traceback.format_exception(kind, error, _of_the_job(error)))
        if mask is not None:
            # Before anything is cut off: half of a secret would not be found.
            message, text = mask.text(message), mask.text(text)
    except Exception as broken:  # a __str__ of the user's own may raise
        message = f"(its text could not be made: {type(broken).__name__})"
        text = ""
    return class_name(kind), clean_text(message), clean_text(text)


def log_failure(
    logger: logging.Logger,
    run: Run,
    text: str,
    *args: Any,
    error: BaseException,
    **fields: Any,
) -> None:
    """An error about this attempt, with the traceback.

    Of a job with sensitive arguments the error itself must not reach handlers, which would
    put it into words again: the record has the traceback as the text that a formatter
    would have made of it.
    """
    extra = {**run.label, **fields}
    mask = run.mask
    if mask is None:
        logger.error(text, *args, exc_info=error, extra=extra, stacklevel=2)
        return
    if not logger.isEnabledFor(logging.ERROR):
        return
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    record = logger.makeRecord(
        logger.name, logging.ERROR, *place, text, args, None, caller.f_code.co_name, extra
    )
    record.exc_text = describe(error, mask)[2].rstrip()
    logger.handle(record)


def _of_the_job(error: BaseException) -> TracebackType | None:
    """The traceback without our own frames at its top: they tell the user nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        ("asyncjobs.worker.", "concurrent.futures.")
    ):
        trace = trace.tb_next
    return trace
