"""`asyncjobs schedules ...`: tables, JSON, exit codes, and what the commands do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import pytest
from click.testing import Result

from asyncjobs import AsyncJobs, FromTick, Schedule, State, Unique
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.store.schedules import NewSchedule
from asyncjobs.testing.servers import Server
from tests.cli.test_usage import call

T = TypeVar("T")


async def _report(region: str, day: str, password: str = "") -> None: ...


def new_app(server: Server) -> tuple[AsyncJobs, Any]:
    app = AsyncJobs(server.url)
    return app, app.job(_report, name="reports.daily", queue="reports", sensitive=["password"])


def on(server: Server, act: Callable[[AsyncJobs, Any], Awaitable[T]]) -> T:
    """What this does with an open app."""

    async def run() -> T:
        app, job = new_app(server)
        async with app:
            return await act(app, job)

    return asyncio.run(run())


def put(server: Server, id: str = "daily", **options: Any) -> Schedule:
    options = {"cron": "30 2 * * *", "tz": "Europe/Berlin"} | options

    async def act(app: AsyncJobs, job: Any) -> Schedule:
        call = job.bind("eu", FromTick.DATE, password="hunter2")
        found: Schedule = await app.schedules.put(id, call, **options)
        return found

    return on(server, act)


def get(server: Server, id: str = "daily") -> Schedule | None:
    return on(server, lambda app, job: app.schedules.get(id))


def schedules(server: Server, *args: str, **options: Any) -> Result:
    return call("schedules", *args, env={"ASYNCJOBS_URL": server.url}, **options)


def rows(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_list(server: Server) -> None:
    empty = schedules(server, "list")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "no schedule\n")
    found = put(server)
    put(server, "often", cron=None, tz=None, every=90)
    assert found.next_at is not None
    result = schedules(server, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    head, first, second = rows(result)
    assert head == ["id", "queue", "times", "state", "next", "fired", "missed", "skipped"]
    next_at = found.next_at.isoformat(sep=" ", timespec="milliseconds")
    assert first == [
        *("daily", "reports", "30 2 * * * Europe/Berlin", "active", next_at, "0", "0", "0"),
    ]
    assert second[:4] == ["often", "reports", "every 90s", "active"]
    assert rows(schedules(server, "list", "--queue", "mail")) == []
    told = json.loads(schedules(server, "list", "--json").stdout)
    assert [each["id"] for each in told["schedules"]] == ["daily", "often"]
    assert told["refused"] == {}
    assert told["schedules"][0]["next_at"] == found.next_at.isoformat()


def test_show(server: Server) -> None:
    put(server, overlap="skip", jitter=30, limit=7)
    result = schedules(server, "show", "daily")
    assert (result.exit_code, result.stderr) == (0, "")
    found = dict(row for row in rows(result) if len(row) == 2)
    assert found["schedule"] == "daily"
    assert found["function"] == "reports.daily"
    assert found["text"] == "At 02:30 every day (Europe/Berlin)"
    assert (found["overlap"], found["jitter"], found["left"]) == ("skip", "30s", "7")
    assert found["catch up"] == "latest, within 3600s"
    assert found["args"] == '["eu","date"]'
    assert "hunter2" not in result.stdout
    told = schedules(server, "show", "daily", "--json").stdout
    assert "hunter2" not in told
    assert json.loads(told)["left"] == 7


def test_an_unknown_id_is_named_with_the_nearest(server: Server) -> None:
    put(server)
    for command in (("show",), ("next",), ("pause",), ("resume",), ("trigger",)):
        result = schedules(server, *command, "dayly")
        assert result.exit_code == 1, command
        assert "Error: no schedule has the id 'dayly'; did you mean 'daily'?" in result.stderr
    deleted = schedules(server, "delete", "dayly", "--yes", "--json")
    assert (deleted.exit_code, json.loads(deleted.stdout)["done"]) == (1, {})
    span = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z")
    filled = schedules(server, "backfill", "dayly", *span, "--yes")
    assert filled.exit_code == 1
    assert "did you mean 'daily'?" in filled.stderr


def test_next_keeps_the_order_of_time_when_clocks_go_back(server: Server) -> None:
    put(server, cron="*/30 * * * *", start=datetime(2099, 10, 25, tzinfo=UTC))
    told = json.loads(schedules(server, "next", "--json", "-n", "4").stdout)
    assert [tick["at"][11:] for tick in told["ticks"]] == [
        *("02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00")
    ]


def test_next(server: Server) -> None:
    none = schedules(server, "next")
    assert (none.exit_code, none.stdout) == (0, "")
    put(server, "a", cron=None, tz=None, every=3600)
    put(server, "b", cron=None, tz=None, every=7200)
    table = rows(schedules(server, "next", "-n", "6"))
    assert table[0] == ["at", "schedule", "queue"]
    assert sorted(row[1] for row in table[1:]) == ["a", "a", "a", "a", "b", "b"]
    assert table[1:] == sorted(table[1:])
    schedules(server, "pause", "a")
    told = json.loads(schedules(server, "next", "--json", "-n", "3").stdout)
    assert [tick["schedule"] for tick in told["ticks"]] == ["b", "b", "b"]
    assert len(rows(schedules(server, "next", "a"))) == 11


def test_pause_and_resume(server: Server) -> None:
    put(server)
    result = schedules(server, "pause", "daily", "--reason", "the disk\x1b is full")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "daily: paused\n", "")
    assert schedules(server, "pause", "daily").stdout == "daily: was paused already\n"
    shown = schedules(server, "show", "daily").stdout
    assert "the disk\\x1b is full" in shown
    assert rows(schedules(server, "list"))[1][3] == "paused"
    back = schedules(server, "resume", "daily", "--json")
    assert (back.exit_code, json.loads(back.stdout)) == (
        0,
        {"done": {"daily": "resumed"}, "errors": {}},
    )
    assert schedules(server, "resume", "daily").stdout == "daily: was not paused\n"
    found = get(server)
    assert found is not None
    assert found.state == "active"


def test_trigger(server: Server) -> None:
    put(server)
    result = schedules(server, "trigger", "daily")
    assert result.exit_code == 0
    assert result.stdout.startswith("daily: made the job reports/")
    id = result.stdout.strip().removeprefix("daily: made the job ")
    state = on(server, lambda app, job: app.handle(id).status())
    assert state is State.READY


@pytest.mark.parametrize(
    ("on_conflict", "wanted"),
    [
        ("existing", "made no job: the job {} holds its unique key"),
        (
            "replace",
            "gave its call to the job {}, which holds its unique key and has not started",
        ),
    ],
)
def test_a_trigger_of_a_unique_job(
    server: Server, on_conflict: Literal["existing", "replace"], wanted: str
) -> None:
    unique = Unique(by="region", on_conflict=on_conflict)

    async def act(app: AsyncJobs, job: Any) -> None:
        call = job.options(unique=unique).bind("eu", FromTick.DATE)
        await app.schedules.put("daily", call, cron="@daily")

    on(server, act)
    first = schedules(server, "trigger", "daily").stdout
    holder = first.strip().removeprefix("daily: made the job ")
    again = schedules(server, "trigger", "daily")
    assert (again.exit_code, again.stdout) == (0, f"daily: {wanted.format(holder)}\n")


def test_a_backfill_of_a_unique_job(server: Server) -> None:
    async def act(app: AsyncJobs, job: Any) -> None:
        call = job.options(unique=Unique(by="region")).bind("eu", FromTick.DATE)
        await app.schedules.put("daily", call, cron="@daily")

    on(server, act)
    span = ("--from", "2026-03-27T00:00:00Z", "--to", "2026-03-29T00:00:00Z", "--yes")
    done = schedules(server, "backfill", "daily", *span)
    wanted = "made 1 job; 0 ticks had run before; 1 tick skipped: another job has the unique key\n"
    assert (done.exit_code, done.stdout) == (0, wanted)
    again = json.loads(schedules(server, "backfill", "daily", *span, "--json").stdout)
    assert (again["ran"], again["skipped"]) == (1, 1)


def test_backfill(server: Server) -> None:
    put(server)
    span = ("--from", "2026-03-27T00:00:00+01:00", "--to", "2026-03-31T00:00:00+02:00")
    counted = schedules(server, "backfill", "daily", *span, "--dry-run")
    assert (counted.exit_code, counted.stdout) == (0, "4 ticks in this time\n")
    asked = schedules(server, "backfill", "daily", *span)
    assert asked.exit_code == 2
    assert "this would make up to 4 jobs; add --yes to do it" in asked.stderr
    done = schedules(server, "backfill", "daily", *span, "--yes")
    assert (done.exit_code, done.stdout) == (0, "made 4 jobs; 0 ticks had run before\n")
    again = json.loads(schedules(server, "backfill", "daily", *span, "--yes", "--json").stdout)
    assert again == {"ticks": 4, "fired": 0, "ran": 4, "skipped": 0, "dry_run": False}
    many = ("--from", "2016-01-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z", "--yes")
    refused = schedules(server, "backfill", "daily", *many)
    assert refused.exit_code == 1
    assert "more than 1,000 ticks" in refused.stderr


@pytest.mark.parametrize("time", ["yesterday", "2026-03-27T00:00:00"])
def test_a_time_that_means_no_moment_is_wrong_usage(server: Server, time: str) -> None:
    result = schedules(server, "backfill", "daily", "--from", time, "--to", "2026-03-28T00:00:00Z")
    assert result.exit_code == 2
    assert "write 2026-10-25T02:30:00+02:00" in result.stderr


def test_delete_asks(server: Server) -> None:
    put(server)
    asked = schedules(server, "delete", "daily")
    assert asked.exit_code == 2
    assert "this would delete 1 schedule; add --yes to do it" in asked.stderr
    assert get(server) is not None
    result = schedules(server, "delete", "daily", "--yes")
    assert (result.exit_code, result.stdout) == (0, "daily: deleted\n")
    assert get(server) is None


def test_a_schedule_that_cannot_be_read_is_shown_all_the_same(server: Server) -> None:
    async def act(app: AsyncJobs, job: Any) -> None:
        ref = ScheduleRef("reports", "odd\x1b[2J")
        await app.backend.schedules.put([NewSchedule(ref, b"\xff", "v", 2_000_000_000_000)])

    on(server, act)
    result = schedules(server, "list")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    shown = schedules(server, "show", "odd\x1b[2J")
    assert shown.exit_code == 0
    assert "this release cannot read it" in shown.stdout
    refused = schedules(server, "trigger", "odd\x1b[2J")
    assert refused.exit_code == 1
    assert "cannot read the schedule" in refused.stderr


def test_a_store_that_keeps_no_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from asyncjobs.store.memory import MemoryBackend

    none = replace(MemoryBackend.capabilities, schedules=False)
    monkeypatch.setattr(MemoryBackend, "capabilities", none)
    result = call("schedules", "list", "--url", "memory:")
    assert result.exit_code == 2
    assert "no capability 'schedules'" in result.stderr
    assert call("check", "--url", "memory:").exit_code == 0


def test_check_names_what_is_late_and_what_nobody_declares(server: Server) -> None:
    now_ms = round(datetime.now(UTC).timestamp() * 1000)

    async def act(app: AsyncJobs, job: Any) -> None:
        store = app.backend.schedules
        hour = timedelta(hours=1) // timedelta(milliseconds=1)
        await store.put(
            [
                NewSchedule(ScheduleRef("reports", "late"), b"{}", "v", now_ms - hour),
                NewSchedule(ScheduleRef("reports", "fine"), b"{}", "v", now_ms + hour),
                NewSchedule(ScheduleRef("reports", "gone"), b"{}", "v", now_ms + hour, True),
            ]
        )
        await store.lapse(["reports"], 0, "nobody has it")

    on(server, act)
    result = call("check", "--json", env={"ASYNCJOBS_URL": server.url})
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    (problem,) = told["problems"]
    assert "schedule 'late' is late by 1h 0m: no worker of queue 'reports' fires it" in problem
    assert told["warnings"] == ["schedule 'gone' is paused: nobody has it"]
    on(server, lambda app, job: app.schedules.delete("late"))
    assert call("check", env={"ASYNCJOBS_URL": server.url}).exit_code == 0
