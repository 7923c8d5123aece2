"""Codecs: values of annotated parameters come back equal from JSON, or are refused."""

# ruff: noqa: DTZ001 - a time without a zone is an argument as any other

from __future__ import annotations

import enum
import re
import typing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from asyncjobs.jobs.converting import Codec, Plain, codec_of
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.jobs.parts import Unconvertible
from asyncjobs.model.codec import check_json
from asyncjobs.policy.redaction import Redaction

BERLIN = ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    RED = "red"


class Weekday(enum.IntEnum):
    MONDAY = 1


@dataclass
class Line:
    price: Decimal
    due: datetime | None = None


@dataclass
class Invoice:
    id: UUID
    lines: list[Line]
    tags: frozenset[str] = frozenset()


@dataclass
class Node:
    at: datetime
    next: Optional[Node] = None  # noqa: UP045


@attrs.define
class Parcel:
    weight: Decimal
    sent: date


class Options(TypedDict, total=False):
    since: datetime
    limit: int


class Point(NamedTuple):
    x: Decimal
    at: datetime


class Order(msgspec.Struct):
    number: int
    at: datetime


class Paid(msgspec.Struct, tag="paid"):
    at: datetime


class Sent(msgspec.Struct, tag="sent"):
    at: datetime


class Row(msgspec.Struct, array_like=True):
    number: int
    at: datetime


class Customer(BaseModel):
    name: str
    born: date
    balance: Decimal = Decimal(0)


class Login(BaseModel):
    password: SecretStr


UserId = NewType("UserId", int)


def codec(kind: Any, types: Types | None = None) -> Codec:
    found = codec_of(kind, types or Types())
    assert isinstance(found, Codec)
    return found


def back(kind: Any, value: Any, types: Types | None = None) -> Any:
    """The value after its way through JSON."""
    it = codec(kind, types)
    stored = it.dump(value)
    check_json(stored, "it")
    return it.load(orjson.loads(orjson.dumps(stored)))


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (datetime, datetime(2026, 3, 29, 3), "2026-03-29T03:00:00"),
        (datetime, datetime(2026, 3, 29, 1, tzinfo=UTC), "2026-03-29T01:00:00+00:00"),
        (
            datetime,
            datetime(2026, 3, 29, 3, tzinfo=BERLIN),
            "2026-03-29T03:00:00+02:00[Europe/Berlin]",
        ),
        (date, date(2026, 3, 29), "2026-03-29"),
        (time, time(3, 30), "03:30:00"),
        (timedelta, timedelta(days=1, seconds=30), "P1DT30S"),
        (Decimal, Decimal("1.50"), "1.50"),
        (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bytes, b"\x00\xff", "AP8="),
        (Path, Path("/tmp/x"), "/tmp/x"),
        (PurePosixPath, PurePosixPath("a/b"), "a/b"),
        (ZoneInfo, BERLIN, "Europe/Berlin"),
        (Colour, Colour.RED, "red"),
        (Weekday, Weekday.MONDAY, 1),
        (tuple[int, str], (1, "a"), [1, "a"]),
        (tuple[date, ...], (date(2026, 1, 1),), ["2026-01-01"]),
        (set[int], {3, 1}, [1, 3]),
        (frozenset[str], frozenset("ba"), ["a", "b"]),
        (dict[int, Decimal], {1: Decimal(2)}, {"1": "2"}),
        (list[Path], [Path("a")], ["a"]),
        (set[Path], {Path("b"), Path("a")}, ["a", "b"]),
        (Optional[date], None, None),  # noqa: UP045
        (Union[int, date], date(2026, 1, 1), "2026-01-01"),  # noqa: UP007
        (Literal["a", "b"], "a", "a"),
        (Annotated[int, msgspec.Meta(ge=1)], 1, 1),
        (Parcel, Parcel(Decimal("1.5"), date(2026, 1, 1)), {"weight": "1.5", "sent": "2026-01-01"}),
        (Order, Order(1, datetime(2026, 1, 1)), {"number": 1, "at": "2026-01-01T00:00:00"}),
        (Customer, Customer(name="a", born=date(2000, 1, 1)),
         {"name": "a", "born": "2000-01-01", "balance": "0"}),
    ],
)  # fmt: skip
def test_values_are_readable_json_and_come_back(kind: Any, value: Any, stored: Any) -> None:
    assert codec(kind).dump(value) == stored
    found = back(kind, value)
    assert found == value
    assert type(found) is type(value)


