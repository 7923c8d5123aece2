"""When a schedule fires: by tables, and beside a plain walk over every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import ConfigError
from asyncjobs.policy.calendar import (
    MACROS,
    MOST_COUNTED,
    Calendar,
    Cron,
    Every,
    Once,
    first_after,
    upcoming,
)

HOUR_MS = 3_600_000
BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"
"""Its clocks change by half an hour."""


def ms(text: str) -> int:
    """A time as in 2026-10-25T02:30+02:00, in ms."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(calendar: Calendar, first: str, last: str) -> list[int]:
    """All ticks from `first` up to before `last`."""
    found = []
    at = calendar.after(ms(first) - 1)
    while at is not None and at < ms(last):
        found.append(at)
        at = calendar.after(at)
    return found


def shown(found: list[int], tz: str) -> list[str]:
    """Ticks as day, hour and minute of the wall clock, and the offset of that moment."""
    zone = ZoneInfo(tz)
    return [datetime.fromtimestamp(at / 1000, zone).strftime("%d %H:%M %z") for at in found]


AUTUMN = ("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00")
SPRING = ("2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00")
HALF_HOUR_BACK = ("2026-04-05T00:00+11:00", "2026-04-06T00:00+10:30")
HALF_HOUR_ON = ("2026-10-04T00:00+10:30", "2026-10-05T00:00+11:00")


@pytest.mark.parametrize(
    ("expression", "tz", "day", "wanted"),
    [
        ("30 2 * * *", BERLIN, AUTUMN, ["25 02:30 +0200"]),
        ("30 2 * * *", BERLIN, SPRING, ["29 03:00 +0200"]),
        # Both times of the gap fire together, and so does one right behind it.
        ("0,30 2,3 * * *", BERLIN, SPRING, ["29 03:00 +0200", "29 03:30 +0200"]),
        (
            "*/30 2 * * *",
            BERLIN,
            AUTUMN,
            ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"],
        ),
        ("*/30 2 * * *", BERLIN, SPRING, []),
        ("15 2 * * *", LORD_HOWE, HALF_HOUR_ON, ["04 02:30 +1100"]),
        ("45 1 * * *", LORD_HOWE, HALF_HOUR_BACK, ["05 01:45 +1100"]),
        (
            "*/20 1 * * *",
            LORD_HOWE,
            HALF_HOUR_BACK,
            ["05 01:00 +1100", "05 01:20 +1100", "05 01:40 +1100", "05 01:40 +1030"],
        ),
        # Steps of an hour across half an hour would miss the first of them.
        (
            "*/20 3 * * *",
            LORD_HOWE,
            HALF_HOUR_ON,
            ["04 03:00 +1100", "04 03:20 +1100", "04 03:40 +1100"],
        ),
    ],
)
def test_on_a_day_on_which_clocks_change(
    expression: str, tz: str, day: tuple[str, str], wanted: list[str]
) -> None:
    assert shown(ticks(Cron(expression, tz), *day), tz) == wanted


@pytest.mark.parametrize(("day", "hours"), [(AUTUMN, 25), (SPRING, 23)])
def test_each_real_hour(day: tuple[str, str], hours: int) -> None:
    found = ticks(Cron("@hourly", BERLIN), *day)
    assert found == [ms(day[0]) + n * HOUR_MS for n in range(hours)]


@pytest.mark.parametrize("expression", ["50 2 * * *", "*/10 2 * * *", "0 3 * * *", "0 * * * *"])
@pytest.mark.parametrize(
    ("tz", "day"),
    [(BERLIN, AUTUMN), (BERLIN, SPRING), (LORD_HOWE, HALF_HOUR_ON), (LORD_HOWE, HALF_HOUR_BACK)],
)
def test_the_answer_is_later_and_the_same_from_each_minute(
    expression: str, tz: str, day: tuple[str, str]
) -> None:
    calendar = Cron(expression, tz)
    all_ticks = ticks(calendar, day[0], day[1])
    for at in range(ms(day[0]), ms(day[1]), 60_000):
        wanted = [tick for tick in all_ticks if tick > at]
        found = calendar.after(at)
        assert found is not None
        assert found > at
        if wanted:
            assert found == wanted[0]


