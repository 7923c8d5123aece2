"""A deploy under load: what one worker releases, the next one finishes, at attempt 1."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger

JOBS = 500


@pytest.fixture(params=["valkey", "redis"])
def either(request: pytest.FixtureRequest, servers: Any) -> Iterator[Server]:
    server: Server = servers.get(request.param)
    yield server
    server.command("FLUSHALL")


def test_500_running_jobs_are_released_and_finished_by_another_worker(
    run: Start, put: Put, either: Server, ledger: Ledger
) -> None:
    ids = set(put("nap", 5, number=JOBS, url=either.url))
    assert len(ids) == JOBS
    env = {"ASYNCJOBS_URL": either.url}
    first = run("worker", "tasks:app", "--grace", "300ms", env=env)
    ledger.wait_for("began", JOBS)
    first.send(signal.SIGTERM)
    assert first.end() == 4
    first.record("worker ended: 500 jobs taken, 500 released; a release spends no attempt")
    assert ledger.lines("ended") == []

    second = run("worker", "tasks:app", "--burst", "--burst-wait", "0s", env=env)
    assert second.end() == 0
    ended = ledger.lines("ended")
    assert len(ended) == JOBS
    assert set(ended) == {(id, 1) for id in ids}
    assert {attempt for _, attempt in ledger.lines("began")} == {1}
