"""Steps of a job are shared out over the parts of the code that they belong to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

import asyncjobs
from benchmarks import guard, profile

PACKAGE = Path(asyncjobs.__file__).parent
HERE = Path(profile.__file__).parent


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (PACKAGE / "model/codec.py", profile.JOB),
        (PACKAGE / "app.py", profile.JOB),
        (PACKAGE / "client" / "client.py", profile.CLIENT),
        (PACKAGE / "store" / "redis" / "wire.py", profile.STORE),
        (PACKAGE / "worker" / "engine" / "loop.py", profile.WORKER),
        (PACKAGE / "policy" / "limits.py", profile.WORKER),
        (Path(asyncio.__file__), profile.EVENT_LOOP),
        (Path(redis.__file__).parent / "asyncio" / "connection.py", profile.STORE),
        (HERE / "fleet.py", profile.OTHER),
    ],
)
def test_each_file_belongs_to_a_part(file: Path, part: str) -> None:
    assert profile.part_of(str(file)) == part


def test_the_parts_add_up() -> None:
    counter = guard.Counter()
    counter.of_file.update({str(PACKAGE / "model/job.py"): 2048, asyncio.__file__: 1024})
    found = profile.by_part(counter)
    assert found[profile.JOB] == 2048 / guard.JOBS
    assert sum(found.values()) * guard.JOBS == counter.steps
