"""Log lines know their job and span, in a host's own logging and in the worker's."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from asyncjobs import AsyncJobs, Worker
from asyncjobs.telemetry.logs import JobContextFilter, JobLog, add_job_context, mask_job_values
from tests.cli.conftest import Put, Start
from tests.telemetry.hiding import SECRET

SPAN = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
ONCE = ("--burst", "--burst-wait", "5s")
TAKES_S = 0.05
"""How long jobs wait and run here."""
LEAST_MS = 40
"""Less than that: a timer may be early by the step of a clock."""


class Kept(logging.Handler):
    """Keeps records and the lines that a formatter makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(JobContextFilter())
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))

    def about(self, text: str) -> list[logging.LogRecord]:
        return [record for record in self.records if text in record.getMessage()]


@pytest.fixture
def kept() -> Any:
    """On the root logger, as a host's own handler would be."""
    root, handler = logging.getLogger(), Kept()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def run(name: str, *args: Any, log: JobLog | None = None) -> str:
    """One job of `jobs` on a memory store, to its end; returns its id."""
    app = AsyncJobs("memory:")
    for function, options in JOBS.items():
        app.job(name=function.__name__, **options)(function)
    if log is not None:
        log.attach(app.events)
    async with app:
        function = app.registry.find(name)
        assert function is not None
        handle = await function.enqueue(*args)
        await asyncio.sleep(TAKES_S)
        await Worker(app).run(burst=True, burst_wait=10)
        return handle.id


async def speak(word: str) -> None:
    fields = add_job_context(None, "info", {"event": word, "queue": "mine"})
    logging.getLogger("shop").info("said %s", word, extra={"seen": dict(fields)})
    await asyncio.sleep(TAKES_S)


async def speak_in_span(word: str) -> None:
    with use_span(NonRecordingSpan(SPAN)):
        await speak(word)


async def leak(password: str) -> None:
    log = logging.getLogger("shop")
    log.info("login with %s", password, extra={"password": "any", "given": {"a": [password]}})
    try:
        raise ValueError(password)
    except ValueError:
        log.exception("failed with %r", password)
    fields = {"event": f"x {password}", "password": 1, "n": 2, "deep": [{"password": 3}]}
    assert mask_job_values(None, "info", fields) == {
        "event": "x ***",
        "password": "***",
        "n": 2,
        "deep": [{"password": "***"}],
    }
    raise RuntimeError(f"no {password}")


async def write_badly(password: str) -> None:
    log = logging.getLogger("shop")
    log.info("%d times", password, extra={"given": [password]})
    log.info("still here", extra={"queue": password})


async def fail_once() -> None:
    await asyncio.sleep(TAKES_S)
    raise ValueError("planted")


JOBS: dict[Any, dict[str, Any]] = {
    speak: {},
    speak_in_span: {},
    leak: {"sensitive": ["password"], "retry": False},
    write_badly: {"sensitive": ["password"], "retry": False},
    fail_once: {"retry": False},
}


@pytest.mark.anyio
async def test_a_line_of_a_job_tells_which(kept: Kept) -> None:
    id = await run("speak", "hello")
    (record,) = kept.about("said hello")
    expected = {"job_id": id, "job": "speak", "attempt": 1}
    assert {name: getattr(record, name) for name in expected} == expected
    assert record.__dict__["queue"] == "default"
    # What is there already stays.
    assert record.__dict__["seen"] == {"event": "hello", "queue": "mine", **expected}
    assert not hasattr(record, "trace_id")


@pytest.mark.anyio
async def test_a_line_in_a_span_has_its_ids(kept: Kept) -> None:
    await run("speak_in_span", "hello")
    (record,) = kept.about("said hello")
    found = record.__dict__
    ids = (found["trace_id"], found["span_id"], found["trace_flags"])
    assert ids == (f"{0xABC:032x}", f"{0xDEF:016x}", "01")
    assert found["seen"]["trace_id"] == found["trace_id"]


def test_outside_of_a_job_nothing_is_added() -> None:
    assert add_job_context(None, "info", {"event": "x"}) == {"event": "x"}
    fields = {"event": SECRET, "password": "p"}
    assert mask_job_values(None, "info", dict(fields)) == fields


@pytest.mark.anyio
async def test_a_hosts_handler_hides_what_is_sensitive(kept: Kept) -> None:
    await run("leak", SECRET)
    (login,) = kept.about("login with ***")
    assert login.__dict__["password"] == "***"
    assert login.__dict__["given"] == {"a": ["***"]}
    assert kept.about("failed with '***'")
    (dead,) = kept.about("dead at attempt 1")
    assert dead.exc_info is None
    text = kept.lines[kept.records.index(dead)]
    assert text.count("Traceback (most recent call last)") == 1
    assert text.endswith("RuntimeError: no ***")
    assert not [line for line in kept.lines if "hunter2" in line]


