"""docs/reference/settings.md is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def writer() -> ModuleType:
    """tools/settings_page.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "tools/settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(writer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert writer.main(["--check"]) == 0, capsys.readouterr().err


def test_another_page_is_told(
    writer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "settings.md"
    monkeypatch.setattr(writer, "PAGE", page)
    assert writer.main(["--check"]) == 1
    assert "make settings" in capsys.readouterr().err
    assert writer.main([]) == 0
    assert writer.main(["--check"]) == 0
    page.write_text(page.read_text().replace("`15`", "`20`"))
    assert writer.main(["--check"]) == 1


@pytest.mark.parametrize("texts", ["APP", "POLICY", "WORKER", "VARIABLES"])
def test_a_setting_without_a_text_is_an_error(
    writer: ModuleType, monkeypatch: pytest.MonkeyPatch, texts: str
) -> None:
    monkeypatch.setattr(writer, texts, {"made_up": "no such setting", **getattr(writer, texts)})
    with pytest.raises(SystemExit, match="made_up"):
        writer.page()
