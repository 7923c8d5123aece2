"""What is stored of a job, as JSON: the envelope, the outcome, the dead letter.

Everything read back from a store is untrusted input: it is parsed with limits, checked
field by field, and never names anything that would be imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import orjson

from asyncjobs.errors import EncodeError
from asyncjobs.job import State
from asyncjobs.texts import shown
from asyncjobs.untrusted import LAST_MS, MAX_DEPTH, MOST_COUNT, is_deep, read_text, read_whole

__all__ = [
    "ENVELOPE_VERSION",
    "BadEnvelope",
    "Envelope",
    "NewerEnvelope",
    "Outcome",
    "check_json",
    "clean_text",
    "dead_letter",
    "encode_call",
    "is_unicode",
    "read_dead_letter",
    "read_fields",
    "to_json",
]

ENVELOPE_VERSION: Final = 1
MAX_TEXT: Final = 16_384
"""Characters kept of a message or a traceback: from its end, where the cause stands."""

MAX_ENVELOPE: Final = 64 * 1024 * 1024
"""Bytes that are parsed at all; far above any sensible `max_payload`."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


class BadEnvelope(Exception):
    """Stored bytes that are no envelope of ours."""


class NewerEnvelope(Exception):
    """An envelope written by a release that this one does not know."""


class Envelope:
    """A call and its history, as it travels through the store.

    `attempt` is the number of the execution it is taken for; none starts at `expires_ms`
    (epoch) or later. `headers` has room for what listeners carry along (trace context,
    errors, crash count); `options` for what one enqueue overrides of its job function
    (`timeout`, `result_ttl`, ...).
    """

    __slots__ = (
        "args", "attempt", "enqueued_ms", "expires_ms", "headers", "kwargs", "name", "options",
        "scheduled_ms",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        args: list[Any],
        kwargs: dict[str, Any],
        enqueued_ms: int,
        scheduled_ms: int | None = None,
        expires_ms: int | None = None,
        attempt: int = 1,
        options: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.enqueued_ms = enqueued_ms
        self.scheduled_ms = scheduled_ms
        self.expires_ms = expires_ms
        self.attempt = attempt
        self.options = options
        self.headers = headers

    def encode(self) -> bytes:
        """As stored. Raises EncodeError for text that is no Unicode (lone surrogates)."""
        fields: dict[str, Any] = {
            "v": ENVELOPE_VERSION, "f": self.name, "n": self.attempt, "e": self.enqueued_ms
        }  # fmt: skip
        if self.args:
            fields["a"] = self.args
        if self.kwargs:
            fields["k"] = self.kwargs
        if self.scheduled_ms is not None:
            fields["s"] = self.scheduled_ms
        if self.expires_ms is not None:
            fields["x"] = self.expires_ms
        if self.options:
            fields["o"] = self.options
        if self.headers:
            fields["h"] = self.headers
        return _dump(self.name, fields)

    @classmethod
    def decode(cls, raw: bytes) -> Envelope:
        """Raises BadEnvelope or NewerEnvelope."""
        try:
            # A short record cannot be nested too deep: most jobs pay for this line alone.
            fields = orjson.loads(raw) if len(raw) <= _FLAT else _parse_long(raw)
            version = fields["v"]
            name, attempt, enqueued_ms = fields["f"], fields["n"], fields["e"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _not_ours(raw, error) from error
        if version != ENVELOPE_VERSION:
            raise _not_ours(raw, ValueError(f"version {version!r}"))
        args = fields["a"] if "a" in fields else []  # noqa: SIM401 - a list made for nothing
        kwargs = fields["k"] if "k" in fields else {}  # noqa: SIM401 - the same
        kinds = (type(name), type(args), type(kwargs), type(attempt), type(enqueued_ms))
        if kinds != _KINDS:
            raise BadEnvelope("a field has the wrong type")
        # rule:15 attempts and times have limits
        if not (1 <= attempt <= MOST_COUNT and 0 <= enqueued_ms <= LAST_MS):
            raise BadEnvelope(
                "the number of the attempt or the time of the enqueue is out of range"
            )
        envelope = cls(name, args, kwargs, enqueued_ms, None, None, attempt)
        # Most envelopes have these fields alone, and this is on the way of every job.
        if len(fields) > 4 + ("a" in fields) + ("k" in fields):
            envelope._add_rare(fields)
        return envelope

    def _add_rare(self, fields: dict[str, Any]) -> None:
        get = fields.get
        self.scheduled_ms, self.expires_ms = get("s"), get("x")
        self.options, self.headers = get("o"), get("h")
        if not (
            type(self.scheduled_ms) in _INT_OR_NONE
            and type(self.expires_ms) in _INT_OR_NONE
            and type(self.options) in _DICT_OR_NONE
            and type(self.headers) in _DICT_OR_NONE
        ):
            raise BadEnvelope("a field has the wrong type")
        for time_ms in (self.scheduled_ms, self.expires_ms):
            if time_ms is not None and not 0 <= time_ms <= LAST_MS:
                raise BadEnvelope("a time is out of range")


_KINDS: Final = (str, list, dict, int, int)
_INT_OR_NONE: Final = (type(None), int)
_DICT_OR_NONE: Final = (type(None), dict)
_FLAT: Final = 2 * MAX_DEPTH
"""Bytes that a value must have to be nested deeper than MAX_DEPTH."""


def _parse_long(raw: bytes) -> Any:
    """Raises ValueError for no JSON, BadEnvelope for more or deeper than any of ours."""
    if len(raw) > MAX_ENVELOPE:
        raise BadEnvelope(f"{len(raw)} B are more than any record may have")
    fields = orjson.loads(raw)
    # Counted in C, and for nearly all the end of it: with so few brackets nothing is deep.
    # rule:15 a record has a limit of nesting
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and is_deep(fields):
        raise BadEnvelope(f"it is nested deeper than {MAX_DEPTH} levels")
    return fields


def read_fields(raw: bytes) -> dict[str, Any]:
    """The fields of a record that may be of a later release. Raises BadEnvelope."""
    try:
        fields = orjson.loads(raw) if len(raw) <= _FLAT else _parse_long(raw)
    except ValueError as error:
        raise BadEnvelope(f"{type(error).__name__}: {error}") from error
    if type(fields) is not dict:
        raise BadEnvelope("it is no JSON object")
    return fields


def _not_ours(raw: bytes, error: Exception) -> BadEnvelope | NewerEnvelope:
    """A later release may have renamed every field but the version."""
    try:
        version = orjson.loads(raw)["v"]
    except (ValueError, TypeError, KeyError):
        version = None
    if type(version) is int and version > ENVELOPE_VERSION:
        return NewerEnvelope(f"envelope version {version} is newer than {ENVELOPE_VERSION}")
    return BadEnvelope(f"{type(error).__name__}: {error}")


def encode_call(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    enqueued_ms: int,
    scheduled_ms: int | None,
    expires_ms: int | None,
    options: dict[str, Any] | None,
    headers: dict[str, Any] | None = None,
) -> bytes:
    """The envelope of a new job, encoded: `Envelope.encode` without an Envelope, which is on
    the way of every enqueue. Raises EncodeError like it."""
    fields: dict[str, Any] = {"v": ENVELOPE_VERSION, "f": name, "n": 1, "e": enqueued_ms}
    if args:
        fields["a"] = args
    if kwargs:
        fields["k"] = kwargs
    if scheduled_ms is not None:
        fields["s"] = scheduled_ms
    if expires_ms is not None:
        fields["x"] = expires_ms
    if options:
        fields["o"] = options
    if headers:
        fields["h"] = headers
    return _dump(name, fields)


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


def _dump(name: str, fields: dict[str, Any]) -> bytes:
    try:
        return to_json(fields)
    except (TypeError, ValueError) as error:
        raise EncodeError(f"{name}: the arguments cannot be written as JSON: {error}") from error


class Outcome:
    """How a job ended, as waiters read it.

    `value` only when succeeded; `unavailable` says why a value could not be kept;
    `reason`, `error_type`, `message`, `traceback` describe the other ends, `worker` names
    the one that saw the error. `name`, `attempt` and `finished_ms` (the worker's clock)
    outlive the envelope here; they are empty for a job that was cancelled before it ran.
    """

    __slots__ = (
        "attempt", "error_type", "finished_ms", "message", "name", "reason", "state",
        "traceback", "unavailable", "value", "worker",
    )  # fmt: skip

    def __init__(
        self,
        state: State,
        value: Any = None,
        *,
        name: str = "",
        attempt: int = 0,
        finished_ms: int = 0,
        unavailable: str = "",
        reason: str = "",
        error_type: str = "",
        message: str = "",
        traceback: str = "",
        worker: str = "",
    ) -> None:
        self.state = state
        self.value = value
        self.name = name
        self.attempt = attempt
        self.finished_ms = finished_ms
        self.unavailable = unavailable
        self.reason = reason
        self.error_type = error_type
        self.message = message
        self.traceback = traceback
        self.worker = worker

    def encode(self) -> bytes:
        """As stored. Raises EncodeError when the value is no JSON."""
        fields: dict[str, Any] = {"s": self.state.value}
        if self.attempt:
            fields["n"] = self.attempt
            fields["f"] = self.name
            fields["e"] = self.finished_ms
        if self.state is State.SUCCEEDED:
            if self.unavailable:
                fields["u"] = clean_text(self.unavailable)
            else:
                fields["r"] = self.value
        else:
            for key, text in (
                ("d", self.reason),
                ("t", self.error_type),
                ("m", self.message),
                ("b", self.traceback),
                ("w", self.worker),
            ):
                if text:
                    fields[key] = clean_text(text)
        try:
            return to_json(fields)
        except (TypeError, ValueError) as error:
            raise EncodeError(f"the result cannot be written as JSON: {error}") from error

    @classmethod
    def decode(cls, raw: bytes) -> Outcome:
        """Raises BadEnvelope."""
        try:
            fields = orjson.loads(raw) if len(raw) <= _FLAT else _parse_long(raw)
            return cls(
                State(fields["s"]),
                fields.get("r"),
                name=read_text(fields, "f"),
                attempt=read_whole(fields, "n"),
                finished_ms=read_whole(fields, "e", most=LAST_MS),
                unavailable=read_text(fields, "u"),
                reason=read_text(fields, "d"),
                error_type=read_text(fields, "t"),
                message=read_text(fields, "m"),
                traceback=read_text(fields, "b"),
                worker=read_text(fields, "w"),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadEnvelope(f"{type(error).__name__}: {error}") from error


def dead_letter(outcome: Outcome, raw_envelope: bytes) -> bytes:
    """The record of a dead job: its outcome as one line of JSON, then the raw envelope.

    The envelope is kept byte by byte, since it may be the very thing that is broken.
    """
    return outcome.encode() + b"\n" + raw_envelope


def read_dead_letter(raw: bytes) -> tuple[Outcome, bytes]:
    """Outcome and raw envelope of a dead letter. Raises BadEnvelope."""
    head, _, envelope = raw.partition(b"\n")
    return Outcome.decode(head), envelope


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
