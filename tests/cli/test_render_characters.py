"""JSON stays JSON on a stdout that lacks some of its characters."""

from __future__ import annotations

import io
import json
import sys

import pytest

from asyncjobs.cli.shared.render import show_json

VALUE = {"é–漢": ["\U0001f600", "ü\x1b[2J", "plain"], "n": 1}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8", "utf-16"])
def test_json_stays_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stdout)
    show_json(VALUE)
    stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert json.loads(text) == VALUE
    assert "\x1b" not in text
