"""A worker process collects garbage less often, unless its app has said how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.cli.worker.collector import NEW_OBJECTS
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start

TELLING = """
import gc, sys
from asyncjobs import AsyncJobs
from asyncjobs.events import WorkerStopped
{own}
app = AsyncJobs()
app.on(WorkerStopped, lambda _: print("gc:", gc.get_threshold()[0], gc.get_freeze_count() > 0,
                                      file=sys.stderr))
"""


@pytest.mark.parametrize(
    ("own", "threshold"), [("", NEW_OBJECTS), ("gc.set_threshold(50_000)", 50_000)]
)
def test_the_thresholds_of_a_worker(
    run: Start, server: Server, folder: Path, own: str, threshold: int
) -> None:
    (folder / "telling.py").write_text(TELLING.format(own=own))
    process = run("worker", "telling:app", "--burst", env={"ASYNCJOBS_URL": server.url})
    assert process.end() == 0
    assert f"gc: {threshold} True" in process.text