AWARE = st.datetimes(
    min_value=datetime(1971, 1, 1),
    max_value=datetime(2037, 1, 1),
    timezones=st.sampled_from(
        [UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), timezone(timedelta(hours=-3, minutes=-30))]
    ),
    allow_imaginary=False,
)


@given(AWARE)
def test_an_aware_time_keeps_its_moment_and_its_zone(value: datetime) -> None:
    found = back(datetime, value)
    assert found.astimezone(UTC) == value.astimezone(UTC)
    assert found.utcoffset() == value.utcoffset()
    assert str(found.tzinfo) == str(value.tzinfo)


@given(
    st.lists(
        st.builds(Line, st.decimals(allow_nan=False, allow_infinity=False), st.none() | AWARE)
    ),
    st.frozensets(st.text(st.characters(codec="utf-8"))),
)
def test_values_inside_of_values_come_back(lines: list[Line], tags: frozenset[str]) -> None:
    value = Invoice(UUID(int=7), lines, tags)
    found = back(dict[str, Invoice | None], {"it": value, "none": None})
    assert found == {"it": value, "none": None}
    assert [line.due and str(line.due.tzinfo) for line in found["it"].lines] == [
        line.due and str(line.due.tzinfo) for line in lines
    ]


@given(st.timedeltas(), st.times(), st.binary(), st.floats(allow_nan=False, allow_infinity=False))
def test_other_values_come_back(wait: timedelta, clock: time, raw: bytes, number: float) -> None:
    kind = tuple[timedelta, time, bytes, float]
    assert back(kind, (wait, clock, raw, number)) == (wait, clock, raw, number)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Node, Node(datetime(2026, 1, 1, tzinfo=BERLIN), Node(datetime(2026, 7, 1, tzinfo=UTC)))),
        (Options, {"since": datetime(2026, 1, 1, tzinfo=BERLIN)}),
        (Point, Point(Decimal(1), datetime(2026, 1, 1, tzinfo=BERLIN))),
        (Row, Row(1, datetime(2026, 1, 1, tzinfo=BERLIN))),
        (Paid | Sent, Sent(datetime(2026, 1, 1, tzinfo=BERLIN))),
        (list[tuple[int, datetime]], [(1, datetime(2026, 1, 1, tzinfo=BERLIN))]),
        (dict[str, datetime] | None, {"a": datetime(2026, 1, 1, tzinfo=BERLIN)}),
    ],
)  # fmt: skip
def test_times_keep_their_zones_wherever_they_stand(kind: Any, value: Any) -> None:
    found = back(kind, value)
    assert found == value
    assert "[Europe/Berlin]" in orjson.dumps(codec(kind).dump(value)).decode()
    # Equal times may have other zones.
    assert repr(found) == repr(value)


