"""The envelope: a call of a job function and its history, as a job carries them through the store.

Only this module knows the keys of its fields. An envelope that is read back is untrusted input: it
is parsed with limits and checked field by field, and nothing that it names is ever imported.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from asyncjobs.errors import EncodeError
from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT, in_range
from asyncjobs.model.codec import FLAT, BadRecord, parse_long, read_fields, to_json
from asyncjobs.model.gates import GATE_MARK, gate_of
from asyncjobs.model.headers import NO_HEADERS, UNIQUE_MARK, Headers, PastError
from asyncjobs.model.terms import Gate, Unique

__all__ = [
    "ENVELOPE_VERSION",
    "AnyEnvelope",
    "Envelope",
    "NewerEnvelope",
    "encode_call",
    "gate_in",
    "name_in",
    "unique_in",
    "with_more_headers",
    "without_trace",
]

ENVELOPE_VERSION: Final = 1


class NewerEnvelope(Exception):
    """An envelope that a later release has written."""


class Envelope:
    """A call and its history. All times are milliseconds since the epoch.

    `attempt` is the number of the attempt that it is taken for. No attempt starts at `expires_ms`
    or later. `options` are those that the enqueue gave (`timeout`, `result_ttl`, ...).
    """

    __slots__ = (
        "args",
        "attempt",
        "enqueued_ms",
        "expires_ms",
        "headers",
        "kwargs",
        "name",
        "options",
        "scheduled_ms",
    )

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
        headers: Headers = NO_HEADERS,
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
        """The bytes to store. Raises EncodeError for text with lone surrogates."""
        return encode_call(
            self.name,
            self.args,
            self.kwargs,
            self.enqueued_ms,
            self.scheduled_ms,
            self.expires_ms,
            self.options,
            self.headers.fields,
            self.attempt,
        )

    @classmethod
    def decode(cls, raw: bytes) -> Envelope:
        """Raises BadRecord or NewerEnvelope."""
        try:
            # `parse`, written out: a short record cannot be nested too deeply, and each job of a
            # worker comes through here.
            fields = orjson.loads(raw) if len(raw) <= FLAT else parse_long(raw)
            version = fields["v"]
            name = fields["f"]
            attempt = fields["n"]
            enqueued_ms = fields["e"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _not_ours(raw, error) from error
        if version != ENVELOPE_VERSION:
            raise _not_ours(raw, ValueError(f"version {version!r}"))
        args = fields["a"] if "a" in fields else []  # noqa: SIM401 - a list made for nothing
        kwargs = fields["k"] if "k" in fields else {}  # noqa: SIM401 - the same
        # Exact types in one comparison. `isinstance` would let True pass as a number.
        kinds = (type(name), type(args), type(kwargs), type(attempt), type(enqueued_ms))
        if kinds != _KINDS:
            raise BadRecord("a field has the wrong type")
        # rule:15 attempts and times have limits
        if not (1 <= attempt <= MOST_COUNT and 0 <= enqueued_ms <= LAST_MS):
            raise BadRecord("the number of the attempt or the time of the enqueue is out of range")
        envelope = cls(name, args, kwargs, enqueued_ms, None, None, attempt)
        # Most envelopes have no other fields, so the rare ones are read in a call of their own.
        if len(fields) > 4 + ("a" in fields) + ("k" in fields):
            envelope._add_rare(fields)
        return envelope

    def _add_rare(self, fields: dict[str, Any]) -> None:
        scheduled_ms = self.scheduled_ms = fields.get("s")
        expires_ms = self.expires_ms = fields.get("x")
        options = self.options = fields.get("o")
        headers = fields.get("h")
        if not (
            type(scheduled_ms) in _INT_OR_NONE
            and type(expires_ms) in _INT_OR_NONE
            and type(options) in _DICT_OR_NONE
            and type(headers) in _DICT_OR_NONE
        ):
            raise BadRecord("a field has the wrong type")
        for time_ms in (scheduled_ms, expires_ms):
            if time_ms is not None and not 0 <= time_ms <= LAST_MS:
                raise BadRecord("a time is out of range")
        if headers:
            self.headers = Headers(headers)

    def again(self, raw: bytes, attempt: int, headers: Headers) -> bytes:
        """The bytes to store for `attempt`, with these headers. `raw` is what it was decoded from.

        The call is copied out of `raw`, because the job may have changed the arguments that it
        got. To decode and encode them again would also cost more than all the rest. Raises
        BadRecord if `raw` is another envelope, and EncodeError.
        """
        start = b'{"v":%d,"f":%b,"n":' % (ENVELOPE_VERSION, orjson.dumps(self.name))
        head = b'%b%d,"e":%d' % (start, self.attempt, self.enqueued_ms)
        tail = _tail(self.headers)
        # An envelope that `encode_call` wrote has this start and this end.
        if not (raw.startswith(head) and raw.endswith(tail)):
            return self._written_anew(raw, attempt, headers)
        call = raw[len(head) : -len(tail)]
        return b'%b%d,"e":%d%b%b' % (start, attempt, self.enqueued_ms, call, _tail(headers))

    @staticmethod
    def _written_anew(raw: bytes, attempt: int, headers: Headers) -> bytes:
        """`again` for an envelope that another program has written: its blanks or the order of
        its fields may differ, so nothing can be copied."""
        envelope = Envelope.decode(raw)
        envelope.attempt = attempt
        envelope.headers = headers
        return envelope.encode()


_KINDS: Final = (str, list, dict, int, int)
_INT_OR_NONE: Final = (type(None), int)
_DICT_OR_NONE: Final = (type(None), dict)


class AnyEnvelope:
    """An envelope of any release. Reads only what all releases have, and checks little. All other
    fields stay as they are."""

    __slots__ = ("_fields", "headers")

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.headers = Headers.of(fields.get("h"))

    @classmethod
    def decode(cls, raw: bytes) -> AnyEnvelope:
        """Raises BadRecord for what is no JSON object, and for one that is too long or deep."""
        return cls(read_fields(raw))

    @property
    def has_attempt(self) -> bool:
        """Whether it counts attempts. Without that, this release cannot start it anew."""
        return "n" in self._fields

    @property
    def name(self) -> str:
        """The name of its job function; '' if it has none."""
        name = self._fields.get("f")
        if not isinstance(name, str):
            return ""
        return name

    @property
    def attempt(self) -> int:
        """The number of its attempt; 0 if it has no valid one."""
        return in_range(self._fields.get("n"), MOST_COUNT)

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Its positional and keyword arguments. Arguments of an unknown kind are returned as one
        positional argument."""
        args = self._fields.get("a", [])
        kwargs = self._fields.get("k", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
        return [args], {}

    def with_headers(self, headers: Headers) -> bytes:
        """The bytes to store with other headers.

        Raises TypeError or ValueError for values that JSON can be read from, but not written to.
        """
        # rule:13 an unknown job spends no attempt
        if not headers.fields:
            return to_json({key: value for key, value in self._fields.items() if key != "h"})
        return to_json({**self._fields, "h": headers.fields})

    def started_anew(self, last: PastError, at_ms: int) -> bytes:
        """The bytes to store for a job that ended with the error `last`, and starts again at
        `at_ms` with attempt 1."""
        fields = {**self._fields, "n": 1, "h": self.headers.with_revival(last, at_ms).fields}
        expires_ms = fields.get("x")
        enqueued_ms = fields.get("e")
        if type(expires_ms) is int and type(enqueued_ms) is int:
            # Its old expiry may have passed. A worker would then discard it at once.
            fields["x"] = min(at_ms + max(expires_ms - enqueued_ms, 0), LAST_MS)
        return to_json(fields)


def encode_call(
    name: str,
    args: tuple[Any, ...] | list[Any],
    kwargs: dict[str, Any],
    enqueued_ms: int,
    scheduled_ms: int | None,
    expires_ms: int | None,
    options: dict[str, Any] | None,
    headers: dict[str, Any] | None = None,
    attempt: int = 1,
) -> bytes:
    """The bytes of an envelope. Makes no Envelope, because each enqueue comes through here.

    The `headers` of a new job come from `new_headers`. Raises EncodeError for what JSON does not
    have, and for text with lone surrogates.
    """
    # `Envelope.again`, `without_trace` and `name_in` rely on this order of the fields.
    fields: dict[str, Any] = {"v": ENVELOPE_VERSION, "f": name, "n": attempt, "e": enqueued_ms}
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
    try:
        return to_json(fields)
    except (TypeError, ValueError) as error:
        raise EncodeError(f"{name}: the arguments cannot be written as JSON: {error}") from error


def _tail(headers: Headers) -> bytes:
    """The last bytes of an envelope with these headers."""
    if not headers.fields:
        return b"}"
    return b',"h":%b}' % orjson.dumps(headers.fields)


def without_trace(raw: bytes) -> bytes:
    """The envelope of a new job without its trace. One that is too long to be read is returned as
    it is: it is refused for its size anyway."""
    try:
        envelope = AnyEnvelope.decode(raw)
    except BadRecord:
        return raw
    return envelope.with_headers(envelope.headers.with_trace(None))


def unique_in(raw: bytes) -> Unique | None:
    """The unique key that a job with this envelope has to hold; None for most jobs, and for an
    envelope that cannot be read."""
    if UNIQUE_MARK not in raw:
        return None
    try:
        return AnyEnvelope.decode(raw).headers.unique
    except BadRecord:
        return None


def gate_in(raw: bytes) -> Gate | None:
    """The gate that a job with this envelope has to pass; None for most jobs. Raises BadRecord for
    one that cannot be read: without its limits the job must not run."""
    if GATE_MARK not in raw:
        return None
    # The bytes may be those of an argument.
    return gate_of(AnyEnvelope.decode(raw).headers.fields)


def with_more_headers(raw: bytes, more: dict[str, Any], *, has_headers: bool) -> bytes:
    """The envelope of a new job with more headers, behind those that it has. Writes only them, for
    the call may be large."""
    added = to_json(more)
    if not has_headers:
        return b'%b,"h":%b}' % (raw[:-1], added)
    return b"%b,%b}" % (raw[:-2], added[1:])


# The name comes second. A name of more characters than `start` has is not found.
_NAME: Final = re.compile(rb'\{"v":\d+,"f":("(?:[^"\\]|\\.)*")')


def name_in(start: bytes) -> str:
    """The name of the job function, read from the start of an envelope. '' if the start does not
    have it."""
    found = _NAME.match(start)
    if found is None:
        return ""
    try:
        return str(orjson.loads(found[1]))
    except ValueError:
        return ""


def _not_ours(raw: bytes, error: Exception) -> BadRecord | NewerEnvelope:
    """The error for an envelope that cannot be read. A later release may have renamed every field
    except the version, so the version decides which error it is."""
    try:
        version = orjson.loads(raw)["v"]
    except (ValueError, TypeError, KeyError):
        version = None
    if type(version) is int and version > ENVELOPE_VERSION:
        return NewerEnvelope(f"envelope version {version} is newer than {ENVELOPE_VERSION}")
    return BadRecord(f"{type(error).__name__}: {error}")
