"""The terms of jobs as the scripts read them: malformed ones are refused whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from asyncjobs.errors import StoreError
from asyncjobs.model.clock import new_id
from asyncjobs.model.job import State
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.scripts import run, script
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.conformance.store import QUEUE, PinnedClock, Store

pytestmark = pytest.mark.anyio

MALFORMED = {
    "no letter": b"13:f- 60000 0 k",
    "an unknown letter": b"z1:x",
    "no length": b"u:f- 60000 0 k",
    "too short": b"u99:f- 60000 0 k",
    "a rest": b"u12:f- 60000 0 kx",
    "twice": b"u12:f- 60000 0 ku12:f- 60000 0 k",
    "no key": b"u11:f- 60000 0 ",
    "an unknown mode": b"u12:z- 60000 0 k",
    "no number": b"u12:f- 6x000 0 k",
    "an arrival without a barrier": b"a3:c0:",
    "an arrival without a queue": b"a4:cend",
    "an arrival of which a part is missing": b"a7:c99:end",
    "a node without a name": b"n10:0:0:4:flow",
}


@pytest.fixture(params=["valkey", "redis"])
async def store(
    request: pytest.FixtureRequest, servers: Any, anyio_backend: str
) -> AsyncIterator[Store]:
    clock, settings = PinnedClock(), StoreSettings(prefix=f"test-{new_id()}")
    backend = RedisBackend(servers.get(request.param).url, settings, now_ms=clock)
    try:
        await backend.open()
        yield Store(backend, clock, settings, lambda *_: backend)
    finally:
        await backend.close()


@pytest.mark.parametrize("terms", MALFORMED.values(), ids=MALFORMED)
async def test_a_batch_with_malformed_terms_is_refused(store: Store, terms: bytes) -> None:
    keep, keys = script("enqueue_terms"), StoreKeys(store.settings.prefix).queue(QUEUE)
    head = [b"%d" % store.clock.ms, 60_000, 600_000, 0, 0]
    jobs = [b"a", b"2", b"", b"envelope", b"", b"b", b"2", b"", b"envelope", terms]
    command = keep.command(keys, *head, *jobs, more_keys=(keys.batch("token"),))
    with pytest.raises(StoreError, match="bad terms"):
        await run(cast(RedisBackend, store.backend)._link, keep, command)
    assert await store.find("a") is None


@pytest.mark.parametrize("terms", MALFORMED.values(), ids=MALFORMED)
async def test_a_success_with_malformed_terms_has_no_effect(store: Store, terms: bytes) -> None:
    await store.enqueue("parent")
    worker = await store.worker()
    taken = await worker.take_one()
    trade, keys = script("exchange"), StoreKeys(store.settings.prefix).queue(QUEUE)
    head = [b"%d" % store.clock.ms, worker.lease.spec.id, 9, 60_000, 1, 0, 3, b"32 1", 1, 0, b""]
    end = [b"f2s", taken.receipt, b"parent"]
    jobs = [1, b"a", b"2n", b"", b"envelope", 1, b"b", b"2nt", b"", b"envelope", terms]
    command = trade.command(keys, *head, *end, *jobs)
    with pytest.raises(StoreError, match="bad terms"):
        await run(cast(RedisBackend, store.backend)._link, trade, command)
    assert await store.state("parent") is State.RUNNING
    assert await store.find("a") is None
