from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.model.clock import at_ms, new_id, now_ms, seconds


def test_seconds_from_numbers_and_timedeltas() -> None:
    assert seconds(3, field="x") == 3.0
    assert seconds(0.25, field="x") == 0.25
    assert seconds(timedelta(minutes=1, milliseconds=5), field="x") == 60.005


@pytest.mark.parametrize(
    "value", ["30s", None, True, float("nan"), float("inf"), -1, timedelta(-1)]
)
def test_what_is_no_duration_is_named(value: Any) -> None:
    with pytest.raises(ConfigError, match="delay must be"):
        seconds(value, field="delay")


def test_aware_datetimes_become_milliseconds() -> None:
    assert at_ms(datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)) == 1_500


@pytest.mark.parametrize("value", [datetime(2027, 1, 1), 5, "2027-01-01", None])  # noqa: DTZ001
def test_naive_datetimes_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="at"):
        at_ms(value)


def test_ids_are_unique_and_begin_with_the_time() -> None:
    before = now_ms()
    ids = [new_id() for _ in range(1_000)]
    after = now_ms()
    assert len(set(ids)) == 1_000
    assert {len(one) for one in ids} == {28}
    assert all(before <= int(one[:12], 16) <= after for one in ids)
