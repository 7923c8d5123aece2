"""Texts that jobs choose, on a terminal: none steers it, none has a line of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.cli.shared import logs, render
from asyncjobs.cli.shared.render import Table, block, hanging, line, show, show_json
from asyncjobs.guard.texts import safe_repr, visible
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.dying import Corpse, bury
from tests.cli.test_usage import call

# ESC, a title for the window, BEL, C1's CSI, a turned direction, and a line like the log's.
FORGED = "2027-01-01 00:00:00 [info     ] forged"
EVIL = f"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\r\n{FORGED}\nproblem: forged\n\thealthy"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MORE = f"""
import logging
from asyncjobs import Discard

EVIL = {EVIL!r}


class Odd:
    def __repr__(self):
        return EVIL


class Mute:
    def __repr__(self):
        raise RuntimeError("no text")


@app.job(retry=False)
async def evil_error() -> None:
    raise ValueError(EVIL)


@app.job(retry=2)
async def evil_retry() -> None:
    raise ValueError(EVIL)


@app.job
async def evil_discard() -> None:
    raise Discard(EVIL)


@app.job
async def evil_log() -> None:
    extra = {{"field": EVIL, "odd": Odd(), "mute": Mute(), EVIL: 1}}
    logging.getLogger(EVIL).warning("said: %s", EVIL, extra=extra, stack_info=True)
    logging.getLogger("shop").warning(Odd())
"""


@pytest.fixture
def evil(folder: Path) -> None:
    (folder / "tasks.py").write_text((folder / "tasks.py").read_text() + MORE)


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("name", ["evil_error", "evil_retry", "evil_discard", "evil_log"])
def test_the_log_on_a_terminal(work: Start, put: Put, name: str) -> None:
    put(name, more=MORE)
    process = work("--burst", "--burst-wait", "0s", env={"NO_COLOR": "1"}, terminal=True)
    assert process.end() == 0
    lines = process.text.replace("\r\n", "\n").split("\n")
    assert [text for text in lines if STEERING.search(text)] == []
    assert [text for text in lines if text.startswith((FORGED, "problem:", "\thealthy"))] == []
    # It is all there, written out.
    assert "\\x1b]0;owned\\x07" in process.text


@pytest.mark.usefixtures("evil")
def test_the_log_as_json(work: Start, put: Put) -> None:
    put("evil_log", more=MORE)
    process = work("--burst", "--burst-wait", "0s", "--log-format", "json")
    assert process.end() == 0
    assert STEERING.search(process.text) is None
    (said,) = [record for record in process.records() if record["event"].startswith("said: ")]
    assert said["field"] == EVIL


@pytest.fixture
def corpse(server: Server) -> None:
    letter = json.dumps(
        {"s": "dead", "n": 1, "f": EVIL, "t": EVIL, "m": EVIL, "b": EVIL, "d": EVIL}
    )
    call_ = {
        "v": 1,
        "f": EVIL,
        "n": 1,
        "e": 1,
        "a": [EVIL],
        "h": {"errors": [{"m": EVIL, "b": EVIL}]},
    }
    bury(server.url, Corpse("a", letter=f"{letter}\n{json.dumps(call_)}".encode()))
    server.command("SADD", "asyncjobs:queues", EVIL.encode())


@pytest.mark.usefixtures("corpse")
@pytest.mark.unaudited("the name of a queue is foreign")
@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "command", ["stats", "check", "doctor", "jobs show a", "dead list", "dead show a"]
)
def test_commands(
    server: Server, monkeypatch: pytest.MonkeyPatch, command: str, rich: bool, terminal: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(render, "_has_rich", lambda: rich)
    monkeypatch.setattr(render, "_is_terminal", lambda: terminal)
    for flags in ([], ["--json"]):
        result = call(*command.split(), *flags, env={"ASYNCJOBS_URL": server.url})
        # The doctor shows nothing that is stored, and finds a server that saves nothing.
        shows_data = command != "doctor"
        assert result.exit_code == (0 if shows_data else 1)
        # A word of it: a table on a terminal breaks lines.
        assert ("forged" in result.output) is shows_data
        for text in result.output.split("\n"):
            assert STEERING.search(re.sub("\x1b\\[[0-9;]*m", "", text)) is None
            assert not text.startswith((FORGED, "problem: forged", "\thealthy"))


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": EVIL, "b\x9b": ["\u202e", "ü☃"], "n": 1.5}
    show_json(value)
    text = capsys.readouterr().out
    assert STEERING.search(text) is None
    assert "ü☃" in text
    assert json.loads(text) == value
    show_json({"id": "\udcff", "list": ["\ud800", {"\udcfe": None}]})
    found = json.loads(capsys.readouterr().out)
    assert found == {"id": "\\udcff", "list": ["\\ud800", {"\\udcfe": None}]}


def test_a_tab_is_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    show(Table(("a", "b"), [("x\ty", "z\n\tproblem")]))
    assert capsys.readouterr().out.splitlines() == ["a\tb", "x\\ty\tz\\n\\tproblem"]


def test_set_off() -> None:
    assert line("a\nb\tc\x1b") == "a\\nb\\tc\\x1b"
    assert hanging("a\nb") == "a\n    b"
    assert block("a\nb\x07") == "    a\n    b\\x07"
    assert visible("ü☃ plain") == "ü☃ plain"
    assert visible("\u202e\x9b") == "\\u202e\\x9b"


def test_a_value_without_a_text() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    fields: Any = {"event": Mute(), "count": 3, "field": "a\nb", "exception": "T\nE: x"}
    found = logs._harmless(None, "info", fields)
    assert found["event"] == "(a Mute without a text: RuntimeError)" == safe_repr(Mute())
    assert found["count"] == 3
    assert found["field"] == "a\\nb"
    assert found["exception"] == "    T\n    E: x"
