"""Every code block of the README and of docs/ runs, or says why it does not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncjobs.testing.servers import available_servers
from tests.docs.page import Block, Workshop, blocks_of, missing_line

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return list(blocks_of(page, name_of(page)))


WITH_BLOCKS = [page for page in PAGES if any(not block.reason for block in blocks(page))]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    if "valkey" not in available_servers():
        pytest.skip("no wheel of Valkey for this machine, so no embedded store")
    # A socket's path has little room.
    temporary = Path(tempfile.mkdtemp(prefix="ajt-"))
    folder = tmp_path / "project"
    folder.mkdir()
    with Workshop(folder, temporary) as made:
        yield made
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_of_a_page_runs(page: Path, workshop: Workshop) -> None:
    for block in blocks(page):
        if block.reason:
            continue
        try:
            workshop.run(block)
        except Exception as error:
            pytest.fail(f"{block.place}: {error}")
    workshop.stop()


def test_a_block_that_does_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [block for page in PAGES for block in blocks(page) if block.reason]
    with capsys.disabled():
        print("\nblocks of the documents that do not run:")
        for block in left_out:
            print(f"  {block.place} ({block.language}): {block.reason}")
    silent = [
        block.place
        for page in PAGES
        for block in blocks(page)
        if not block.reason and block.language not in ("python", "console", "stop")
    ]
    assert silent == []


# The machinery itself: a page that is wrong must not pass.


def test_missing_line() -> None:
    output = "one  1\ntwo 2 s\nthree\n"
    assert missing_line(["one 1", "", "three"], output) is None
    assert missing_line(["two …", "…"], output) is None
    assert missing_line(["two … s"], output) is None
    assert missing_line(["three", "one 1"], output) == "one 1"
    assert missing_line(["two 3 s"], output) == "two 3 s"


def block_of(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return list(blocks_of(page, "page.md"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```python\nraise SystemExit(3)\n```\n", "ended with 3"),
        ("```python\nasync def main():\n    1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\n# tasks.py\nimport nothing_like_it\n```\n", "nothing_like_it"),
        ("```console\n$ echo one\ntwo\n```\n", "not shown: two"),
        ("```console\n$ false\n```\n", "ended with 1"),
        ("```console\n$ sh -c 'echo one'\ntwo\n^C\n```\n", "not shown: two"),
        ("```\necho\n```\n", "runs only by a reason"),
    ],
)
def test_a_wrong_block_fails(workshop: Workshop, tmp_path: Path, text: str, told: str) -> None:
    (block,) = block_of(tmp_path, text)
    with pytest.raises(AssertionError, match=told):
        workshop.run(block)


def test_a_block_with_a_reason(tmp_path: Path) -> None:
    text = "<!-- docs: not run: needs Docker -->\n```yaml\na: 1\n```\n\n<!-- docs: stop -->\n"
    first, second = block_of(tmp_path, text)
    assert (first.language, first.reason, first.place) == ("yaml", "needs Docker", "page.md:1")
    assert (second.language, second.reason) == ("stop", "")


@pytest.mark.parametrize(
    "text",
    ["- a list\n  ```python\n  1 / 0\n  ```\n", "```python\n", "<!-- docs: no -->\n```sh\n```\n"],
)
def test_no_block_is_overlooked(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssertionError):
        block_of(tmp_path, text)
