"""The command line's kit: a folder with a program, a real store, workers as processes."""

from __future__ import annotations

import pytest

from tests.cli.conftest import folder, ledger, put, run, server, work
from tests.processes.program import program

__all__ = ["folder", "ledger", "program", "put", "run", "server", "work"]


@pytest.fixture(autouse=True)
def _no_blocking_on_the_loop() -> None:
    """Not here: the parent's loop runs no jobs, and starts programs from it on purpose."""
