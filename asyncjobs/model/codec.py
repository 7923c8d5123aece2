"""JSON as it is stored: what may be written of a value, and what is parsed at all.

Everything read back from a store is untrusted input, so it is parsed with limits. The
records themselves are read in model/.
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
"""Characters kept of a message or a traceback: from its end, where the cause stands."""

MAX_ENVELOPE: Final = 64 * 1024 * 1024
"""Bytes that are parsed at all; far above any sensible `max_payload`."""

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class BadRecord(Exception):
    """Stored bytes that are no record of ours."""


FLAT: Final = 2 * MAX_DEPTH
"""Bytes that a value must have to be nested deeper than MAX_DEPTH."""


def parse(raw: bytes) -> Any:
    """A record that was stored. Raises ValueError for no JSON, BadRecord for more or deeper
    than any of ours."""
    return orjson.loads(raw) if len(raw) <= FLAT else parse_long(raw)


def parse_long(raw: bytes) -> Any:
    """`parse` for a record of more than FLAT bytes, which may be nested too deep."""
    if len(raw) > MAX_ENVELOPE:
        raise BadRecord(f"{len(raw)} B are more than any record may have")
    fields = orjson.loads(raw)
    # Counted in C, and for nearly all the end of it: with so few brackets nothing is deep.
    # rule:15 a record has a limit of nesting
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and is_deep(fields):
        raise BadRecord(f"it is nested deeper than {MAX_DEPTH} levels")
    return fields


def read_fields(raw: bytes) -> dict[str, Any]:
    """The fields of a record that may be of a later release. Raises BadRecord."""
    try:
        fields = parse(raw)
    except ValueError as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error
    if type(fields) is not dict:
        raise BadRecord("it is no JSON object")
    return fields


def to_json(value: Any) -> bytes:
    """`value` as JSON that may be kept. Raises TypeError or ValueError.

    What orjson returns holds on to the 4 KB buffer it was written in, however short it is: a
    million envelopes that wait to be sent would need 4 GB. A copy holds its own bytes alone.
    """
    try:
        return b"%b" % orjson.dumps(value)
    except TypeError:
        # The encoder takes a subclass of str as a value, but as a key only on request, and
        # then it takes numbers and dates, too. Rare, so it is looked for only now.
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
    # A value that holds itself has no end.
    return depth < 2 * MAX_DEPTH and all(_has_text_keys(item, depth + 1) for item in inner)


def clean_text(text: str) -> str:
    """`text` cut to MAX_TEXT from its end, with lone surrogates made visible, and control
    characters too: a terminal that shows it later must not obey it."""
    cut = text[-MAX_TEXT:].translate(_CONTROLS)[-MAX_TEXT:]
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def is_unicode(value: Any) -> bool:
    """Whether a value that is JSON otherwise can be written: no lone surrogates in it."""
    try:
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return False
    return True


def check_json(value: Any, path: str) -> None:
    """Refuse what JSON would lose or change. Raises EncodeError naming `path`.

    orjson alone would quietly turn NaN into null, a tuple into a list, a UUID or a
    date into text: the job would get something else than was enqueued.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    _check_deep(value, path, 0)


def _check_deep(value: Any, path: str, depth: int) -> None:
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
    """Whether values of a subclass of str stand for their text, as what template renderers
    return (Markup, SafeString). Members of an enumeration stand for more than that."""
    return issubclass(kind, str) and not issubclass(kind, Enum)


def _step(path: str, key: str | int) -> str:
    """The path of an item; of a very long one its start."""
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
        # A class of the user's own may raise when it is asked for an attribute.
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
