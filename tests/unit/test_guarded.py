"""What user code raises at us ends at us, and is reported once on stderr."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncjobs.events import Event, Events, JobEnqueued
from asyncjobs.guard import guarded
from asyncjobs.guard.guarded import GuardedLog, call, error_text, report
from asyncjobs.model.refs import JobRef
from asyncjobs.worker.upkeep import Upkeep

RAISED = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
EVENT = JobEnqueued(JobRef("mail", "1"), "tasks.send", True)
NAME = "asyncjobs.test"


class Wicked(Exception):
    """An exception of which nothing can be asked."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    @property  # type: ignore[misc]
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise SystemExit("no cause")


class WickedKind(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise SystemExit("no name")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=WickedKind):
    pass


class Handler(logging.Handler):
    """Does what a test says with each record."""

    def __init__(self, do: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._do = do

    def emit(self, record: logging.LogRecord) -> None:
        self._do(record)


@pytest.fixture(autouse=True)
def nothing_reported_yet() -> Iterator[None]:
    guarded._reported.clear()
    yield
    guarded._reported.clear()


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    """Send the records of the test's logger to a function, and to nobody else."""
    logger = logging.getLogger(NAME)

    def to(do: Callable[[logging.LogRecord], object]) -> None:
        logger.addHandler(Handler(do))

    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield to
    logger.handlers.clear()
    logger.propagate = True


def raiser(error: BaseException | type[BaseException]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("kind", RAISED)
def test_a_handler_that_raises_is_reported_once(
    handle: Any, capsys: pytest.CaptureFixture[str], kind: type[BaseException]
) -> None:
    handle(raiser(kind("planted")))
    log = GuardedLog(NAME)
    for number in range(3):
        log.warning("line %d", number, extra={"job_id": "7"})
    told = capsys.readouterr().err
    assert told.count("asyncjobs: writing a line to the log") == 1
    assert "what could not be logged: line 0" in told
    assert kind.__name__ in told


def test_a_record_factory_with_our_fields_costs_no_line(
    handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`extra=` of a plain logger would raise KeyError: the usual way to lose an attempt."""
    factory = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.job_id = record.queue = "of the factory"
        return record

    logging.setLogRecordFactory(make)
    records: list[logging.LogRecord] = []
    handle(records.append)
    try:
        GuardedLog(NAME).error("dead", extra={"job_id": "7"})
    finally:
        logging.setLogRecordFactory(factory)
    (record,) = records
    assert (record.__dict__["job_id"], record.__dict__["queue"]) == ("7", "of the factory")


def test_a_record_names_the_line_that_has_written_it(handle: Any) -> None:
    records: list[logging.LogRecord] = []
    handle(records.append)
    log = GuardedLog(NAME)
    try:
        raise ValueError("planted")
    except ValueError:
        log.exception("caught %s", "it")
    log.log(logging.INFO, "plain")
    log.debug("below", stacklevel=1)
    assert {record.funcName for record in records} == {
        "test_a_record_names_the_line_that_has_written_it"
    }
    assert records[0].getMessage() == "caught it"
    assert records[0].exc_info is not None
    assert records[0].exc_info[0] is ValueError


def test_arguments_of_a_line_that_cannot_be_shown_are_left_out(
    capsys: pytest.CaptureFixture[str], handle: Any
) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise SystemExit("no repr")

    handle(lambda record: record.getMessage())
    GuardedLog(NAME).error("listener %r failed", Shy())
    assert "what could not be logged: listener %r failed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", RAISED)
def test_a_listener_that_raises_disturbs_nobody(
    caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    hub, heard = Events(), list[Event]()
    hub.on(JobEnqueued, raiser(kind("planted")))
    hub.on(JobEnqueued, heard.append)
    for _ in range(3):
        hub.emit(EVENT)
    assert heard == [EVENT] * 3
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is kind


@pytest.mark.parametrize("error", [Wicked(), Nameless(), ExceptionGroup("g", [Wicked()])])
def test_no_error_is_too_wicked_to_be_reported(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    call("the duty", raiser(error))
    assert "asyncjobs: the duty failed" in capsys.readouterr().err
    assert error_text(error)


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_without_a_stderr_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    report("a step", ValueError("planted"))


def test_reports_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3 * guarded.MOST_REPORTS):
        report(f"step {number}", ValueError("x" * 100_000))
    told = capsys.readouterr().err
    assert told.count("asyncjobs: step") == guarded.MOST_REPORTS
    assert len(told) <= guarded.MOST_REPORTS * (guarded.MOST_CHARACTERS + 1)


class Duty:
    """Fails in one way, then says that it has been asked again."""

    def __init__(self) -> None:
        self.runs = 0
        self.asked_again = asyncio.Event()

    async def run(self) -> float:
        self.runs += 1
        if self.runs > 1:
            self.asked_again.set()
            return 60.0
        raise ValueError("planted")


@pytest.mark.anyio
async def test_a_log_that_raises_ends_no_duty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    handler = Handler(raiser(SystemExit("planted")))
    logging.getLogger("asyncjobs.worker").addHandler(handler)
    duty = Duty()
    upkeep = asyncio.create_task(Upkeep([duty]).run())
    try:
        async with asyncio.timeout(10):
            await duty.asked_again.wait()
    finally:
        logging.getLogger("asyncjobs.worker").removeHandler(handler)
        upkeep.cancel()
    assert "Duty failed" in capsys.readouterr().err
