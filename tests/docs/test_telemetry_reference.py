"""docs/reference/telemetry.md is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus", reason="extra prometheus is missing")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def writer() -> ModuleType:
    """tools/telemetry_page.py, which is a program and in no package."""
    path = ROOT / "tools/telemetry_page.py"
    spec = importlib.util.spec_from_file_location("telemetry_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(writer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert writer.main(["--check"]) == 0, capsys.readouterr().err


def test_another_page_is_told(
    writer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "telemetry-reference.md"
    monkeypatch.setattr(writer, "PAGE", page)
    assert writer.main(["--check"]) == 1
    assert writer.main([]) == 0
    assert writer.main(["--check"]) == 0
    page.write_text(page.read_text().replace("histogram", "gauge"))
    assert writer.main(["--check"]) == 1
