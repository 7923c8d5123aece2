"""Masks sensitive values in texts and in JSON values. Pure, and with bounded work, because it runs
on a worker's event loop when a job fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from asyncjobs.policy.escapes import LONGEST_ESCAPE, TooManyEscapes, readings

__all__ = [
    "LONGEST_VALUE",
    "MASK",
    "MOST_TEXT",
    "MOST_VALUES",
    "Places",
    "mask_call",
    "mask_text",
    "mask_value",
]

MASK: Final = "***"
MOST_VALUES: Final = 1_000
"""The most sensitive values, and lines of them, to search for. If a job has more, its texts are not
shown at all."""
LONGEST_VALUE: Final = 8_192
"""A longer value is not searched for. A text that is long enough to hold it is not shown."""
MOST_TEXT: Final = 262_144
"""The longest text that is searched. A longer one is not shown."""
SHORT: Final = 4
"""Values with fewer characters hide only whole words: `123` is not removed from `41235`. Values of
one character are not searched for."""
MOST_WORK: Final = 8_000_000
"""The most characters to compare in one reading of a text, for all values together."""
MOST_FOUND: Final = 10_000
_FEW: Final = 32
"""Up to this many values are searched for one by one. With more, only values whose start is in the
text are."""
_NOT_SHOWN: Final = f"{MASK} (a text that is not shown: too much of the job is sensitive)"
_MOST_DEPTH: Final = 100

Hides = Callable[[str], bool]
HidesAt = Callable[[int], bool]


class _TooMuch(Exception):
    """Masking the text would take too much work."""


class Places:
    """The sensitive values of one call, and how they are found in a text."""

    __slots__ = ("_args", "_forms", "_kwargs", "hides", "hides_at")

    def __init__(
        self, hides: Hides, hides_at: HidesAt, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.hides = hides
        self.hides_at = hides_at
        self._args = args
        self._kwargs = kwargs
        self._forms: _Forms | None = None

    @property
    def forms(self) -> _Forms:
        """The texts to search for. Collected on first use, because most jobs do not fail."""
        if self._forms is None:
            self._forms = _Forms.of(self._leaves())
        return self._forms

    def _leaves(self) -> Iterator[Any]:
        for position, value in enumerate(self._args):
            yield from _sensitive(self.hides, value, 0, hidden=self.hides_at(position))
        for name, value in self._kwargs.items():
            yield from _sensitive(self.hides, value, 0, hidden=self.hides(name))


class _Forms:
    """The texts that must not be shown, by their first characters.

    `too_long`: the length of the shortest value that is too long to search for.
    """

    __slots__ = ("by_start", "is_too_much", "longest", "short", "too_long")

    def __init__(self, texts: set[str], *, too_long: int | None, is_too_much: bool) -> None:
        self.too_long = too_long
        self.is_too_much = is_too_much
        self.short = [text for text in texts if len(text) < SHORT]
        self.by_start: dict[str, list[str]] = {}
        for text in texts:
            if len(text) >= SHORT:
                self.by_start.setdefault(text[:SHORT], []).append(text)
        self.longest = max(map(len, texts), default=0)

    @classmethod
    def of(cls, values: Iterator[Any]) -> _Forms:
        texts: set[str] = set()
        too_long: int | None = None
        for value in values:
            if isinstance(value, str) and len(value) > LONGEST_VALUE:
                too_long = min(len(value), too_long or len(value))
                continue
            texts.update(form for form in _forms(value) if len(form) > 1)
            if len(texts) > MOST_VALUES:
                return cls(set(), too_long=None, is_too_much=True)
        return cls(texts, too_long=too_long, is_too_much=False)

    def may_show(self, length: int) -> bool:
        """Whether a text of this length may be shown after masking. An escaped value is never
        shorter than the value itself."""
        is_short = self.too_long is None or length < self.too_long
        return is_short and not self.is_too_much

    def found_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where they are, as start and end positions. Raises _TooMuch."""
        candidates = self._candidates(text)
        if len(candidates) * len(text) > MOST_WORK:
            raise _TooMuch
        for form in candidates:
            start = text.find(form)
            while start >= 0:
                end = start + len(form)
                if len(form) >= SHORT or _is_word(text, start, end):
                    yield start, end
                start = text.find(form, end)

    def _candidates(self, text: str) -> list[str]:
        starts = self.by_start
        if len(starts) > _FEW:
            starts_there = {text[n : n + SHORT] for n in range(len(text) - SHORT + 1)}
            found = starts.keys() & starts_there
        else:
            found = set(starts)
        return [*self.short, *(form for start in found for form in starts[start])]


