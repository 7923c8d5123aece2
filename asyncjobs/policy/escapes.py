"""Reads a text as it is, and with the escapes of URLs, HTML, JSON and Python undone. Pure.

A sensitive value may be written in any of these ways: a URL may escape any of its characters. So
it is searched for in each reading. A reading knows where its characters are in the text itself.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

__all__ = ["LONGEST_ESCAPE", "MOST_ESCAPES", "Reading", "TooManyEscapes", "readings"]

MOST_ESCAPES: Final = 10_000
"""The most escapes that are undone in one reading. Each costs some microseconds."""
LONGEST_ESCAPE: Final = 24
"""The most characters that stand for one: four bytes, each as `%25F0` (escaped twice), and some
room."""

_UNDONE_TWICE: Final = 2
"""A URL inside the query of another one is escaped twice, and so is the `repr` of a JSON text."""


class TooManyEscapes(Exception):
    """The text has more than MOST_ESCAPES escapes."""


class Reading(NamedTuple):
    """A text with some escapes undone, and where its characters come from.

    The character at `marks[n]` here is at `places[n]` in the text that was read. The next ones
    follow one by one, until the next mark.
    """

    text: str
    marks: Sequence[int] = (0,)
    places: Sequence[int] = (0,)

    def place(self, position: int) -> int:
        """Where the character at this position is in the text that was read."""
        nearest = bisect_right(self.marks, position) - 1
        return self.places[nearest] + position - self.marks[nearest]


Undone = Sequence[tuple[str, int]]
"""The characters that escapes stand for, each with the length of its escape."""


class _Escaping(NamedTuple):
    """One way to escape: what its escapes look like, and what they stand for."""

    sign: str
    pattern: re.Pattern[str]
    undo: Callable[[str], Undone]
    plus: bool = False

    def read(self, text: str) -> Reading | None:
        """The text without its escapes; None if it has none of this kind.

        Raises TooManyEscapes.
        """
        if self.sign not in text:
            return None
        if self.plus:
            text = text.replace("+", " ")
        parts: list[str] = []
        marks = [0]
        places = [0]
        position = end = escapes = 0
        for match in self.pattern.finditer(text):
            parts.append(text[end : match.start()])
            position += match.start() - end
            end = match.start()
            # A mark for each character, because each is longer in the text than here.
            for character, length in self.undo(match.group()):
                escapes += 1
                marks.append(position)
                places.append(end)
                parts.append(character)
                position += 1
                end += length
            marks.append(position)
            places.append(end)
            if escapes > MOST_ESCAPES:
                raise TooManyEscapes
        parts.append(text[end:])
        return Reading("".join(parts), marks, places)


def _utf8(data: bytes, length: int) -> Undone:
    """The characters of these bytes, each of which is written with `length` characters. Bytes
    that are no UTF-8 become surrogates, which match no text."""
    text = data.decode("utf-8", "surrogateescape")
    return [(each, length * len(each.encode("utf-8", "surrogateescape"))) for each in text]


def _undo_percent(escapes: str) -> Undone:
    return _utf8(bytes.fromhex(escapes.replace("%", "")), 3)


def _undo_entity(escape: str) -> Undone:
    text = html.unescape(escape)
    # An unknown name stays as it is, and some names stand for two characters.
    if len(text) == 1:
        return [(text, len(escape))]
    return [(each, 1) for each in escape]


_LETTERS: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "0": "\0",
}


def _undo_backslash(escape: str) -> Undone:
    kind = escape[1]
    if kind not in "xuU":
        return [(_LETTERS.get(kind, kind), len(escape))]
    # JSON writes a character beyond 16 bits as two escapes, a surrogate pair.
    if len(escape) == 12:
        high = int(escape[2:6], 16)
        low = int(escape[8:], 16)
        return [(chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00), len(escape))]
    digits = escape[2:]
    code = int(digits, 16)
    character = "\ufffd"  # `\UFFFFFFFF` looks like an escape, and is beyond Unicode
    if code < 0x110000:
        character = chr(code)
    return [(character, len(escape))]


def _undo_bytes(escapes: str) -> Undone:
    if escapes[1] == "x":
        return _utf8(bytes.fromhex(escapes.replace("\\x", "")), 4)
    return _undo_backslash(escapes)


_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_PLAIN: Final = r"[\\'\"/abfnrtv0]"
_BACKSLASH: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}"
    rf"|x[0-9A-Fa-f]{{2}}|u[0-9A-Fa-f]{{4}}|U[0-9A-Fa-f]{{8}}|{_PLAIN})"
)
_BYTES: Final = re.compile(rf"(?:\\x[0-9A-Fa-f]{{2}})+|\\{_PLAIN}")

_ESCAPINGS: Final = (
    _Escaping("%", _PERCENT, _undo_percent),
    # In a query a plus is a space, elsewhere it is a plus: both readings are searched.
    _Escaping("+", _PERCENT, _undo_percent, plus=True),
    _Escaping("&", _ENTITY, _undo_entity),
    _Escaping("\\", _BACKSLASH, _undo_backslash),
    # `repr` of bytes writes each byte of UTF-8 by itself, `repr` of a text each character.
    _Escaping("\\", _BYTES, _undo_bytes),
)


def readings(text: str) -> Iterator[tuple[str, Callable[[int], int]]]:
    """The text itself, and then each other reading of it. The function with each returns where a
    position in the reading is in the text. Raises TooManyEscapes.
    """
    yield text, _same
    for escaping in _ESCAPINGS:
        read = text
        steps = list[Reading]()
        for _ in range(_UNDONE_TWICE):
            reading = escaping.read(read)
            if reading is None or reading.text == read:
                break
            steps = [reading, *steps]
            read = reading.text
            yield read, _way_back(steps)


def _same(position: int) -> int:
    return position


def _way_back(steps: Sequence[Reading]) -> Callable[[int], int]:
    def place(position: int) -> int:
        for step in steps:
            position = step.place(position)
        return position

    return place
