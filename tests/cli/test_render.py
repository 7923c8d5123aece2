"""How commands show tables: with rich, without it, and off a terminal."""

from __future__ import annotations

import pytest

from asyncjobs.cli.shared import render
from asyncjobs.cli.shared.render import Screen, Table, ago, clean, paint, show

TABLE = Table(
    ("queue", "ready"),
    [("default", "3"), (paint("mail", "red"), "12,000"), ("two\nlines", "0")],
    frozenset({"ready"}),
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_is_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_has_rich", lambda: False)


def test_off_a_terminal_rows_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show("above", TABLE)
    assert capsys.readouterr().out.splitlines() == [
        "above",
        "queue\tready",
        "default\t3",
        "mail\t12,000",
        "two\\nlines\t0",
    ]


@pytest.mark.usefixtures("terminal", "no_rich")
def test_without_rich_columns_are_lined_up(capsys: pytest.CaptureFixture[str]) -> None:
    show(TABLE)
    assert capsys.readouterr().out.splitlines() == [
        "queue        ready",
        "default          3",
        "\x1b[31mmail\x1b[0m        12,000",
        "two\\nlines       0",
    ]


@pytest.mark.usefixtures("terminal", "no_rich")
@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_without_rich_there_are_colors_only_where_they_are_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "dumb")
    show(TABLE)
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.usefixtures("terminal")
def test_with_rich_too(capsys: pytest.CaptureFixture[str]) -> None:
    show("above", TABLE)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "above",
        "queue        ready",
        "default          3",
        "mail        12,000",
        "two\\nlines       0",
    ]


@pytest.mark.usefixtures("terminal", "no_rich")
def test_a_screen_without_rich_starts_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.update("one")
        screen.update("two")
    assert capsys.readouterr().out.splitlines()[-2:] == ["two", ""]


@pytest.mark.usefixtures("terminal")
def test_a_screen_with_rich_ends_with_the_last_parts(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.update("one")
        screen.update("two", TABLE)
    assert "12,000" in capsys.readouterr().out


def test_a_screen_off_a_terminal_goes_on_below(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.update("one")
        screen.update("two")
    assert capsys.readouterr().out.splitlines() == ["one", "", "two", ""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.25, "0.2s"),
        (9.96, "10.0s"),
        (12.4, "12s"),
        (59.6, "1m 0s"),
        (250, "4m 10s"),
        (7500, "2h 5m"),
        (273_600, "3d 4h"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_stored_text_cannot_steer_a_terminal() -> None:
    assert clean("a\x1b[2Jb\x07\nä\t€") == "a\\x1b[2Jb\\x07\nä\t€"
