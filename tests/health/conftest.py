"""A folder with a program, a real store, workers with short limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Start, folder, ledger, put, run, server, work
from tests.health.kit import quick

__all__ = ["folder", "ledger", "put", "run", "server", "work"]


@pytest.fixture
def watched(work: Start, folder: Path) -> Start:
    """Start a worker that is served on any port."""
    fast = quick(folder)
    return lambda *args, env=None, terminal=False: work(
        "--health-port", "0", *args, env=fast | (env or {}), terminal=terminal
    )
