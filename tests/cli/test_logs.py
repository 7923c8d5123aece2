"""The worker's log: JSON lines for machines, a console for people."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Put, Start

ONCE = ("--burst", "--burst-wait", "0s")
ESCAPE = "\x1b["
LOUD = """
import logging
import warnings
import structlog
from tasks import app

logging.getLogger("shop").info("stock %d", 3, extra={"shelf": object, "level": "odd"})
logging.getLogger("shop").debug("not shown")
structlog.get_logger("shop.structured").warning("low", item="tea")
warnings.simplefilter("always")
warnings.warn("old thing", stacklevel=1)
"""


def test_json_lines_carry_the_fields_of_the_job(work: Start, put: Put) -> None:
    (id,) = put("fail")
    process = work(*ONCE)
    assert process.end() == 0
    for record in process.records():
        assert list(record)[:4] == ["timestamp", "level", "logger", "event"]
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() is not None
    (dead,) = [record for record in process.records() if record["level"] == "error"]
    assert dead["logger"] == "asyncjobs.worker"
    assert f"default/{id}: dead" in dead["event"]
    assert (dead["job_id"], dead["job"], dead["queue"], dead["attempt"]) == (
        id,
        "tasks.fail",
        "default",
        1,
    )
    assert dead["exception"].endswith("ValueError: planted fault")


def test_the_users_own_lines_are_formatted_too(work: Start, run: Start, folder: Path) -> None:
    (folder / "loud.py").write_text(LOUD)
    process = run("worker", "loud:app", env={"ASYNCJOBS_URL": "none:", "PYTHONWARNINGS": ""})
    assert process.end() == 2
    stock, low, old, _ = process.records()
    assert (stock["logger"], stock["event"], stock["level"]) == ("shop", "stock 3", "info")
    assert stock["shelf"] == "<class 'object'>"
    assert (low["logger"], low["event"], low["item"]) == ("shop.structured", "low", "tea")
    assert old["logger"] == "py.warnings"
    assert "old thing" in old["event"]


def test_the_level_holds_for_all(work: Start, put: Put) -> None:
    put("fail")
    process = work(*ONCE, "--log-level", "ERROR")
    assert process.end() == 0
    assert [record["level"] for record in process.records()] == ["error"]


def test_auto_is_json_where_nobody_watches_and_console_on_a_terminal(work: Start) -> None:
    unwatched, watched = work(*ONCE), work(*ONCE, terminal=True)
    assert (unwatched.end(), watched.end()) == (0, 0)
    assert unwatched.records()
    assert ESCAPE in watched.text
    assert "worker ended: 0 jobs taken, none released" in watched.text
    with pytest.raises(json.JSONDecodeError):
        watched.records()


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color(work: Start, put: Put, env: dict[str, str]) -> None:
    put("fail")
    process = work(*ONCE, env=env, terminal=True)
    assert process.end() == 0
    assert ESCAPE not in process.text
    assert "[error    ] default/" in process.text
    assert "job=tasks.fail" in process.text
    assert "ValueError: planted fault" in process.text


def test_json_on_a_terminal_when_asked_for(work: Start) -> None:
    process = work(*ONCE, "--log-format", "json", terminal=True)
    assert process.end() == 0
    assert process.record("worker started")


def test_console_lines_without_a_terminal_have_no_color(work: Start, put: Put) -> None:
    put("fail")
    process = work(*ONCE, "--log-format", "console")
    assert process.end() == 0
    assert ESCAPE not in process.text
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[info     \] worker ended", process.text, re.MULTILINE
    )
