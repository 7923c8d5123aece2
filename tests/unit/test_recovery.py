"""What a parent says when it cannot give the jobs of a dead process back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asyncjobs.host.supervisor.recovery import Recovery, StoreAccess, lease_message
from asyncjobs.store.lease import LeaseSpec

pytestmark = pytest.mark.anyio

SPEC = LeaseSpec("0" * 28, "w", ("mail", "default"), 15_000)


class DeadChild:
    """As much of a child as a recovery asks for."""

    number = 2
    pid = 4711

    def __init__(self, lease: dict[str, Any] | None) -> None:
        self.lease = lease


async def recover(child: Any) -> Recovery:
    recovery = Recovery()
    await recovery.recover(child)
    return recovery


async def test_a_store_that_is_away_costs_the_lease_and_shows_no_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = StoreAccess("redis://user:hush@127.0.0.1:1/0", "asyncjobs")
    with caplog.at_level(logging.DEBUG):
        recovery = await recover(DeadChild(lease_message(SPEC, access)))
    assert not recovery
    (record,) = [line for line in caplog.records if line.levelno >= logging.WARNING]
    said = record.getMessage()
    assert said.startswith("process 2 (pid 4711): its jobs could not be given back now (")
    assert said.endswith("they run again when its lease ends")
    assert "hush" not in caplog.text


async def test_who_was_never_ready_has_nothing_to_give_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await recover(DeadChild(None))
    assert caplog.records == []
