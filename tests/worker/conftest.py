"""The stores that the worker's tests run on, and the stage of each test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.model.clock import new_id
from tests.worker import jobs
from tests.worker.kit import Mute, NewApp, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The stage of this test; gates that are still shut open at its end."""
    jobs.stage = Stage()
    jobs.thread_gates.clear()
    yield jobs.stage
    for gate in jobs.thread_gates.values():
        gate.set()


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Mute:
    return Mute(monkeypatch)


@pytest.fixture
def thread_gate(stage: Stage) -> threading.Event:
    """The gate of the thread job called `t`."""
    return jobs.thread_gates.setdefault("t", threading.Event())


@pytest.fixture(params=["memory", "valkey", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """The store's kind."""
    name: str = request.param
    return name


@pytest.fixture
def new_app(kind: str, servers: Any) -> Iterator[NewApp]:
    """Makes apps that share one key prefix on the store of this test."""
    if kind == "memory":
        yield lambda **settings: AsyncJobs("memory:", **settings)
        return
    server = servers.get(kind)
    prefix = f"test-{new_id()}"
    yield lambda **settings: AsyncJobs(server.url, prefix=prefix, **settings)
    if ours := [key for key in server.command("KEYS", "*") if prefix.encode() in key]:
        server.command("DEL", *ours)


@pytest.fixture
def app(new_app: NewApp) -> AsyncJobs:
    """One app on the store of this test."""
    return new_app()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Path]:
    """A file to which jobs append; each line is written by one call, so none is torn."""
    path = tmp_path / "ledger"
    # Not blocking, or the guard against blocking calls would refuse it on the loop.
    jobs.ledger = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NONBLOCK)
    try:
        yield path
    finally:
        os.close(jobs.ledger)
