"""Where a worker's log goes: stderr, for people or as JSON lines.

Only the worker command calls this. The library itself logs through `logging` and leaves
its configuration to the program that uses it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from asyncjobs.cli.shared.render import block, hanging, line
from asyncjobs.cli.shared.voice import Voice
from asyncjobs.guard.texts import safe_repr
from asyncjobs.telemetry.logs import add_job_context, mask_job_values

__all__ = ["LogFormat", "configure_logging", "is_json", "wants_colors"]

_PLAIN: Final = frozenset({int, float, bool, type(None)})
LogFormat: TypeAlias = Literal["auto", "console", "json"]


def is_json(log_format: LogFormat) -> bool:
    """True when lines are JSON: asked for, or `auto` and nobody watches."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def wants_colors() -> bool:
    """Colors on a terminal only, and not when $NO_COLOR is set (no-color.org)."""
    return (
        sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def configure_logging(level: str, *, json: bool, stamp: Mapping[str, Any] | None = None) -> Voice:
    """Send all records of `level` and above to stderr, those of the user's code too.

    Before the user's module is imported: what that configures itself stays. `stamp`:
    fields that every line gets, such as the number of the process. The voice that is returned
    is for after the import.
    """
    shared = _shared(stamp or {}, json=json)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # The extras first: one that is called `level` must not take the level's place.
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
    logging.captureWarnings(capture=True)
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
    """What every line goes through, from whichever logging library it comes."""

    def put_stamp(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        fields.update(stamp)
        return fields

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
    """A traceback that came as text, since its error must not be put into words again."""
    record = fields.get("_record")
    if record is not None and record.exc_text and not record.exc_info:
        fields["exception"] = record.exc_text
        # Else the formatter would append it to the line.
        record.exc_text = None
    return fields


def _rendering(*, json: bool) -> list[Processor]:
    hiding: list[Processor] = [structlog.processors.format_exc_info, mask_job_values]
    if json:
        # The standard encoder with repr as its way out: a line that cannot be written
        # would be lost, whatever somebody put into it.
        return [*hiding, _in_order, structlog.processors.JSONRenderer(default=safe_repr)]
    # Its own choice, rich, is used where that happens to be installed.
    plain = structlog.dev.plain_traceback
    return [
        *hiding,
        _harmless,
        structlog.dev.ConsoleRenderer(colors=wants_colors(), exception_formatter=plain),
    ]


def _harmless(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """For a terminal: jobs choose what stands in errors, reasons and ids. No text may steer the
    terminal, and none may have a line that could pass for one of the log's own."""
    return {line(name): _shown(name, value) for name, value in fields.items()}


def _shown(name: str, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    text = value if isinstance(value, str) else safe_repr(value)
    if name in ("exception", "stack"):
        return block(text)
    return hanging(text) if name == "event" else line(text)


def _in_order(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """What every line has comes first, so that lines can be read one below the other."""
    first = ("timestamp", "level", "logger", "event")
    return {name: fields.pop(name) for name in first if name in fields} | dict(fields)
