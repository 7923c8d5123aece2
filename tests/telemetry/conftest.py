"""The worker's stage and stores, and a reading of what is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Without it, resources look for machine details in threads of their own.
os.environ.setdefault("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel")

pytest.importorskip("opentelemetry.sdk.metrics", reason="opentelemetry-sdk is not installed")

from tests.cli.conftest import folder, ledger, put, run, server, work
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording
from tests.worker.conftest import mute, new_app, stage, thread_gate

__all__ = [
    "folder",
    "ledger",
    "mute",
    "new_app",
    "put",
    "run",
    "server",
    "stage",
    "thread_gate",
    "work",
]


@pytest.fixture(params=["memory", "valkey"])
def kind(request: pytest.FixtureRequest) -> str:
    """The store's kind: what is measured does not depend on more of it."""
    name: str = request.param
    return name


@pytest.fixture
def reading() -> Iterator[Reading]:
    reading = Reading()
    yield reading
    reading.provider.shutdown()


@pytest.fixture
def recording() -> Iterator[Recording]:
    recording = Recording()
    yield recording
    recording.provider.shutdown()