WEEKS = [
    ("2026-03-26T00:00+01:00", "2026-04-02T00:00+02:00"),
    ("2026-10-22T00:00+02:00", "2026-10-29T00:00+01:00"),
]
"""A week around each change of 2026 in Berlin."""


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "*/15 * * * *", "5 * * * *", "* 2 * * *", "*/7 1-3 * * SUN", "0 */2 29 * *"],
)
@pytest.mark.parametrize("week", WEEKS)
def test_a_week_of_real_times_beside_a_walk_over_each_minute(
    expression: str, week: tuple[str, str]
) -> None:
    wanted = []
    minutes, hours, days, _, weekdays = expression.split()
    zone = ZoneInfo(BERLIN)
    for at in range(ms(week[0]), ms(week[1]), 60_000):
        wall = datetime.fromtimestamp(at / 1000, zone)
        is_day = days == "*" or wall.day == int(days)
        is_day &= weekdays == "*" or wall.weekday() == 6
        if is_day and matches(minutes, wall.minute) and matches(hours, wall.hour):
            wanted.append(at)
    assert ticks(Cron(expression, BERLIN), *week) == wanted


def matches(field: str, number: int) -> bool:
    """A plain reading of the fields that the test above uses."""
    if field.startswith("*/"):
        return number % int(field[2:]) == 0
    if "-" in field:
        first, last = field.split("-")
        return int(first) <= number <= int(last)
    return field in ("*", str(number))


# Days of both weeks in the order in which these schedules fire, by the wall clock.
NIGHTLY = {
    WEEKS[0]: ["26", "27", "28", "29*", "30", "31", "01"],
    WEEKS[1]: ["22", "23", "24", "25", "26", "27", "28"],
}


@pytest.mark.parametrize("week", WEEKS)
def test_a_week_of_nights_by_a_table(week: tuple[str, str]) -> None:
    found = shown(ticks(Cron("30 2 * * *", BERLIN), *week), BERLIN)
    # The one with the star has no half past two: it fires when the gap is over.
    wanted = [
        day.rstrip("*") + (" 03:00" if day.endswith("*") else " 02:30") for day in NIGHTLY[week]
    ]
    assert [text[:8] for text in found] == wanted


def test_a_zone_that_changes_at_midnight() -> None:
    # In Beirut the clock goes from 00:00 to 01:00.
    day = ("2026-03-28T20:00+02:00", "2026-03-29T06:00+03:00")
    assert shown(ticks(Cron("0 0 * * *", "Asia/Beirut"), *day), "Asia/Beirut") == ["29 01:00 +0300"]
    assert ticks(Cron("*/30 0 * * *", "Asia/Beirut"), *day) == []


def test_fields_with_names_seconds_and_last_days() -> None:
    week = ("2026-02-23T00:00+00:00", "2026-03-02T00:00+00:00")
    assert shown(ticks(Cron("0 9 * * MON-TUE"), *week), "UTC") == [
        "23 09:00 +0000",
        "24 09:00 +0000",
    ]
    assert shown(ticks(Cron("0 9 L * *"), *week), "UTC") == ["28 09:00 +0000"]
    minute = ("2026-02-23T00:00+00:00", "2026-02-23T00:01+00:00")
    assert ticks(Cron("*/20 * * * * *"), *minute) == [ms(minute[0]) + n * 20_000 for n in range(3)]


@pytest.mark.parametrize("macro", MACROS)
def test_macros(macro: str) -> None:
    day = ms("2026-01-01T00:00+00:00")
    assert Cron(macro.upper()).after(day - 1) == day or macro == "@weekly"
    assert Cron(macro) == Cron(MACROS[macro])
    assert hash(Cron(macro)) == hash(Cron(MACROS[macro]))


