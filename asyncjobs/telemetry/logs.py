"""What a log line knows of the job and the span that it is written in, and a line a job.

For any program's logging, which stays its own: nothing here configures a logger. All of it
reads the context when a line is written, so a job that writes none pays nothing.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from opentelemetry.trace import get_current_span

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.context import _current
from asyncjobs.model import events
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
"""Fields that no job has written."""
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Fields of a record of `logging` that are no extras."""
_WORDS: Final[dict[type[events.AttemptEnded], str]] = {
    events.JobSucceeded: OUTCOMES[events.JobSucceeded],
    events.JobSnoozed: OUTCOMES[events.JobSnoozed],
    events.JobReleased: OUTCOMES[events.JobReleased],
    events.JobLost: "lost",
}
"""Ends that the worker itself has no line for."""


def add_job_context(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog: the fields of the running job and of the current span.

    `job_id`, `job`, `queue`, `attempt`; `trace_id`, `span_id`, `trace_flags` in hex. A field
    that is there already stays.
    """
    for name, value in _context().items():
        fields.setdefault(name, value)
    return fields


def mask_job_values(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog, to stand behind `format_exc_info`: in lines that a job
    writes, a mask takes the place of what is sensitive in that job."""
    mask = _mask()
    if mask is not None:
        for name, value in fields.items():
            if name not in _OWN:
                fields[name] = _hidden(mask, name, value)
            elif type(value) is str:
                fields[name] = mask.text(value)
    return fields


class JobContextFilter(logging.Filter):
    """The same two for the handlers of `logging`: `handler.addFilter(JobContextFilter())`.

    Lets every record through. A record that a job with sensitive arguments writes gets its
    text here, without their values.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds attributes to the record; those that are there stay."""
        for name, value in _context().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        mask = _mask()
        if mask is not None:
            try:
                _hide(record, mask)
            except BaseException as error:
                # A record that cannot be made into text must neither end the job nor pass.
                record.msg = f"a log line of the job could not be masked: {type(error).__name__}"
                record.args = record.exc_info = record.exc_text = record.stack_info = None
                for name in vars(record).keys() - _RECORD - _OWN:
                    setattr(record, name, "***")
        return True


def _hide(record: logging.LogRecord, mask: Mask) -> None:
    record.msg, record.args = mask.text(record.getMessage()), None
    if record.exc_info and not record.exc_text:
        record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    # Other formatters make the text anew from the error itself.
    record.exc_info = None
    record.exc_text = record.exc_text and mask.text(record.exc_text)
    record.stack_info = record.stack_info and mask.text(record.stack_info)
    for name, value in vars(record).items():
        if name not in _RECORD and name not in _OWN:
            setattr(record, name, _hidden(mask, name, value))
        elif name in _OWN and type(value) is str:
            setattr(record, name, mask.text(value))


def _hidden(mask: Mask, name: str, value: Any) -> Any:
    # By its name as well, but for what is there in each line: a rule may hide all names.
    return mask.value(value, "" if name in ("event", "exception", "stack") else name)


def _mask() -> Mask | None:
    current = _current.get(None)
    return None if current is None else current.mask


def _context() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    current = _current.get(None)
    if current is not None:
        job = current.context
        fields = {"job_id": job.id, "job": job.name, "queue": job.queue, "attempt": job.attempt}
    span = get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = f"{span.trace_id:032x}"
        fields["span_id"] = f"{span.span_id:016x}"
        fields["trace_flags"] = f"{span.trace_flags:02x}"
    return fields


class JobLog:
    """A listener that writes a line when an attempt starts and one when it ends.

    Retries, deaths, discards and cancels have lines of the worker's own, at their own
    levels: none is written twice. With `args`, the start line has the arguments, with
    what is sensitive masked.
    """

    def __init__(self, level: int = ENDS[State.SUCCEEDED].level, *, args: bool = False) -> None:
        self._level = level
        self._args = args

    def attach(self, hub: Events) -> Callable[[], None]:
        """Listen from now on; returns what ends it."""
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
        word = _WORDS.get(type(event))
        if word is not None and logger.isEnabledFor(self._level):
            fields = _fields(event, duration_ms=round(event.duration_s * 1000))
            text = "%s: %s after %.3f s"
            logger.log(self._level, text, event.ref, word, event.duration_s, extra=fields)


def _fields(event: events.JobStarted | events.AttemptEnded, **more: Any) -> dict[str, Any]:
    ref = event.ref
    fields = {"job_id": ref.id, "job": event.name, "queue": ref.queue, "attempt": event.attempt}
    return fields | more
