"""Log lines of a child, which the worker writes: with the fields of the job, without its sensitive
values, and in the format of all other lines."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from asyncjobs.guard.guarded import call
from asyncjobs.guard.texts import safe_repr
from asyncjobs.guard.untrusted import read_text
from asyncjobs.model.codec import clean_text, to_json
from asyncjobs.worker.engine.processes.frames import Kind, Sender

__all__ = ["ToWorker", "level_of_all", "send_log_to", "write_line"]

MOST_CHARACTERS: Final = 64 * 1024
"""What is kept of one line: its beginning."""
MOST_FIELDS: Final = 100
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of each record. All others come from `extra`."""


def level_of_all() -> int:
    """The level from which on this process logs anything."""
    return logging.getLogger().getEffectiveLevel()


# ── in the child ─────────────────────────────────────────────────────────────────────


class ToWorker(logging.Handler):
    """Sends each record to the worker. It sends text, so nothing of the job stays in it."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sender.tell(Kind.LOG, _fields(record))
        except Exception:
            self.handleError(record)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    trace = record.exc_text or ""
    if record.exc_info and not trace:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    more = [(name, each) for name, each in vars(record).items() if name not in _RECORD]
    return {
        "name": record.name,
        "level": record.levelno,
        "text": _cut(record.getMessage()),
        "trace": _cut(trace),
        "stack": _cut(record.stack_info or ""),
        "at": record.created,
        "pid": record.process,
        "path": record.pathname,
        "line": record.lineno,
        "function": record.funcName or "",
        "more": {str(name): _plain(each) for name, each in more[:MOST_FIELDS]},
    }


def _plain(value: Any) -> Any:
    try:
        to_json(value)
    except Exception:
        return _cut(safe_repr(value))
    return value


def _cut(text: str) -> str:
    return clean_text(text[:MOST_CHARACTERS])


def send_log_to(sender: Sender, level: int) -> None:
    """From now on, all that is logged in this process goes to the worker."""
    handler = ToWorker(sender)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for each in list(logging.Logger.manager.loggerDict.values()):
        # The worker has imported the same modules, so it has the same handlers. A line must not
        # be written here and there.
        if isinstance(each, logging.Logger) and each.handlers:
            each.handlers[:] = []
            if not each.propagate:
                each.handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    _lead_structlog_to_logging()


def _lead_structlog_to_logging() -> None:
    # Only where the user's code has imported it. `asyncjobs worker` has configured it in the
    # worker, but the child does not pass there.
    structlog: Any = sys.modules.get("structlog")
    if structlog is None or structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.stdlib.render_to_log_kwargs,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


# ── in the worker ────────────────────────────────────────────────────────────────────


def write_line(fields: Mapping[str, Any]) -> None:
    """Write what a child has logged, in the context of its attempt. Raises ValueError for fields
    that no child of ours writes."""
    name = read_text(fields, "name")
    level = fields.get("level")
    if type(level) is not int:
        raise ValueError("a level is no number")
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(
        name,
        level,
        read_text(fields, "path"),
        _number(fields, "line"),
        read_text(fields, "text"),
        (),
        None,
        read_text(fields, "function"),
    )
    record.exc_text = read_text(fields, "trace") or None
    record.stack_info = read_text(fields, "stack") or None
    record.process = _number(fields, "pid")
    if isinstance(created := fields.get("at"), float):
        record.created = created
        record.msecs = int(created % 1 * 1000) + 0.0
    # What the record has itself stays: a field `levelno` of a job must not change its level.
    more = fields.get("more")
    if isinstance(more, dict):
        for key, value in more.items():
            if key not in _RECORD:
                setattr(record, key, value)
    call("a log line of a child", logger.handle, record)


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is int:
        return value
    return 0
