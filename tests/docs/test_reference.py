"""The pages of docs/reference/ say what the code says."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

import pages
import settings_page

NEEDS = {
    "api": ("griffe", "dev"),
    "telemetry": ("opentelemetry.exporter.prometheus", "prometheus"),
}
"""A package that a page is made with, and the extra that has it."""


@pytest.fixture(params=pages.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    page: str = request.param
    if page in NEEDS:
        package, extra = NEEDS[page]
        pytest.importorskip(package, reason=f"the extra {extra} is missing")
    return page


def test_the_page_is_up_to_date(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["--check"], [name]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "word", "other"),
    [
        ("settings", "`15`", "`20`"),
        ("cli", "job", "task"),
        ("api", "job", "task"),
        ("telemetry", "histogram", "gauge"),
    ],
    indirect=["name"],
)
def test_a_page_that_differs_is_reported(
    name: str,
    word: str,
    other: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    # Made once: some take seconds.
    monkeypatch.setattr(pages, "text_of", functools.cache(pages.text_of))
    assert pages.main(["--check"], [name]) == 1
    assert f"{name}.md is not up to date; run make settings" in capsys.readouterr().err
    assert pages.main([], [name]) == 0
    assert pages.main(["--check"], [name]) == 0
    page = tmp_path / f"{name}.md"
    assert word in page.read_text()
    page.write_text(page.read_text().replace(word, other, 1))
    assert pages.main(["--check"], [name]) == 1


def test_a_public_name_without_a_place_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("griffe", reason="griffelib comes with the extra dev")
    import api_page

    monkeypatch.setitem(api_page.SECTIONS, "Types", [])
    with pytest.raises(SystemExit, match="Seconds"):
        api_page.page()


@pytest.mark.parametrize("texts", ["APP", "POLICY", "WORKER", "VARIABLES"])
def test_a_setting_without_a_text_is_an_error(monkeypatch: pytest.MonkeyPatch, texts: str) -> None:
    known = getattr(settings_page, texts)
    monkeypatch.setattr(settings_page, texts, {"made_up": "no such setting", **known})
    with pytest.raises(SystemExit, match="made_up"):
        settings_page.page()
