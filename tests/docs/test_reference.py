"""docs/reference/cli.md and docs/reference/api.md are what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(program: str) -> ModuleType:
    """A program of tools/, which are in no package."""
    spec = importlib.util.spec_from_file_location(program, ROOT / f"tools/{program}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["cli_page", "api_page"])
def writer(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "api_page":
        pytest.importorskip("griffe", reason="griffelib comes with the extra dev")
    return load(request.param)


def test_the_page_is_up_to_date(writer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert writer.main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_differs_is_reported(
    writer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(writer, "PAGE", page)
    assert writer.main(["--check"]) == 1
    assert "make settings" in capsys.readouterr().err
    assert writer.main([]) == 0
    assert writer.main(["--check"]) == 0
    page.write_text(page.read_text().replace("job", "task", 1))
    assert writer.main(["--check"]) == 1


def test_a_public_name_without_a_place_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("griffe", reason="griffelib comes with the extra dev")
    writer = load("api_page")
    monkeypatch.setitem(writer.SECTIONS, "Types", [])
    with pytest.raises(SystemExit, match="Seconds"):
        writer.page()
