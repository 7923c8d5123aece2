"""Reads and writes the JSON that is stored.

What is read back from a store is untrusted input, so it is parsed with limits. What is written is
checked, so that a job gets exactly the values that were enqueued.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import orjson

from asyncjobs.errors import EncodeError
from asyncjobs.guard.texts import shown
from asyncjobs.guard.untrusted import MAX_DEPTH, is_deep

__all__ = [
    "FLAT",
    "MAX_ENVELOPE",
    "MAX_TEXT",
    "BadRecord",
    "check_json",
    "clean_text",
    "is_unicode",
    "parse",
    "parse_long",
    "read_fields",
    "to_json",
]

MAX_TEXT: Final = 16_384
"""Characters that are kept of a message or a traceback: the last ones, where the cause stands."""

MAX_ENVELOPE: Final = 64 * 1024 * 1024
"""Longer records are not parsed. In bytes; far above any sensible `max_payload`."""

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class BadRecord(Exception):
    """Stored bytes that are no record of asyncjobs."""


FLAT: Final = 2 * MAX_DEPTH
"""A value of at most so many bytes cannot be nested deeper than MAX_DEPTH."""


def parse(raw: bytes) -> Any:
    """Parse a stored record.

    Raises ValueError for what is no JSON, and BadRecord for a record that is too long or nested
    too deeply.
    """
    if len(raw) <= FLAT:
        return orjson.loads(raw)
    return parse_long(raw)


def parse_long(raw: bytes) -> Any:
    """`parse` for a record of more than FLAT bytes, which may be nested too deeply."""
    if len(raw) > MAX_ENVELOPE:
        raise BadRecord(f"{len(raw)} B are more than any record may have")
    fields = orjson.loads(raw)
    # Counting brackets runs in C. Nearly all records have too few of them to be nested deeply,
    # so the walk through the value is rare.
    # rule:15 a record has a limit of nesting
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and is_deep(fields):
        raise BadRecord(f"it is nested deeper than {MAX_DEPTH} levels")
    return fields


def read_fields(raw: bytes) -> dict[str, Any]:
    """The fields of a record, which a later release may have written. Raises BadRecord."""
    try:
        fields = parse(raw)
    except ValueError as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error
    if type(fields) is not dict:
        raise BadRecord("it is no JSON object")
    return fields


def to_json(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError or ValueError.

    Returns a copy of what orjson returns, because that keeps a buffer of 4 KB alive, however
    short it is. A million jobs that wait to be sent would need 4 GB.
    """
    try:
        return b"%b" % orjson.dumps(value)
    except TypeError:
        # The encoder accepts subclasses of str as values, but as keys only with an option that
        # also accepts numbers and dates. Such keys are rare, so they are looked for only now.
        if not _has_text_keys(value, 0):
            raise
        return b"%b" % orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def _has_text_keys(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        inner: Iterable[Any] = value.values()
        if not all(isinstance(key, str) for key in value):
            return False
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return True
    # A value that contains itself would never end.
    return depth < 2 * MAX_DEPTH and all(_has_text_keys(item, depth + 1) for item in inner)


def clean_text(text: str) -> str:
    """The last MAX_TEXT characters of `text`, with lone surrogates and control characters written
    out. Otherwise a terminal that shows the text would obey them."""
    cut = text[-MAX_TEXT:].translate(_CONTROLS)[-MAX_TEXT:]
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def is_unicode(value: Any) -> bool:
    """Whether the value can be encoded: it has no lone surrogates. It must pass `check_json`."""
    try:
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return False
    return True


def check_json(value: Any, path: str) -> None:
    """Refuse what JSON would lose or change. Raises EncodeError naming `path`.

    orjson alone would silently turn NaN into null, a tuple into a list, and a UUID or a date into
    text. The job would get something else than was enqueued.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    _check_deep(value, path, 0)


def _check_deep(value: Any, path: str, depth: int) -> None:
    # Exact types, because JSON loses the class of a value: an IntEnum would come back as an int.
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise EncodeError(f"{path} is an integer of over 64 bits; write str(value)")
    elif kind is float:
        if not math.isfinite(value):
            raise EncodeError(
                f"{path} is {value}, which JSON does not have; write None or str(value)"
            )
    elif depth >= MAX_DEPTH:
        raise EncodeError(f"{path[:120]}… is nested deeper than {MAX_DEPTH} levels; flatten it")
    elif kind is list:
        for index, item in enumerate(value):
            if type(item) is not str:
                _check_deep(item, _step(path, index), depth + 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str and not _is_text(type(key)):
                raise EncodeError(
                    f"{path} has the key {shown(key)}; JSON keys are text: write str(key)"
                )
            if type(item) is not str:
                _check_deep(item, _step(path, key), depth + 1)
    elif not _is_text(kind):
        raise EncodeError(f"{path} is a {kind.__name__:.100}, which JSON would {_advice(value)}")


def _is_text(kind: type) -> bool:
    """Whether the type is str or a subclass whose values are just text, such as Markup or
    SafeString. A member of an enumeration is more than its text, so it is refused."""
    return issubclass(kind, str) and not issubclass(kind, Enum)


def _step(path: str, key: str | int) -> str:
    """The path of an item. A very long path is not made longer."""
    if len(path) > _LONGEST_PATH:
        return path
    return f"{path}[{key!r:.80}]"


_LONGEST_PATH: Final = 300

_ADVICE: Final[dict[str, str]] = {
    "tuple": "turn into a list; write list(value)",
    "set": "lose; write sorted(value) or list(value)",
    "frozenset": "lose; write sorted(value) or list(value)",
    "bytes": "lose; write base64.b64encode(value).decode()",
    "bytearray": "lose; write base64.b64encode(value).decode()",
    "datetime": "turn into text; write value.isoformat()",
    "date": "turn into text; write value.isoformat()",
    "time": "turn into text; write value.isoformat()",
    "timedelta": "lose; write value.total_seconds()",
    "UUID": "turn into text; write str(value)",
    "Decimal": "lose; write str(value)",
    "function": "lose; pass data, and name the function in the job",
    "complex": "lose; write [value.real, value.imag]",
    "PosixPath": "lose; write str(value)",
    "WindowsPath": "lose; write str(value)",
}


def _advice(value: Any) -> str:
    try:
        return _conversion(value)
    except Exception:
        # A user's own class may raise for any attribute.
        return "lose; pass its id or its plain data instead"


def _conversion(value: Any) -> str:
    if isinstance(value, Enum):
        return "turn into its value; write value.value"
    if hasattr(value, "__dataclass_fields__"):
        return "turn into a dict; write dataclasses.asdict(value)"
    for base in type(value).__mro__:
        if base.__name__ in _ADVICE:
            return _ADVICE[base.__name__]
        if base in (str, int, float, list, dict):
            return f"turn into a plain {base.__name__}; write {base.__name__}(value)"
    if hasattr(value, "model_dump"):
        return 'lose; write value.model_dump(mode="json")'
    return "lose; pass its id or its plain data instead"
