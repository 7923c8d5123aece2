from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.model.job import Priority
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_job_id, check_queue_name, parse_priority
from asyncjobs.options.durations import parse_duration
from asyncjobs.policy.retry import Retries


def test_defaults() -> None:
    assert AppSettings.of() == AppSettings()
    store = AppSettings().store()
    assert (store.prefix, store.connect_timeout_s, store.id_ttl_ms) == ("asyncjobs", 5.0, 600_000)
    assert store.token_ttl_ms == 60_000


def test_times_are_seconds_or_timedelta() -> None:
    settings = AppSettings.of(
        result_ttl=timedelta(minutes=1), id_ttl=90, timeout=None, retry=3, dead_max_age=1
    )
    assert settings.result_ttl_ms == 60_000
    assert settings.id_ttl_ms == 90_000
    assert settings.timeout_s is None
    assert settings.retry == Retries.of(3)
    assert settings.store().dead_max_age_ms == 1_000


def test_a_batch_token_outlives_the_time_of_trying_again() -> None:
    store = AppSettings.of(connect_timeout=100).store()
    assert store.token_ttl_ms > 100_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prefix", "{a}"),
        ("prefix", "a:b"),
        ("prefix", ""),
        ("prefix", 3),
        ("result_ttl", -1),
        ("result_ttl", "5m"),
        ("max_payload", 0),
        ("max_payload", 1.5),
        ("max_payload", 65 << 20),
        ("max_result", True),
        ("id_ttl", 1),
        ("connect_timeout", 0),
        ("unknown_ttl", float("inf")),
        ("max_crashes", 0),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("retry", "5"),
        ("dead_max_age", -1),
        ("dead_max_count", -1),
        ("dead_max_bytes", -1),
        ("trace_upkeep", "false"),
        ("trace_upkeep", 1),
    ],
)
def test_a_refusal_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        AppSettings.of(**{field: value})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86_400),
        ("1.5 s", 1.5),
        ("3", 3),
    ],
)
def test_text_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, field="--grace") == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 weeks", "1h30m", "nan", "٣s", "1e3s"])
def test_text_that_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="--grace="):
        parse_duration(text, field="--grace")


def test_priorities() -> None:
    assert parse_priority("critical") is Priority.CRITICAL
    assert parse_priority(Priority.LOW) is Priority.LOW
    for wrong in ("urgent", "HIGH", 1, None):
        with pytest.raises(ConfigError, match="critical, high, normal, low"):
            parse_priority(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "mail", "A-b_c.9", "x" * 64])
def test_queue_names(name: str) -> None:
    assert check_queue_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "{a}", "é", "x" * 65, "a\n", None, 3])
def test_what_is_no_queue_name(name: Any) -> None:
    with pytest.raises(ConfigError, match="queue="):
        check_queue_name(name)


@pytest.mark.parametrize("value", ["1", "welcome:42", "a/b", "ünï", "x" * 256, "{}"])
def test_job_ids(value: str) -> None:
    assert check_job_id(value) == value


@pytest.mark.parametrize("value", ["", "a b", "a\n", "\x00", "a\u00a0b", "\ud800", "x" * 257, 42])
def test_what_is_no_job_id(value: Any) -> None:
    with pytest.raises(ConfigError, match="id="):
        check_job_id(value)
