"""What waits for `make test-rest` is chosen by the names of files, which may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.later import LONG, NOW

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("file", sorted(NOW))
def test_each_file_that_runs_on_both_servers_is_there(file: str) -> None:
    assert (TESTS / file).is_file()


@pytest.mark.parametrize("name", sorted(LONG))
def test_each_long_test_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    function, _, case = test.removesuffix("]").partition("[")
    path = TESTS / file
    assert f"def {function}(" in path.read_text()
    # Its case is a page, or a word of the files beside it.
    is_word = any(case in beside.read_text() for beside in path.parent.glob("*.py"))
    assert is_word or (TESTS.parent / case).is_file()


def test_a_case_on_the_second_server_and_a_long_one_wait(request: pytest.FixtureRequest) -> None:
    """`make test` runs neither, and whoever gives `-m` gets what that says."""
    assert request.config.getini("addopts")[-2:] == ["-m", "not second_server and not long"]