def _is_word(text: str, start: int, end: int) -> bool:
    return not (
        (start > 0 and _is_part(text[start - 1])) or (end < len(text) and _is_part(text[end]))
    )


def _is_part(character: str) -> bool:
    return character.isalnum() or character == "_"


def _sensitive(hides: Hides, value: Any, depth: int, *, hidden: bool) -> Iterator[Any]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _sensitive(hides, item, depth + 1, hidden=hidden or hides(key))
    elif isinstance(value, list):
        for item in value:
            yield from _sensitive(hides, item, depth + 1, hidden=hidden)
    elif hidden and (
        isinstance(value, str) or (isinstance(value, int | float) and type(value) is not bool)
    ):
        yield value


def _forms(value: Any) -> Iterator[str]:
    """The texts to search for in each reading: the value, and its lines, because a traceback may
    indent each line."""
    if not isinstance(value, str):
        yield repr(value)
        return
    if not value.strip():
        return
    yield value
    yield value.strip()
    if not value.isascii():
        # A URL cannot have a lone surrogate. The rest of the value must be hidden all the same.
        yield value.encode("utf-8", "replace").decode()
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= SHORT)


def mask_text(places: Places, text: str, last: int | None = None) -> str:
    """`text` with a mask for each sensitive value. `last`: at most this many characters of its end
    are shown, so no more of a longer text is searched.
    """
    forms = places.forms
    # Too much to search for: showing nothing is safe, and the worker must not stand still.
    if not forms.may_show(len(text)):
        return _NOT_SHOWN
    if not (forms.short or forms.by_start):
        return text
    shown_from = 0
    if last is not None:
        # A value that is cut in two here may not be found, but it is not in the part that is shown.
        beyond = forms.longest * LONGEST_ESCAPE
        if len(text) > last + beyond:
            text = text[-(last + beyond) :]
            shown_from = beyond
    if len(text) > MOST_TEXT:
        return _NOT_SHOWN
    try:
        return _masked(text, shown_from, _spans(forms, text))
    except (_TooMuch, TooManyEscapes):
        return _NOT_SHOWN


def _spans(forms: _Forms, text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for read, place in readings(text):
        for start, end in forms.found_in(read):
            spans.append((place(start), place(end)))
            if len(spans) > MOST_FOUND:
                raise _TooMuch
    return sorted(spans)


def _masked(text: str, shown_from: int, spans: list[tuple[int, int]]) -> str:
    """`spans` in order; they may overlap."""
    parts: list[str] = []
    position = shown_from
    hidden_to = -1
    for start, end in spans:
        # Within a value that is masked already, or before the part that is shown.
        if end <= position:
            continue
        if start >= hidden_to:
            parts.append(text[position:start])
            parts.append(MASK)
        position = hidden_to = max(end, position)
    parts.append(text[position:])
    return "".join(parts)


def mask_value(places: Places, value: Any, depth: int = 0) -> Any:
    """A copy of `value` with masks for sensitive values and under sensitive keys. Values that JSON
    does not have are shown as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return mask_text(places, value)
    if isinstance(value, int | float):
        # A number is compared as it is written.
        if mask_text(places, repr(value)) != repr(value):
            return MASK
        return value
    if depth > _MOST_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        return {
            mask_value(places, key, depth + 1): (
                MASK
                if isinstance(key, str) and places.hides(key)
                else mask_value(places, item, depth + 1)
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_value(places, item, depth + 1) for item in value]
    return mask_text(places, _shown(value))


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except BaseException as error:  # a __repr__ of the user's own may raise
        return f"({type(value).__name__} without a text: {type(error).__name__})"


def mask_call(
    places: Places, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Copies of a job's arguments, with masks for the sensitive ones, and for their values inside
    other arguments."""
    shown = [MASK if places.hides_at(n) else mask_value(places, v) for n, v in enumerate(args)]
    return shown, mask_value(places, kwargs)
