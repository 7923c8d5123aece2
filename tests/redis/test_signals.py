"""What is said on the control channel, and what a release makes of kinds it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelCall, QueueChanged, ReclaimDue, Signal
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.control import decode_signal, encode_signal
from asyncjobs.store.seam import StoreSettings

pytestmark = pytest.mark.anyio

SIGNALS = [
    CancelCall("entry", JobRef("work", "a job")),
    CancelCall("entry", JobRef("work", "\udcff")),
    ReclaimDue("work"),
    QueueChanged("work"),
]


@pytest.mark.parametrize("signal", SIGNALS, ids=str)
def test_each_kind_is_read_as_it_was_written(signal: Signal) -> None:
    assert decode_signal("work", encode_signal(signal)) == signal


@pytest.mark.parametrize("data", [b"!later", b"!reclaim now", b"", b"entry", b"!"])
def test_what_is_unknown_is_passed_over(data: bytes) -> None:
    assert decode_signal("work", data) is None


async def test_a_lease_hears_what_it_knows(servers: Any) -> None:
    server = servers.get("valkey")
    backend = RedisBackend(server.url, StoreSettings(prefix=f"test-{new_id()}"))
    lease = backend.attach(LeaseSpec(new_id(), "worker", ("work",), 60_000))
    channel = backend._keys.queue("work").control
    try:
        await lease.listen(0.01)
        server.command("PUBLISH", channel, b"!of a later release")
        server.command("PUBLISH", channel, encode_signal(ReclaimDue("work")))
        assert list(await lease.listen(20)) == []
        assert list(await lease.listen(20)) == [ReclaimDue("work")]
    finally:
        await backend.close()
