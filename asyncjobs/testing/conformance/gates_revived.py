"""Dead jobs that run again pass their limits again."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import State, held_at
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse
from asyncjobs.store.letters import LetterKey, Revival, Revived
from asyncjobs.testing.conformance.gates import enqueue, gate, gated, need_gates
from asyncjobs.testing.conformance.store import Store, ids, outcome, ref

pytestmark = pytest.mark.anyio


async def buried(store: Store, its: Gate) -> LetterKey:
    """A job with this gate, dead."""
    await enqueue(store, gated("dead", its))
    worker = await store.worker("work")
    (job,) = await worker.take(1)
    await worker.exchange(Settlement.dead(job, b"head\ndead", outcome(State.DEAD), 60_000))
    await worker.lease.leave()
    return LetterKey(ref("dead", "work"), store.clock.ms)


@pytest.mark.parametrize("when_full", ["wait", "cancel_new"])
async def test_a_revived_job_waits_at_its_gate(store: Store, when_full: str) -> None:
    its = gate(when_full=when_full)
    key = await buried(store, its)
    await enqueue(store, gated("a", gate()))
    worker = await store.worker("work")
    (running,) = await worker.take(1)
    revival = Revival(key, b"again", gate=its)
    assert await store.backend.dead.revive([revival]) == [Revived.READY]
    (record,) = await store.backend.get([key.ref])
    assert record is not None
    assert (record.state, record.held_by) == (State.HELD, held_at("api", "acme"))
    assert await worker.take(1) == []
    taken = (await worker.exchange(Settlement.succeeded(running), demand=1)).jobs
    assert ids(taken) == ["dead"]


async def test_a_revived_job_without_a_gate_passes_none(store: Store) -> None:
    need_gates(store)
    key = await buried(store, gate())
    assert await store.backend.dead.revive([Revival(key, b"again")]) == [Revived.READY]
    worker = await store.worker("work")
    assert ids(await worker.take(1)) == ["dead"]


async def test_a_limit_without_keys_is_named_alone(store: Store) -> None:
    whole = LimitUse("api", "", LimitRule(LimitKind.CONCURRENCY, 1))
    await enqueue(store, gated("a", Gate((whole,))), gated("b", Gate((whole,))))
    worker = await store.worker("work")
    await worker.take(2)
    (record,) = await store.backend.get([ref("b", "work")])
    assert record is not None
    assert record.held_by == held_at("api", "") == "limit api"
