"""Adds the running job and the current span to log lines, and masks sensitive values in them.

Nothing here configures a logger: a program keeps its own logging. The fields are read from the
context when a line is written, so a job that writes no lines pays nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from opentelemetry.trace import get_current_span

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import _current
from asyncjobs.model import events, step_events
from asyncjobs.model.ends import ENDS, OUTCOMES
from asyncjobs.model.events import Events
from asyncjobs.model.job import State
from asyncjobs.policy.redaction import Mask

__all__ = ["JobContextFilter", "JobLog", "add_job_context", "mask_job_values"]

logger = GuardedLog("asyncjobs.jobs")

_OWN: Final = frozenset(
    {
        "job_id",
        "job",
        "queue",
        "attempt",
        "tags",
        "trace_id",
        "span_id",
        "trace_flags",
        "timestamp",
        "level",
        "logger",
        "_record",
        "_from_structlog",
        "process",
        "pid",
    }
)
"""Fields that loggers add themselves. No job has chosen their names."""
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of each record of `logging`. All others come from `extra`."""
_WORDS: Final[dict[type[events.AttemptEnded], str]] = {
    events.JobSucceeded: OUTCOMES[events.JobSucceeded],
    events.JobSnoozed: OUTCOMES[events.JobSnoozed],
    step_events.JobSuspended: OUTCOMES[step_events.JobSuspended],
    events.JobReleased: OUTCOMES[events.JobReleased],
    events.JobLost: "lost",
}
"""The ends for which the worker writes no line of its own."""


def add_job_context(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that adds the running job and the current span to each line.

    The fields are `job_id`, `job`, `queue` and `attempt`, and in hex `trace_id`, `span_id` and
    `trace_flags`. Fields that are already set stay as they are.
    """
    for name, value in _context().items():
        fields.setdefault(name, value)
    return fields


def mask_job_values(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that masks the sensitive values of a job in the lines that it writes.

    Put it after `format_exc_info`, so that it also sees tracebacks.
    """
    mask = _mask()
    if mask is not None:
        for name, value in fields.items():
            if name not in _OWN:
                fields[name] = _hidden(mask, name, value)
            elif type(value) is str:
                fields[name] = mask.text(value)
    return fields


class JobContextFilter(logging.Filter):
    """A filter for handlers of `logging`: `handler.addFilter(JobContextFilter())`.

    Does what `add_job_context` and `mask_job_values` do for structlog, and lets every record
    through. If the job has sensitive arguments, the record becomes plain text without their
    values.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add attributes to the record. Attributes that are already set stay as they are."""
        for name, value in _context().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        mask = _mask()
        if mask is not None:
            try:
                _hide(record, mask)
            except BaseException as error:
                # If the text cannot be made, the record must not show its values, and the error
                # must not end the job.
                record.msg = f"a log line of the job could not be masked: {type(error).__name__}"
                record.args = record.exc_info = record.exc_text = record.stack_info = None
                for name in vars(record).keys() - _RECORD - _OWN:
                    setattr(record, name, "***")
        return True


def _hide(record: logging.LogRecord, mask: Mask) -> None:
    record.msg = mask.text(record.getMessage())
    record.args = None
    if record.exc_info and not record.exc_text:
        record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    # Formatters that ignore `exc_text` would make the text again from the error, unmasked.
    record.exc_info = None
    record.exc_text = record.exc_text and mask.text(record.exc_text)
    record.stack_info = record.stack_info and mask.text(record.stack_info)
    for name, value in vars(record).items():
        if name not in _RECORD and name not in _OWN:
            setattr(record, name, _hidden(mask, name, value))
        elif name in _OWN and type(value) is str:
            setattr(record, name, mask.text(value))


def _hidden(mask: Mask, name: str, value: Any) -> Any:
    if name in ("event", "exception", "stack"):
        # structlog puts these into each line. A rule that hides all names must not hide them.
        name = ""
    return mask.value(value, name)


def _mask() -> Mask | None:
    current = _current.get(None)
    if current is None:
        return None
    return current.mask


def _context() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    current = _current.get(None)
    if current is not None:
        job = current.context
        fields = {"job_id": job.id, "job": job.name, "queue": job.queue, "attempt": job.attempt}
        if job.tags:
            fields["tags"] = list(job.tags)
    span = get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = f"{span.trace_id:032x}"
        fields["span_id"] = f"{span.span_id:016x}"
        fields["trace_flags"] = f"{span.trace_flags:02x}"
    return fields


class JobLog:
    """Writes a log line when an attempt starts, and one when it ends.

    level: the level of these lines, by default DEBUG.
    args: True adds the arguments to the line at the start, with sensitive values masked.

    The worker itself writes lines about retries, deaths, discards and cancels, at levels of their
    own. JobLog does not repeat them.
    """

    def __init__(self, level: int = ENDS[State.SUCCEEDED].level, *, args: bool = False) -> None:
        self._level = level
        self._args = args

    def attach(self, hub: Events) -> Callable[[], None]:
        """Listen to the events of an app: `JobLog().attach(app.events)`.

        Returns a function that stops it.
        """
        removes = [hub.on(events.JobStarted, self._started)]
        removes.append(hub.on(events.AttemptEnded, self._ended))

        def remove() -> None:
            for each in removes:
                each()

        return remove

    def _started(self, event: events.JobStarted) -> None:
        if logger.isEnabledFor(self._level):
            fields = _fields(event, queue_time_ms=event.queue_time_ms)
            if self._args and event.shown_call is not None:
                fields["job_args"], fields["job_kwargs"] = event.shown_call()
            logger.log(self._level, "%s: started", event.ref, extra=fields)

    def _ended(self, event: events.AttemptEnded) -> None:
        # Other ends have a line of the worker's own.
        word = _WORDS.get(type(event))
        if word is not None and logger.isEnabledFor(self._level):
            fields = _fields(event, duration_ms=round(event.duration_s * 1000))
            text = "%s: %s after %.3f s"
            logger.log(self._level, text, event.ref, word, event.duration_s, extra=fields)


def _fields(event: events.JobStarted | events.AttemptEnded, **more: Any) -> dict[str, Any]:
    ref = event.ref
    fields: dict[str, Any] = {
        "job_id": ref.id,
        "job": event.name,
        "queue": ref.queue,
        "attempt": event.attempt,
    }
    if event.info is not None and event.info.tags:
        fields["tags"] = list(event.info.tags)
    return fields | more
