"""What commands show: tables and lines on a terminal, plain text for programs off it.

With the extra `cli`, rich draws the tables; without it they are lined up with blanks.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import click
import orjson

from asyncjobs.guard.texts import visible

__all__ = [
    "Part",
    "Screen",
    "Table",
    "ago",
    "block",
    "clean",
    "hanging",
    "line",
    "paint",
    "show",
    "show_json",
]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under their headings; `numbers` are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


Part: TypeAlias = str | Table


def show(*parts: Part) -> None:
    """To stdout. Off a terminal a table is lines with tabs in between."""
    if _is_terminal() and _has_rich():
        _show_rich(parts)
        return
    for part in parts:
        click.echo(_plain(part), color=_colors())


def show_json(value: Any) -> None:
    """One line of JSON to stdout. What would steer a terminal is escaped in it."""
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:
        # An id of a foreign writer may be no text.
        text = orjson.dumps(_encodable(value), default=str).decode()
    if not text.isprintable() or not _can_write(text):
        text = "".join(map(_in_json, text))
    click.echo(text)


def _in_json(char: str) -> str:
    if char.isprintable() and _can_write(char):
        return char
    return json.dumps(char)[1:-1]


def _can_write(text: str) -> bool:
    """Whether stdout has all these characters. What it lacks it would escape in its own way,
    and the line would be no JSON any more."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encodable(value: Any) -> Any:
    """A copy whose texts are Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


class Screen:
    """Parts that are shown again and again: in their place on a terminal, else below."""

    def __init__(self) -> None:
        self._live: Any = None

    def __enter__(self) -> Self:
        if _is_terminal() and _has_rich():
            from rich.live import Live

            self._live = Live(console=_console(), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, *parts: Part) -> None:
        """Show these in the place of the last ones."""
        if self._live is not None:
            from rich.console import Group

            self._live.update(Group(*map(_rich, parts)), refresh=True)
            return
        if _is_terminal():
            click.clear()
        show(*parts, "")


def paint(text: str, color: str | None) -> str:
    """`text` in a color, None: in that of all else; what is no terminal gets it without."""
    return click.style(text, fg=color)


def clean(text: str) -> str:
    """Text out of the store, with what would steer a terminal made visible."""
    return visible(text)


def line(text: str) -> str:
    """The same on one line: a line of its own could pass for one of ours."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def hanging(text: str) -> str:
    """`clean`, with all lines but the first one set off."""
    return clean(text).replace("\n", "\n    ")


def block(text: str) -> str:
    """Foreign text of several lines, all of them set off from ours."""
    return f"    {hanging(text)}"


def ago(seconds: float) -> str:
    """`0.3s`, `12s`, `4m 10s`, `2h 5m`, `3d 4h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _colors() -> bool:
    return _is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _plain(part: Part) -> str:
    if isinstance(part, str):
        return part
    # A row is a line, also for those who read it with a program.
    rows = [part.columns, *([_on_one_line(cell) for cell in row] for row in part.rows)]
    if not _is_terminal():
        return "\n".join("\t".join(map(click.unstyle, row)) for row in rows)
    widths = [max(len(click.unstyle(row[at])) for row in rows) for at in range(len(part.columns))]
    return "\n".join(
        "  ".join(
            _padded(cell, width, right=name in part.numbers)
            for cell, width, name in zip(row, widths, part.columns, strict=True)
        ).rstrip()
        for row in rows
    )


def _on_one_line(cell: str) -> str:
    return cell.replace("\n", "\\n").replace("\t", "\\t")


def _padded(cell: str, width: int, *, right: bool) -> str:
    room = " " * (width - len(click.unstyle(cell)))
    return room + cell if right else cell + room


# ── with rich ────────────────────────────────────────────────────────────────────────


def _console() -> Any:
    from rich.console import Console

    return Console(file=sys.stdout, no_color=not _colors(), highlight=False, soft_wrap=False)


def _show_rich(parts: Sequence[Part]) -> None:
    console = _console()
    for part in parts:
        console.print(_rich(part))


def _rich(part: Part) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    if isinstance(part, str):
        return Text.from_ansi(part)
    # No lines: the ten columns of `stats` fit into a terminal of 80.
    table = RichTable(box=None, header_style="bold", pad_edge=False)
    for name in part.columns:
        table.add_column(name, justify="right" if name in part.numbers else "left")
    for first, *others in part.rows:
        # What follows stands below its own column; the first one has the edge.
        table.add_row(*(Text.from_ansi(cell) for cell in (_on_one_line(first), *others)))
    return table
