"""Cursors and results of steps as readable JSON that keeps their types.

What JSON has is stored as it is. Any other value is an object with one key that begins with `$`,
such as `{"$date": "2026-11-30"}`. So a cursor that is a date comes back as a date.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncjobs.errors import EncodeError
from asyncjobs.model.codec import BadRecord

__all__ = ["MOST_DEEP", "Cursor", "from_tagged", "to_tagged"]

Cursor: TypeAlias = Any
"""None, bool, int, float, str, bytes, date, datetime, time, timedelta, UUID, Decimal, and tuples,
lists and dicts of them."""

MOST_DEEP: Final = 32
"""How deeply values may be nested."""
_SMALL: Final = 2**63
_MOST_BITS: Final = 4_096
"""Python refuses to write integers of thousands of digits."""
_KINDS: Final = (
    "None, bool, int, float, str, bytes, date, datetime, time, timedelta, UUID, Decimal, and "
    "tuples, lists and dicts of them"
)


def to_tagged(value: Cursor, what: str) -> Any:
    """What JSON holds for `value`. Raises EncodeError naming `what` and the first value that would
    not come back as it was."""
    return _Writer(what).write(value, 0)


class _Writer:
    def __init__(self, what: str) -> None:
        self._what = what

    def write(self, value: Any, depth: int) -> Any:
        # Exact types: a subclass would come back as its base.
        kind = type(value)
        if depth > MOST_DEEP:
            raise EncodeError(f"{self._what} is nested more than {MOST_DEEP} levels deep")
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value)
        if kind is int:
            return self._int(value)
        if kind is float:
            # JSON has no word for these.
            if value != value or value in (float("inf"), float("-inf")):
                return {"$float": repr(value)}
            return value
        if kind is list:
            return [self.write(each, depth + 1) for each in value]
        if kind is tuple:
            return {"$tuple": [self.write(each, depth + 1) for each in value]}
        if kind is dict:
            return self._dict(value, depth)
        write = _WRITERS.get(kind)
        if write is None:
            raise EncodeError(
                f"{self._what} has a value of the type {kind.__name__}, which would not come back "
                f"as it is; use {_KINDS}"
            )
        return write(value)

    def _int(self, value: int) -> Any:
        if -_SMALL <= value < _SMALL:
            return value
        if value.bit_length() > _MOST_BITS:
            raise EncodeError(f"{self._what} has an integer of more than {_MOST_BITS} bits")
        return {"$int": str(value)}

    def _text(self, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            # Not shown: it may be what is sensitive in this job.
            raise EncodeError(f"{self._what} has a text with lone surrogates") from None
        return value

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {self._text(key): self.write(each, depth + 1) for key, each in value.items()}
        pairs = [
            [self.write(key, depth + 1), self.write(each, depth + 1)] for key, each in value.items()
        ]
        return {"$dict": pairs}


def _datetime(value: datetime) -> Any:
    stored: dict[str, Any] = {"$datetime": value.isoformat()}
    # It is more than its offset at this moment: the next step may add a month.
    # rule:24 a zone comes back with its rules
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        stored["zone"] = value.tzinfo.key
    if value.fold:
        stored["fold"] = 1
    return stored


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: _datetime,
    date: lambda value: {"$date": value.isoformat()},
    time: lambda value: {"$time": value.isoformat()},
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    UUID: lambda value: {"$uuid": str(value)},
    Decimal: lambda value: {"$decimal": str(value)},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
}


def from_tagged(stored: Any) -> Cursor:
    """The value again. Raises BadRecord for what `to_tagged` does not write."""
    try:
        return _read(stored, 0)
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        OSError,
        InvalidOperation,
        binascii.Error,
    ) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


def _read(stored: Any, depth: int) -> Any:
    if depth > 2 * MOST_DEEP:
        raise ValueError("nested too deeply")
    if isinstance(stored, list):
        return [_read(each, depth + 1) for each in stored]
    if not isinstance(stored, dict):
        return stored
    for tag, read in _READERS.items():
        if tag in stored:
            return read(stored[tag])
    if "$datetime" in stored:
        return _read_datetime(stored)
    if "$tuple" in stored:
        return tuple(_read(each, depth + 1) for each in stored["$tuple"])
    if "$dict" in stored:
        return {_read(key, depth + 1): _read(each, depth + 1) for key, each in stored["$dict"]}
    return {key: _read(each, depth + 1) for key, each in stored.items()}


def _read_datetime(stored: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(stored["$datetime"]).replace(fold=stored.get("fold", 0))
    zone = stored.get("zone")
    if zone is None:
        return moment
    there = moment.replace(tzinfo=ZoneInfo(zone))
    if there.utcoffset() == moment.utcoffset():
        return there
    # The rules of the zone have changed since. It was a moment, so the moment counts.
    return moment.astimezone(there.tzinfo)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$int": int,
    "$float": float,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$uuid": UUID,
    "$decimal": Decimal,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
}
