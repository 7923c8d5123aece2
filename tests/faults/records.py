"""Records such as a store may hold that somebody else can write to: drawn by Hypothesis."""

from __future__ import annotations

from typing import Any, Final

import orjson
from hypothesis import strategies as st

from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome

__all__ = ["HOSTILE", "letters", "nested", "outcomes", "records"]

HOSTILE: Final = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**53,
    2**53 + 1,
    2**63,
    2**64 - 1,
    -(2**63),
    1e308,
    -1e308,
    5e-324,
    0.5,
    "",
    "1",
    "x" * 5_000,
    "\x1b]0;owned\x07\n",
    "\u202e",
    "\U0010ffff",
    [],
    {},
    [None],
    {"": ""},
    [[]],
    {"a": {"b": [1]}},
]
NAMES: Final = ["echo", "fails", "snoozes", "discards", "thread", "nosuch", "n" * 3_000, "\x1b[2J"]
HEADERS: Final = [
    "errors",
    "spent",
    "crashes",
    "crashes_kept",
    "first_unknown_at",
    "unknown_times",
    "revived",
    "revived_at",
    "sensitive",
    "t",
    "other",
]
OPTIONS: Final = ["timeout", "max_attempts", "result_ttl", "tracing", "other"]
ERROR: Final = ["n", "t", "m", "b", "e", "w"]
RULE: Final = ["names", "at", "from"]
CARRIER: Final = ["traceparent", "tracestate", "previous", "baggage", "conversation"]
SPENT: Final = ["", "ValueError", "builtins.OSError|ValueError"]
OUTCOME: Final = ["s", "r", "n", "f", "e", "u", "d", "t", "m", "b", "w"]


def nested(levels: int, kind: str = "list") -> Any:
    """A value with so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"k": value}
    return value


class Deep:
    """Stands for a value that orjson itself would refuse to write."""

    def __init__(self, levels: int, kind: str) -> None:
        self.levels = levels
        self.kind = kind

    def text(self) -> bytes:
        start, end = (b"[", b"]") if self.kind == "list" else (b'{"k":', b"}")
        return start * self.levels + b"1" + end * self.levels


DEEP = st.builds(
    Deep,
    st.sampled_from([90, 97, 98, 99, 100, 101, 102, 250, 300, 1_000]),
    st.sampled_from(["list", "dict"]),
)
ANY = st.one_of(
    st.sampled_from(HOSTILE),
    DEEP,
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.sampled_from(HOSTILE), max_size=4),
)


def some(names: list[str], values: st.SearchStrategy[Any] = ANY) -> st.SearchStrategy[Any]:
    """A dict with some of these keys."""
    return st.dictionaries(st.sampled_from(names), values, max_size=len(names))


TRACEPARENT = st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
HEADER_VALUES = st.one_of(
    ANY,
    st.lists(some(ERROR) | ANY, max_size=7),
    some(RULE, ANY | st.lists(st.sampled_from(["*", "a", "[!", "(" * 200, 0, -1]), max_size=5)),
    some(CARRIER, ANY | TRACEPARENT),
    some(SPENT),
)
FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "v": st.sampled_from([1, 1, 1, 2, 0, "1"]) | ANY,
    "f": st.sampled_from(NAMES) | ANY,
    "n": st.integers(1, 4) | ANY,
    "e": st.just(1_800_000_000_000) | ANY,
    "a": st.lists(ANY, max_size=3) | ANY,
    "k": st.dictionaries(st.sampled_from(["a", "b", "self", ""]), ANY, max_size=2) | ANY,
    "s": ANY,
    "x": st.just(4_000_000_000_000) | ANY,
    "o": some(OPTIONS, ANY | st.sampled_from([1, 5, "link", "none"])) | ANY,
    "h": some(HEADERS, HEADER_VALUES) | ANY,
}
GOOD: Final = {"v": 1, "n": 1, "e": 1_800_000_000_000, "a": []}


def _text(value: Any) -> bytes:
    """As JSON; deep values are put in as text."""
    deep: list[Deep] = []

    def stand_in(item: Any) -> Any:
        deep.append(item)
        return f"\u0000deep{len(deep) - 1}\u0000"

    raw = orjson.dumps(value, default=stand_in)
    for number, item in enumerate(deep):
        raw = raw.replace(b'"\\u0000deep%d\\u0000"' % number, item.text())
    return raw


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """An envelope that is right but for one to three of its fields; sometimes no JSON."""
    fields: dict[str, Any] = {**GOOD, "f": draw(st.sampled_from(NAMES[:6]))}
    for name in draw(st.lists(st.sampled_from([*FIELDS, "h", "h"]), min_size=1, max_size=3)):
        fields[name] = draw(FIELDS[name])
    raw = _text(fields)
    if draw(st.integers(0, 20)) == 0:
        raw = raw[: draw(st.integers(0, len(raw)))] + draw(st.binary(max_size=3))
    return raw


@st.composite
def outcomes(draw: st.DrawFn) -> bytes:
    """The record of an end that is right but for some of its fields."""
    fields = orjson.loads(Outcome(State.DEAD, name="f", attempt=1, finished_ms=1).encode())
    for name in draw(st.lists(st.sampled_from(OUTCOME), max_size=3)):
        fields[name] = draw(ANY)
    return _text(fields)


@st.composite
def letters(draw: st.DrawFn) -> bytes:
    """A dead letter, of any outcome and any envelope."""
    return draw(outcomes() | st.binary(max_size=5)) + b"\n" + draw(records())
