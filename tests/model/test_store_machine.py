"""Any sequence of calls has the answers and the effects that the model says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from tests.model.listings import ListingMachine
from tests.model.machine import MakeStore

PACE = settings(
    max_examples=60,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def hold_to_the_model(make_store: MakeStore, pace: settings = PACE) -> None:
    """Raises AssertionError, with the shortest calls found, where the store differs."""
    run_state_machine_as_test(lambda: ListingMachine(make_store), settings=pace)


@pytest.mark.parametrize("kind", ["memory", "valkey", "redis"])
def test_any_calls_have_the_answers_of_the_model(servers: Any, kind: str) -> None:
    if kind == "memory":
        hold_to_the_model(lambda config, clock: MemoryBackend(config, now_ms=clock))
        return
    server = servers.get(kind)
    try:
        hold_to_the_model(lambda config, clock: RedisBackend(server.url, config, now_ms=clock))
    finally:
        server.command("FLUSHALL")