@pytest.mark.anyio
async def test_a_line_that_cannot_be_masked_is_not_shown_and_ends_no_job(kept: Kept) -> None:
    await run("write_badly", SECRET)
    (bad,) = kept.about("could not be masked: TypeError")
    assert bad.__dict__["given"] == "***"
    (after,) = kept.about("still here")
    assert after.__dict__["queue"] == "***"
    assert not [line for line in kept.lines if "hunter2" in line]


@pytest.mark.anyio
async def test_the_workers_own_lines_hide_it_without_a_filter_too(kept: Kept) -> None:
    kept.filters.clear()
    await run("leak", SECRET)
    (dead,) = kept.about("dead at attempt 1")
    assert (dead.exc_info, dead.levelno) == (None, logging.ERROR)
    assert (dead.__dict__["job"], dead.funcName) == ("leak", "_dead")
    text = kept.lines[kept.records.index(dead)]
    assert text.endswith("RuntimeError: no ***")
    assert text.count("Traceback (most recent call last)") == 1
    assert "hunter2" not in text


@pytest.mark.anyio
async def test_the_error_itself_is_kept_where_nothing_is_sensitive(kept: Kept) -> None:
    await run("fail_once")
    (dead,) = kept.about("dead at attempt 1")
    assert dead.levelno == logging.ERROR
    assert dead.exc_info is not None
    assert isinstance(dead.exc_info[1], ValueError)
    assert dead.__dict__["duration_ms"] >= LEAST_MS


@pytest.mark.anyio
async def test_a_line_a_job_has_the_level_that_was_asked_for(kept: Kept) -> None:
    id = await run("speak", "hello", log=JobLog(logging.INFO, args=True))
    started, ended = kept.about(f"default/{id}: ")
    assert (started.getMessage(), started.levelno) == (f"default/{id}: started", logging.INFO)
    assert started.__dict__["job_args"] == ["hello"]
    assert started.__dict__["queue_time_ms"] >= LEAST_MS
    assert ended.getMessage().startswith(f"default/{id}: succeeded after ")
    assert ended.__dict__["duration_ms"] >= LEAST_MS
    assert ended.__dict__["job_id"] == id


@pytest.mark.anyio
async def test_a_line_a_job_needs_its_level_and_tells_no_arguments(kept: Kept) -> None:
    logging.getLogger("asyncjobs.jobs").setLevel(logging.INFO)
    try:
        await run("speak", "hello", log=JobLog())
    finally:
        logging.getLogger("asyncjobs.jobs").setLevel(logging.NOTSET)
    assert [r for r in kept.records if r.name == "asyncjobs.jobs"] == []
    id = await run("fail_once", log=JobLog())
    lines = [r for r in kept.about(f"default/{id}: ") if r.name == "asyncjobs.jobs"]
    # The worker itself tells of a death: no second line.
    assert [(r.getMessage(), r.levelno) for r in lines] == [(f"default/{id}: started", 10)]
    assert not hasattr(lines[0], "job_args")


@pytest.mark.parametrize(
    ("flags", "levels"),
    [((), []), (("--log-jobs",), ["info"] * 2), (("--log-level", "debug"), ["debug"] * 2)],
)
def test_the_workers_lines(
    work: Start, put: Put, flags: tuple[str, ...], levels: list[str]
) -> None:
    (id,) = put("nap", 0)
    process = work(*ONCE, *flags, "--log-format", "json")
    assert process.end() == 0
    lines = [r for r in process.records() if r["logger"] == "asyncjobs.jobs"]
    assert [line["level"] for line in lines] == levels
    assert [line["event"].split(" after")[0] for line in lines] == [
        f"default/{id}: {word}" for word in ("started", "succeeded")
    ][: len(levels)]


def test_an_import_configures_no_logging() -> None:
    program = """
import logging, structlog
def setup():
    root = logging.getLogger()
    ours = logging.getLogger("asyncjobs")
    return (root.handlers, root.level, ours.handlers, ours.level, ours.propagate,
            structlog.is_configured())
before = setup()
import asyncjobs, asyncjobs.telemetry.logs, asyncjobs.worker.worker
asyncjobs.AsyncJobs("memory:")
assert setup() == before, (before, setup())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
