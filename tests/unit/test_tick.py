"""The call of a schedule, and the jobs that its ticks make."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    ConfigError,
    Debounce,
    EncodeError,
    JobContext,
    Throttle,
    Unique,
)
from asyncjobs.jobs.tick import FromTick, ScheduledCall, job_of_tick, scheduled_call
from asyncjobs.model.codec import BadRecord, to_json
from asyncjobs.model.envelope import Envelope, unique_in
from asyncjobs.model.headers import Headers, TickMark
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.schedules import Overlap

BERLIN = "Europe/Berlin"
AT_MS = 1_792_888_200_000
"""2026-10-25 02:30 in Berlin, for the first time that night."""
MARK = TickMark("nightly", AT_MS, BERLIN)


async def _report(
    region: str, day: str, *, at: str = "", tags: list[str] | None = None
) -> None: ...


async def _pay(card: str, day: str) -> None: ...


app = AsyncJobs("memory:")
report = app.job(_report, name="report", queue="reports", priority="low")
pay = app.job(_pay, name="pay", sensitive=["card"])


def made(call: ScheduledCall, now_ms: int = AT_MS + 70) -> Envelope:
    return Envelope.decode(job_of_tick(call, "x", MARK, now_ms).envelope)


def test_a_tick_fills_in_the_placeholders() -> None:
    call = scheduled_call(report, ("eu", FromTick.DATE), {"at": FromTick.TIME, "tags": ["date"]})
    job = job_of_tick(call, "cron:nightly:1", MARK, AT_MS + 70)
    assert (job.queue, job.id, job.priority) == ("reports", "cron:nightly:1", 3)
    envelope = Envelope.decode(job.envelope)
    assert envelope.name == "report"
    assert envelope.args == ["eu", "2026-10-25"]
    assert envelope.kwargs == {"at": "2026-10-25T02:30:00+02:00", "tags": ["date"]}
    assert (envelope.enqueued_ms, envelope.attempt) == (AT_MS + 70, 1)
    assert envelope.headers.tick == MARK
    assert envelope.headers.fills() == []


def test_the_id_of_the_schedule_as_an_argument() -> None:
    assert made(scheduled_call(report, (FromTick.SCHEDULE, "date"), {})).args == ["nightly", "date"]


def test_options_travel_with_the_call() -> None:
    call = scheduled_call(report.options(expires=60, timeout=5, queue="fast"), ("eu", "x"), {})
    envelope = made(call)
    assert call.queue == "fast"
    assert envelope.options == {"timeout": 5}
    assert envelope.expires_ms == AT_MS + 70 + 60_000


def test_what_is_sensitive_stays_so() -> None:
    assert made(scheduled_call(pay, ("4000", FromTick.DATE), {})).headers.is_sensitive


@pytest.mark.parametrize(
    "options",
    [{"delay": 5}, {"at": datetime(2030, 1, 1, tzinfo=ZoneInfo("UTC"))}, {"id": "one"}],
)
def test_options_of_a_single_job_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"report: a schedule makes many jobs.*leave it out"):
        scheduled_call(report.options(**options), ("eu", "x"), {})


def job_with(unique: Any, *args: Any, overlap: Overlap = Overlap.ALLOW) -> NewJob:
    """The job that a tick makes of a call of `report` with this rule."""
    call = scheduled_call(report.options(unique=unique), args, {}, overlap)
    return job_of_tick(call, "cron:x:1", TickMark("x", AT_MS, "UTC"), AT_MS)


def test_the_job_of_a_tick_has_the_key_of_an_enqueue() -> None:
    rule = Unique(by="region", on_conflict="keep_latest")
    job = job_with(rule, "eu", FromTick.DATE)
    as_enqueued = report.options(unique=rule).template.new_job(("eu", "y"), {})
    assert job.terms == as_enqueued.terms
    assert job.terms is not None
    # A dead letter has only its envelope, and takes its key again.
    assert unique_in(job.envelope) == unique_in(as_enqueued.envelope)
    assert unique_in(job.envelope) is not None
    assert b'"lock"' not in job.envelope
    assert job_with(None, "eu", "x").terms is None


def test_a_debounced_job_of_a_tick_waits() -> None:
    job = job_with(Debounce(60, max_wait=90), "eu", "x")
    assert job.delay_ms == 60_000
    assert job.terms is not None
    assert job.terms.unique is not None
    assert job.terms.unique.latest_ms == 90_000


@pytest.mark.parametrize("unique", [Unique(), Unique(by="day"), Throttle(60), Debounce(60)])
def test_a_key_that_each_tick_changes_is_refused(unique: Any) -> None:
    assert job_with(unique, "eu", "x").terms is not None
    with pytest.raises(ConfigError, match="from an argument that each tick fills in"):
        job_with(unique, "eu", FromTick.DATE)


@pytest.mark.parametrize(
    ("overlap", "unique", "wanted"),
    [
        (Overlap.QUEUE_ONE, Unique(), "would wait for a second one"),
        (Overlap.QUEUE_ONE, Unique(on_conflict="keep_latest"), "would wait for a second one"),
        (Overlap.CANCEL_RUNNING, Unique(), "still has the unique key"),
        (Overlap.CANCEL_RUNNING, Throttle(60), "still has the unique key"),
        (Overlap.CANCEL_RUNNING, Unique(on_conflict="keep_latest"), ""),
        (Overlap.CANCEL_RUNNING, Debounce(60), ""),
        (Overlap.SKIP, Unique(), ""),
    ],
)
def test_overlaps_of_unique_jobs(overlap: Overlap, unique: Any, wanted: str) -> None:
    if not wanted:
        assert job_with(unique, "eu", "x", overlap=overlap).terms is not None
        return
    with pytest.raises(ConfigError, match=wanted):
        job_with(unique, "eu", "x", overlap=overlap)


@pytest.mark.parametrize(
    "lock",
    [
        5,
        [],
        ["", "finished", 1, False, False, None, 0],
        ["k", "never", 1, False, False, None, 0],
        ["k", "finished", 0, False, False, None, 0],
        ["k", "finished", 1, False, False, -1, 0],
        ["k", "finished", 1, False, False, None, -1],
    ],
)
def test_a_key_that_cannot_be_read_makes_no_job(lock: Any) -> None:
    call = scheduled_call(report.options(unique=Unique()), ("eu", "x"), {})
    envelope = Envelope.decode(call.raw)
    envelope.headers = Headers({**envelope.headers.fields, "lock": lock})
    with pytest.raises(BadRecord, match="unique key"):
        job_of_tick(call._replace(raw=envelope.encode()), "x", TickMark("x", 1, "UTC"), 1)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentsError, match="missing argument 'day'"):
        scheduled_call(report, ("eu",), {})
    with pytest.raises(EncodeError, match="argument 'day' is a set"):
        scheduled_call(report, ("eu", {1}), {})
    # A placeholder stands for a whole argument.
    with pytest.raises(EncodeError, match="is a FromTick"):
        scheduled_call(report, ("eu", "x"), {"tags": [FromTick.DATE]})


def test_a_placeholder_in_a_plain_enqueue_is_refused() -> None:
    with pytest.raises(EncodeError, match="is a FromTick"):
        report.new_job(("eu", FromTick.DATE), {})


@pytest.mark.parametrize("fills", [1, [1], [["a"]], [[0, "eval"]], [[True, "date"]], [[0, 1]]])
def test_a_call_with_other_placeholders_makes_no_job(fills: Any) -> None:
    raw = to_json({"v": 1, "f": "report", "n": 1, "e": 0, "a": ["eu", ""], "h": {"fills": fills}})
    with pytest.raises(BadRecord):
        job_of_tick(ScheduledCall("q", 2, raw), "x", MARK, 1)


def test_a_job_knows_its_tick() -> None:
    context = JobContext(
        JobRef("q", "1"), "f", 2, 3, 0, None, None, 0, None, headers=Headers({}).with_tick(MARK)
    )
    found = context.scheduled_for
    assert found is not None
    assert found.isoformat() == "2026-10-25T02:30:00+02:00"
    assert found.tzinfo == ZoneInfo(BERLIN)
    assert context.schedule == "nightly"
    local = JobContext.local("f")
    assert (local.scheduled_for, local.schedule) == (None, None)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/", "", "\0", "Europe"])
def test_a_zone_that_this_machine_does_not_have(zone: str) -> None:
    mark = TickMark("nightly", AT_MS, zone)
    context = JobContext(
        JobRef("q", "1"), "f", 1, 3, 0, None, None, 0, None, headers=Headers({}).with_tick(mark)
    )
    assert context.scheduled_for is not None
    assert context.scheduled_for.isoformat() == "2026-10-25T00:30:00+00:00"


@pytest.mark.parametrize(
    "stored", [1, [], {"s": 1}, {"s": "a", "at": -1}, {"s": "a", "at": True}, {"s": "a", "z": 7}]
)
def test_a_tick_that_cannot_be_read_is_none(stored: Any) -> None:
    assert Headers({"tick": stored}).tick is None
