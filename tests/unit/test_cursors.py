"""Cursors and results of steps as JSON, and back."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from asyncjobs.errors import EncodeError
from asyncjobs.jobs.cursors import MOST_DEEP, from_tagged, to_tagged
from asyncjobs.jobs.step_info import steps_in
from asyncjobs.jobs.steps import read_step
from asyncjobs.model.codec import BadRecord


class Color(IntEnum):
    RED = 1


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Color.RED, "Color"),
        ({1, 2}, "set"),
        (OrderedDict(a=1), "OrderedDict"),
        ([object()], "object"),
        ("\ud800", "surrogates"),
        (2**5_000, "bits"),
        (deep(MOST_DEEP + 1), "nested"),
    ],
)
def test_what_would_not_come_back_is_refused(value: Any, named: str) -> None:
    with pytest.raises(EncodeError, match=f"the cursor.*{named}"):
        to_tagged(value, "the cursor")


@pytest.mark.parametrize(
    "stored",
    [
        {"$date": "tomorrow"},
        {"$datetime": 5},
        {"$datetime": "2026-01-01T00:00:00+00:00", "zone": "Nowhere/At_All"},
        {"$datetime": "2026-01-01T00:00:00+00:00", "fold": 7},
        {"$uuid": "x"},
        {"$decimal": "x"},
        {"$bytes": "?"},
        {"$timedelta": [1e30]},
        {"$tuple": 5},
        {"$dict": [[["a"], 1]]},
        {"$int": "1" * 9_000},
        deep(3 * MOST_DEEP),
    ],
)
def test_what_nobody_writes_is_a_bad_record(stored: Any) -> None:
    with pytest.raises(BadRecord):
        from_tagged(stored)


def test_what_is_stored_is_readable() -> None:
    value = {"at": datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin")), "n": (1, None)}
    assert to_tagged(value, "it") == {
        "at": {"$datetime": "2026-03-29T01:30:00+01:00", "zone": "Europe/Berlin"},
        "n": {"$tuple": [1, None]},
    }


def test_a_time_with_a_fixed_offset_comes_back() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    found = from_tagged(orjson.loads(orjson.dumps(to_tagged(moment, "it"))))
    assert (found, found.utcoffset()) == (moment, moment.utcoffset())


def test_a_zone_whose_rules_have_changed_keeps_the_moment() -> None:
    stored = {"$datetime": "2026-07-01T12:00:00+05:00", "zone": "Europe/Berlin"}
    assert from_tagged(stored) == datetime(2026, 7, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"finished":1,"at":5}', b'{"finished":true}'])
def test_a_step_of_a_foreign_writer(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        read_step(raw)
    good = b'{"finished":true,"at":99999999999999999}'
    assert [step.name for step in steps_in({"step:a": raw, "step:b": good, "other": good})] == ["b"]
