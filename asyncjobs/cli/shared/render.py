"""What commands show: tables and colors on a terminal, plain lines elsewhere.

With the extra `cli`, rich draws the tables. Without it, columns are aligned with spaces.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
    "allows_colors",
    "block",
    "clean",
    "field_table",
    "hanging",
    "line",
    "moment",
    "paint",
    "show",
    "show_json",
]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under their headings. The columns in `numbers` are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


Part: TypeAlias = str | Table


def field_table(rows: Mapping[str, str | None]) -> Table:
    """A row for each field that has a value."""
    known = [(name, clean(value)) for name, value in rows.items() if value is not None]
    return Table(("field", "value"), known)


def show(*parts: Part) -> None:
    """Write the parts to stdout. Off a terminal, a row is a line with tabs between its cells."""
    if _is_terminal() and _has_rich():
        _show_rich(parts)
        return
    for part in parts:
        click.echo(_plain(part), color=_colors())


def show_json(value: Any) -> None:
    """Write one line of JSON to stdout. Characters that would control a terminal are escaped."""
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:
        # An id that another program has stored may hold bytes that are not UTF-8.
        text = orjson.dumps(_encodable(value), default=str).decode()
    if not text.isprintable() or not _can_write(text):
        text = "".join(map(_in_json, text))
    click.echo(text)


def _in_json(char: str) -> str:
    if char.isprintable() and _can_write(char):
        return char
    return json.dumps(char)[1:-1]


def _can_write(text: str) -> bool:
    """Whether the encoding of stdout has all these characters.

    stdout would escape the others in its own way, and the line would no longer be JSON.
    """
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encodable(value: Any) -> Any:
    """A copy in which every text can be encoded as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


class Screen:
    """Shows parts again and again. On a terminal they replace the last ones."""

    def __init__(self) -> None:
        self._live: Any = None

    def __enter__(self) -> Self:
        if _is_terminal() and _has_rich():
            from rich.live import Live

            # Without auto_refresh, which would redraw from a thread of its own.
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
        """Replace what is shown."""
        if self._live is not None:
            from rich.console import Group

            self._live.update(Group(*map(_rich, parts)), refresh=True)
            return
        if _is_terminal():
            click.clear()
        show(*parts, "")


def paint(text: str, color: str | None) -> str:
    """`text` in this color; None is the usual color. Colors are removed where there is no
    terminal."""
    return click.style(text, fg=color)


def clean(text: str) -> str:
    """Text from the store. Characters that would control a terminal are written out."""
    return visible(text)


def line(text: str) -> str:
    """`clean`, on one line. A second line could be mistaken for output of the command itself."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def hanging(text: str) -> str:
    """`clean`, with every line but the first indented."""
    return clean(text).replace("\n", "\n    ")


def block(text: str) -> str:
    """`clean`, with every line indented, so that foreign text stands apart from the command's."""
    return f"    {hanging(text)}"


def moment(time: datetime) -> str:
    """A time, to the millisecond."""
    return time.isoformat(sep=" ", timespec="milliseconds")


def ago(seconds: float) -> str:
    """A span of time in at most two units: `0.3s`, `12s`, `4m 10s`, `2h 5m`, `3d 4h`."""
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


def allows_colors() -> bool:
    """Whether the environment allows colors. $NO_COLOR forbids them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _colors() -> bool:
    return _is_terminal() and allows_colors()


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _plain(part: Part) -> str:
    if isinstance(part, str):
        return part
    # A row is one line, because programs read the output line by line.
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
    if right:
        return room + cell
    return cell + room


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
        # Not as markup of rich: in foreign text, square brackets would be read as styles.
        return Text.from_ansi(part)
    # Without borders, the ten columns of `stats` fit into a terminal of 80 characters.
    table = RichTable(box=None, header_style="bold", pad_edge=False)
    for name in part.columns:
        if name in part.numbers:
            table.add_column(name, justify="right")
        else:
            table.add_column(name, justify="left")
    for first, *others in part.rows:
        # rich keeps further lines of a cell in their column. Those of the first column would start
        # at the edge, where they could be mistaken for rows.
        table.add_row(*(Text.from_ansi(cell) for cell in (_on_one_line(first), *others)))
    return table