def test_two_zones_are_two_calendars() -> None:
    assert Cron("@daily") != Cron("@daily", BERLIN)
    assert Cron("@daily") != "@daily"
    assert repr(Cron("@daily", BERLIN)) == "Cron('@daily', 'Europe/Berlin')"


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("0 0 30 2 *", r"'0 0 30 2 \*' is not understood \(Bad day-of-month\)"),
        ("0 0 */31 2 1#5", r"never fires: no day has both"),
        ("61 * * * *", r"\(Bad minute\): it needs five fields"),
        ("* * * *", r"\(Wrong number of fields\)"),
        ("", r"'' is not understood"),
        ("@often", r"'@often' is unknown: use one of @hourly, "),
    ],
)
def test_an_expression_that_is_wrong(expression: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        Cron(expression)


@pytest.mark.parametrize("tz", ["Europe/Berln", "../etc/passwd", "/etc/passwd", "Europe", ""])
def test_a_zone_that_is_wrong(tz: str) -> None:
    with pytest.raises(ConfigError, match=r"the time zone '.*' is unknown: use a name such as"):
        Cron("@daily", tz)


@pytest.mark.parametrize(
    ("calendar", "wanted"),
    [
        (Cron("30 2 * * *", BERLIN), "At 02:30 every day (Europe/Berlin)"),
        (Cron("@weekly"), "At 00:00 on Sunday (UTC)"),
        (Every(90_000), "Every 90 seconds"),
        (Every(60_000), "Every minute"),
        (Every(7_200_000), "Every 2 hours"),
        (Every(86_400_000), "Every day"),
        (Every(1_500), "Every 1.5 seconds"),
        (Once(0), "Once, at 1970-01-01 00:00:00 UTC"),
    ],
)
def test_calendars_in_english(calendar: Calendar, wanted: str) -> None:
    assert calendar.explain() == wanted


def test_intervals_are_counted_from_the_epoch_or_a_start() -> None:
    assert [Every(90_000).after(at) for at in (0, 1, 89_999, 90_000)] == [
        90_000,
        90_000,
        90_000,
        180_000,
    ]
    odd = Every(90_000, start_ms=7)
    assert [odd.after(at) for at in (-100, 6, 7, 90_006)] == [7, 7, 90_007, 90_007]
    with pytest.raises(ConfigError, match="every 999 ms: use 1 s or more"):
        Every(999)


def test_a_single_time() -> None:
    assert [Once(5).after(at) for at in (4, 5, 6)] == [5, None, None]


@pytest.mark.parametrize("calendar", [Cron("*/5 * * * *", BERLIN), Every(300_000), Once(600_000)])
def test_counts(calendar: Calendar) -> None:
    times = upcoming(calendar, calendar.after(0), 10)
    for first in range(0, 1_800_000, 150_000):
        for last in range(0, 1_800_000, 150_000):
            wanted = sum(first < at <= last for at in times)
            assert calendar.count(first, last) == wanted


def test_a_cron_stops_counting() -> None:
    year = timedelta(days=365).total_seconds() * 1000
    assert Cron("* * * * *").count(0, int(year)) == MOST_COUNTED


def test_start_and_end() -> None:
    hourly = Cron("@hourly")
    assert first_after(hourly, 0, start_ms=5 * HOUR_MS) == 5 * HOUR_MS
    assert first_after(hourly, 6 * HOUR_MS, start_ms=5 * HOUR_MS) == 7 * HOUR_MS
    assert first_after(hourly, 0, end_ms=HOUR_MS) == HOUR_MS
    assert first_after(hourly, HOUR_MS, end_ms=HOUR_MS) is None
    assert first_after(Once(5), 5) is None
    assert upcoming(hourly, HOUR_MS, 3) == [HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS]
    assert upcoming(hourly, HOUR_MS, 3, end_ms=2 * HOUR_MS) == [HOUR_MS, 2 * HOUR_MS]
    assert upcoming(hourly, None, 3) == []


def test_leap_days() -> None:
    calendar = Cron("0 0 29 2 *")
    at = calendar.after(ms("2026-01-01T00:00+00:00"))
    assert at is not None
    assert datetime.fromtimestamp(at / 1000, UTC).year == 2028