class NoName(tzinfo):
    def utcoffset(self, at: datetime | None, /) -> timedelta | None:
        return None if at is None else timedelta(hours=1)

    def dst(self, at: datetime | None, /) -> timedelta | None:
        return None


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    tail: int = 1


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (date, "2026-01-01", "expected .*date, got str '2026-01-01'"),
        (date, datetime(2026, 1, 1), "expected"),
        (datetime, datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), "come back as another"),
        (datetime, datetime(2026, 1, 1, tzinfo=NoName()), "is a NoName, whose name"),
        (Invoice, {"id": UUID(int=1), "lines": []}, "expected .*Invoice, got dict"),
        (Invoice, Invoice(1, []), r"\.id: expected uuid, got int 1"),  # type: ignore[arg-type]
        (Invoice, Invoice(UUID(int=1), [Line("x")]),  # type: ignore[arg-type]
         r"\.lines\[0\]\.price: expected a valid decimal string, got str 'x'"),
        (Animal, Dog("rex"), "come back as another"),
        (list[int], (1, 2), "expected list\\[int\\], got tuple"),
        (list[int], [1, "a"], r"\[1\]: expected int, got str 'a'"),
        (tuple[int, str], (1,), "expected"),
        (Decimal, Decimal("NaN"), "come back as another"),
        (Literal["a"], "b", "expected Literal\\['a'\\], got str 'b'"),
        (Options, {"limit": 1, "more": 2}, "come back as another"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "got int 0"),
        (Login, Login(password=SecretStr("hunter2")), "come back as another"),
        (dict[str, Animal], {"a": object()}, "expected"),
        (list[float], [1, 2**63 + 1], "come back as another"),
    ],
)  # fmt: skip
def test_a_value_that_would_not_come_back_is_refused(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(Misfit) as refused:
        codec(kind).dump(value)
    told = refused.value.told(Redaction())
    assert re.search(said, told), told
    assert "hunter2" not in told


class Money:
    """A class without `==`."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


@dataclass
class Bill:
    total: Money
    rest: list[Money] = field(default_factory=list)


def types_of(*serializers: Any) -> Types:
    types = Types()
    for kind, dump, load in serializers:
        types.add_serializer(kind, dump, load)
    return types


MONEY = (Money, lambda money: money.cents, Money)


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (Money, Money(1), 1),
        (Money | None, None, None),
        (list[Money], [Money(1), Money(2)], [1, 2]),
        (dict[str, Money], {"a": Money(1)}, {"a": 1}),
        (tuple[int, Money], (7, Money(1)), [7, 1]),
        (tuple[Money, ...], (Money(1), Money(2)), [1, 2]),
        (Bill, Bill(Money(1), [Money(2)]), {"total": 1, "rest": [2]}),
    ],
)
def test_a_serializer_stores_a_foreign_type(kind: Any, value: Any, stored: Any) -> None:
    types = types_of(MONEY)
    assert codec(kind, types).dump(value) == stored
    found = codec(kind, types).load(stored)
    assert codec(kind, types).dump(found) == stored


def test_a_serializer_comes_before_the_known_way() -> None:
    types = types_of(
        (Decimal, lambda value: {"exactly": str(value)}, lambda d: Decimal(d["exactly"]))
    )
    assert codec(Decimal, types).dump(Decimal("1.5")) == {"exactly": "1.5"}
    assert back(list[Decimal], [Decimal("1.5")], types) == [Decimal("1.5")]
    with pytest.raises(Unconvertible, match=r"has a field that is a .*Decimal"):
        codec(Line, types)


def test_a_serializer_that_loses_something_is_refused() -> None:
    types = types_of((Line, lambda line: str(line.price), lambda text: Line(Decimal(text))))
    assert back(Line, Line(Decimal(1)), types) == Line(Decimal(1))
    with pytest.raises(Misfit, match="Line"):
        codec(Line, types).dump(Line(Decimal(1), datetime(2026, 1, 1)))


def test_the_serializers_of_outer_registries_are_known() -> None:
    inner = Types()
    inner.parent = types_of(MONEY)
    assert codec(Money, inner).dump(Money(3)) == 3


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Money, "knows how to store a .*Money"),
        (Bill, "knows how to store a .*Money"),
        (list[Money], "Money"),
        (str | date, "more than one str-like"),
        (typing.Callable[[int], int], "Callable"),
        (dict[datetime, int], "key of a dict cannot be a datetime"),
    ],
)
def test_what_nobody_can_store_is_refused_once(kind: Any, said: str) -> None:
    with pytest.raises(Unconvertible, match=said):
        codec_of(kind, Types())


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        (int, (int,)),
        (str | None, (str, type(None))),
        (Optional[bool], (bool, type(None))),  # noqa: UP045
        (UserId, (int,)),
        (Annotated[str, "a note"], (str,)),
        (list, (list,)),
        (dict[str, Any], (dict,)),
        (list[Any] | float, (list, float)),
        (None, (type(None),)),
    ],
)
def test_plain_types_need_no_conversion(kind: Any, kinds: tuple[type[Any], ...]) -> None:
    found = codec_of(kind, Types())
    assert isinstance(found, Plain)
    assert found.kinds == kinds


@pytest.mark.parametrize("kind", [Any, object, typing.TypeVar("T")])
def test_some_annotations_say_nothing(kind: Any) -> None:
    assert codec_of(kind, Types()) is None


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [(float, 1, True), (int, True, True), (int, 1.0, False), (str, None, False), (bool, 1, False)],
)
def test_plain_values_are_checked(kind: Any, value: Any, fits: bool) -> None:
    found = codec_of(kind, Types())
    assert isinstance(found, Plain)
    if fits:
        found.check(value)
    else:
        with pytest.raises(Misfit):
            found.check(value)


@pytest.mark.parametrize("zone", ["Nowhere/At_All", "../etc", "a\0b", ""])
def test_a_zone_from_the_store_may_be_any_text(zone: str) -> None:
    with pytest.raises(Misfit):
        codec(datetime).load(f"2026-01-01T00:00:00+00:00[{zone}]")
