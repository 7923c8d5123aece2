"""The envelope: a call and its history, as a job carries them through the store.

The keys of its fields are known here and nowhere else. What is read back is untrusted input:
it is parsed with limits, checked field by field, and never names anything that would be
imported.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from asyncjobs.errors import EncodeError
from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT, in_range
from asyncjobs.model.codec import FLAT, BadRecord, parse_long, read_fields, to_json
from asyncjobs.model.headers import NO_HEADERS, Headers, PastError, new_headers

__all__ = [
    "ENVELOPE_VERSION",
    "AnyEnvelope",
    "Envelope",
    "NewerEnvelope",
    "encode_call",
    "name_in",
    "without_trace",
]

ENVELOPE_VERSION: Final = 1


class NewerEnvelope(Exception):
    """An envelope written by a release that this one does not know."""


class Envelope:
    """A call and its history, as it travels through the store.

    `attempt` is the number of the execution it is taken for; none starts at `expires_ms`
    (epoch) or later. `options` are what one enqueue overrides of its job function
    (`timeout`, `result_ttl`, ...).
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
        """As stored. Raises EncodeError for text that is no Unicode (lone surrogates)."""
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
            # A short record cannot be nested too deep: most jobs pay for this line alone.
            fields = orjson.loads(raw) if len(raw) <= FLAT else parse_long(raw)
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
            raise BadRecord("a field has the wrong type")
        # rule:15 attempts and times have limits
        if not (1 <= attempt <= MOST_COUNT and 0 <= enqueued_ms <= LAST_MS):
            raise BadRecord("the number of the attempt or the time of the enqueue is out of range")
        envelope = cls(name, args, kwargs, enqueued_ms, None, None, attempt)
        # Most envelopes have these fields alone, and this is on the way of every job.
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
        """As stored for `attempt`, with these headers. `raw` is what it was decoded from.

        The call is copied out of `raw`: the job may have changed the arguments that it was
        given, and to decode and encode them again would cost more than all else here. Raises
        BadRecord for a `raw` that it was not decoded from, EncodeError.
        """
        start = b'{"v":%d,"f":%b,"n":' % (ENVELOPE_VERSION, orjson.dumps(self.name))
        head = b'%b%d,"e":%d' % (start, self.attempt, self.enqueued_ms)
        tail = _tail(self.headers)
        if not (raw.startswith(head) and raw.endswith(tail)):
            return self._written_anew(raw, attempt, headers)
        call = raw[len(head) : -len(tail)]
        return b'%b%d,"e":%d%b%b' % (start, attempt, self.enqueued_ms, call, _tail(headers))

    @staticmethod
    def _written_anew(raw: bytes, attempt: int, headers: Headers) -> bytes:
        """`again` for an envelope that another program has written, with other blanks or its
        fields in another order."""
        envelope = Envelope.decode(raw)
        envelope.attempt = attempt
        envelope.headers = headers
        return envelope.encode()


_KINDS: Final = (str, list, dict, int, int)
_INT_OR_NONE: Final = (type(None), int)
_DICT_OR_NONE: Final = (type(None), dict)


class AnyEnvelope:
    """An envelope of whatever release. Only what all releases have is read, without a promise
    that it makes sense; whatever else stands in it stays as it is."""

    __slots__ = ("_fields", "headers")

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.headers = Headers.of(fields.get("h"))

    @classmethod
    def decode(cls, raw: bytes) -> AnyEnvelope:
        """Raises BadRecord for what is no JSON object, and for more than any record has."""
        return cls(read_fields(raw))

    @property
    def has_attempt(self) -> bool:
        """Whether it counts its attempts, as all do that this release can start anew."""
        return "n" in self._fields

    @property
    def attempt(self) -> int:
        """The number of its attempt; 0 for what is none."""
        return in_range(self._fields.get("n"), MOST_COUNT)

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Its arguments, by position and by keyword; all of them by position when they are of
        a kind that this release does not know."""
        args = self._fields.get("a", [])
        kwargs = self._fields.get("k", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
        return [args], {}

    def with_headers(self, headers: Headers) -> bytes:
        """As stored with other headers. Raises TypeError or ValueError for what is read, but
        cannot be written."""
        # rule:13 an unknown job spends no attempt
        return to_json({**self._fields, "h": headers.fields})

    def started_anew(self, last: PastError, at_ms: int) -> bytes:
        """As stored for a job that has ended with the error `last` and starts at `at_ms` with
        attempt 1."""
        fields = {**self._fields, "n": 1, "h": self.headers.with_revival(last, at_ms).fields}
        expires_ms = fields.get("x")
        enqueued_ms = fields.get("e")
        if type(expires_ms) is int and type(enqueued_ms) is int:
            # Its time is over by now, and a worker would only discard it.
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
    """An envelope as stored. On the way of every enqueue: no Envelope is made for it.

    `headers` of a new job are those of `new_headers`. Raises EncodeError for what is no JSON,
    and for text that is no Unicode (lone surrogates).
    """
    # `Envelope.again` and `without_trace` rely on this order.
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
    """The end of an envelope with these headers."""
    if not headers.fields:
        return b"}"
    return b',"h":%b}' % orjson.dumps(headers.fields)


def without_trace(
    raw: bytes, sensitive: dict[str, Any] | None, trace: dict[str, Any] | None
) -> bytes:
    """The envelope of a new job with these headers, without the trace: it is cut off, for the
    call may be large."""
    carried = _tail(Headers(new_headers(sensitive, trace)))
    return raw.removesuffix(carried) + _tail(Headers(new_headers(sensitive, None)))


_NAME: Final = re.compile(rb'\{"v":\d+,"f":("(?:[^"\\]|\\.)*")')


def name_in(start: bytes) -> str:
    """The job function that an envelope names, of which only the start is known; '' when that
    does not tell."""
    found = _NAME.match(start)
    if found is None:
        return ""
    try:
        return str(orjson.loads(found[1]))
    except ValueError:
        return ""


def _not_ours(raw: bytes, error: Exception) -> BadRecord | NewerEnvelope:
    """A later release may have renamed every field but the version."""
    try:
        version = orjson.loads(raw)["v"]
    except (ValueError, TypeError, KeyError):
        version = None
    if type(version) is int and version > ENVELOPE_VERSION:
        return NewerEnvelope(f"envelope version {version} is newer than {ENVELOPE_VERSION}")
    return BadRecord(f"{type(error).__name__}: {error}")
