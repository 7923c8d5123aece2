"""What waits for `make test-rest` is chosen by the names of files, which may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.later import NOW

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("file", sorted(NOW))
def test_each_file_that_runs_on_both_servers_is_there(file: str) -> None:
    assert (TESTS / file).is_file()


def test_a_case_on_the_second_server_and_a_long_one_wait(request: pytest.FixtureRequest) -> None:
    """`make test` runs neither, and whoever gives `-m` gets what that says."""
    assert request.config.getini("addopts")[-2:] == ["-m", "not second_server and not long"]
