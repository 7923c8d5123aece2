"""Ids that a foreign writer has put into the store, and that are no text."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import NewJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_job_with_a_foreign_id_keeps_nobody_from_a_note(servers: Any, kind: Any) -> None:
    prefix = f"test-{new_id()}"
    store = RedisBackend(servers.get(kind).url, StoreSettings(prefix=prefix))
    await store.open()
    try:
        foreign: Any = b"\xff"
        for id in ("a", foreign, "b"):
            job = NewJob("q", id, 2, b"{}", has_new_id=True)
            await store.enqueue(EnqueueBatch(new_id(), [job]))
        lease = await store.lease(LeaseSpec(new_id(), "w", ("q",), 10_000))
        taken = (await lease.exchange(1, [], {"q": Demand(10)})).jobs
        assert [job.id for job in taken] == ["a", "\udcff", "b"]
        assert await lease.note([Note(job, PROGRESS, b"1") for job in taken]) == [True] * 3
        assert await lease.notes(taken) == [{PROGRESS: b"1"}] * 3
        answer = await lease.exchange(2, [Settlement.succeeded(job) for job in taken], {})
        assert answer.not_yours == []
        await lease.leave()
    finally:
        keys = await store._link.call(b"KEYS", b"*" + prefix.encode() + b"*")
        await store._link.call(b"DEL", *keys)
        await store.close()
