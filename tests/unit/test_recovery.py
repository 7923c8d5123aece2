"""What a parent says when it cannot give the jobs of a dead process back."""

from __future__ import annotations

import asyncio
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

    def __init__(self, lease: dict[str, Any] | None, code: int = -9) -> None:
        self.lease = lease
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended.set_result(code)


async def recover(child: Any) -> None:
    recovery = Recovery()
    await recovery.prepare(child)
    await recovery.recover(child)


async def test_a_store_that_is_away_costs_the_lease_and_shows_no_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = StoreAccess("redis://user:hush@127.0.0.1:1/0", "asyncjobs")
    with caplog.at_level(logging.DEBUG):
        await recover(DeadChild(lease_message(SPEC, access)))
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


@pytest.mark.parametrize(
    "message",
    [
        {"id": "of another release"},
        {"id": 1, "worker": 2, "queues": None, "duration_ms": "", "url": None, "prefix": 0},
        lease_message(SPEC, StoreAccess("carrier-pigeon://loft", "asyncjobs")),
    ],
)
async def test_no_message_ends_the_parent(
    message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await recover(DeadChild(message))
    (record,) = caplog.records
    assert "its jobs could not be given back now" in record.getMessage()


@pytest.mark.parametrize("code", [0, 4, 6])
async def test_who_has_left_by_itself_needs_no_store(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    access = StoreAccess("redis://127.0.0.1:1/0", "asyncjobs")
    await recover(DeadChild(lease_message(SPEC, access), code))
    assert caplog.records == []
