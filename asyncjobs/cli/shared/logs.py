"""The log of a command that keeps running: to stderr, for people or as JSON lines.

Only commands configure logging. The library itself logs through `logging` and leaves the
configuration to the program that uses it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from asyncjobs.cli.shared.render import allows_colors, block, hanging, line
from asyncjobs.cli.shared.voice import Voice
from asyncjobs.guard.texts import safe_repr
from asyncjobs.telemetry.logs import add_job_context, mask_job_values

__all__ = ["LogFormat", "configure_logging", "is_json", "wants_colors"]

_PLAIN: Final = frozenset({int, float, bool, type(None)})
LogFormat: TypeAlias = Literal["auto", "console", "json"]


def is_json(log_format: LogFormat) -> bool:
    """Whether lines are JSON: for `json`, and for `auto` when stderr is not a terminal."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def wants_colors() -> bool:
    """Whether stderr is a terminal and the environment allows colors."""
    return sys.stderr.isatty() and allows_colors()


def configure_logging(level: str, *, json: bool, stamp: Mapping[str, Any] | None = None) -> Voice:
    """Send all records of `level` and above to stderr, those of the user's code too.

    To be called before the user's module is imported, so that its own configuration wins. `stamp`:
    fields of every line, such as the number of the process. The voice that is returned repairs
    the log after the import.
    """
    shared = _shared(stamp or {}, json=json)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # The extras first: an extra named `level` would replace the level of the record.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared, _put_exception],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(json=json),
            ],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Otherwise Python would print warnings past the log, and JSON lines would have text between
    # them.
    logging.captureWarnings(capture=True)
    # Code of the user that logs with structlog gets the same lines.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return Voice(handler)


def _shared(stamp: Mapping[str, Any], *, json: bool) -> list[Processor]:
    """What every line passes, whether it comes from `logging` or from structlog."""

    def put_stamp(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        fields.update(stamp)
        return fields

    # People read the time of their own clock, programs read UTC.
    stamper = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
    if json:
        stamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return [
        put_stamp,
        add_job_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        stamper,
        structlog.processors.StackInfoRenderer(),
    ]


def _put_exception(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """Use a traceback that came as text: handlers must not touch the exception itself."""
    record = fields.get("_record")
    if record is not None and record.exc_text and not record.exc_info:
        fields["exception"] = record.exc_text
        # Otherwise the formatter would also append it to the line.
        record.exc_text = None
    return fields


def _rendering(*, json: bool) -> list[Processor]:
    hiding: list[Processor] = [structlog.processors.format_exc_info, mask_job_values]
    if json:
        # Falls back to repr. Otherwise a value that JSON does not know would lose the whole line.
        return [*hiding, _in_order, structlog.processors.JSONRenderer(default=safe_repr)]
    # By default, structlog draws tracebacks with rich if that is installed. They must look the same
    # everywhere.
    plain = structlog.dev.plain_traceback
    return [
        *hiding,
        _harmless,
        structlog.dev.ConsoleRenderer(colors=wants_colors(), exception_formatter=plain),
    ]


def _harmless(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """Make each text safe to show on a terminal.

    Jobs choose what errors, reasons and ids say. No text may control the terminal, and none may
    have a line that could be mistaken for a line of the log.
    """
    return {line(name): _shown(name, value) for name, value in fields.items()}


def _shown(name: str, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    text = value
    if not isinstance(value, str):
        text = safe_repr(value)
    if name in ("exception", "stack"):
        return block(text)
    if name == "event":
        return hanging(text)
    return line(text)


def _in_order(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """Put the fields that every line has first, so that lines are easy to compare."""
    first = ("timestamp", "level", "logger", "event")
    return {name: fields.pop(name) for name in first if name in fields} | dict(fields)
