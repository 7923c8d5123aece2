"""A folder with a program, a real store, workers with short limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import conftest
from tests.cli.conftest import Start, ledger, put, run, server, work
from tests.cli.process import TASKS
from tests.health.kit import HELD_JOBS, quick

__all__ = ["ledger", "put", "run", "server", "work"]


@pytest.fixture(autouse=True)
def _held_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`put` finds them, too."""
    monkeypatch.setattr(conftest, "TASKS", TASKS + HELD_JOBS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's working directory, with `tasks.py`."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS + HELD_JOBS)
    return folder


@pytest.fixture
def watched(work: Start, folder: Path) -> Start:
    """Start a worker that is served on any port."""
    fast = quick(folder)
    return lambda *args, env=None, terminal=False: work(
        "--health-port", "0", *args, env=fast | (env or {}), terminal=terminal
    )
