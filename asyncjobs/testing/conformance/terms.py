"""A store refuses what it cannot keep, and stores nothing then. It never ignores a term."""

from __future__ import annotations

import pytest

from asyncjobs.errors import MissingCapability
from asyncjobs.model.job import NewJob
from asyncjobs.model.terms import (
    Arrival,
    Barrier,
    FlowNode,
    Gate,
    LimitKind,
    LimitRule,
    LimitUse,
    Terms,
    Unique,
)
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.store import Store, are_new

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = LimitRule(LimitKind.CONCURRENCY, 1)
TERMS = [
    ("unique", Terms(unique=Unique(b"key", "finished", 60_000))),
    ("gates", Terms(gate=Gate((LimitUse("api", "acme", ONE_AT_A_TIME),)))),
    ("gates", Terms(gate=Gate(turn="acme"))),
    ("flows", Terms(behind="start")),
    ("flows", Terms(arrivals=(Arrival("work", "end"),))),
    ("flows", Terms(node=FlowNode("work", "import", "first"))),
]


@pytest.mark.parametrize("is_lone", [False, True])
@pytest.mark.parametrize(("capability", "terms"), TERMS)
async def test_terms_that_it_cannot_keep(
    store: Store, capability: str, terms: Terms, is_lone: bool
) -> None:
    if getattr(store.backend.capabilities, capability):
        pytest.skip(f"it has the capability {capability}")
    jobs = [NewJob("work", "strict", 2, b"{}", has_new_id=True, terms=terms)]
    if not is_lone:
        jobs.insert(0, NewJob("work", "plain", 2, b"{}", has_new_id=True))
    with pytest.raises(MissingCapability, match=rf"'{capability}'.*work/strict.*use a store"):
        await store.backend.enqueue(EnqueueBatch("token", jobs))
    assert sum((await store.counts()).ready) == 0


@pytest.mark.parametrize("has_new_id", [False, True])
async def test_barriers_that_it_cannot_keep(store: Store, has_new_id: bool) -> None:
    """Also beside a lone job, for which a store may have a way of its own."""
    if store.backend.capabilities.flows:
        pytest.skip("it has the capability flows")
    job = NewJob("work", "a", 2, b"{}", has_new_id=has_new_id)
    batch = EnqueueBatch("token", [job], (Barrier("work", "end", 1),))
    with pytest.raises(MissingCapability, match=r"'flows'.*'end'"):
        await store.backend.enqueue(batch)
    assert sum((await store.counts()).ready) == 0


async def test_terms_that_ask_for_nothing(store: Store) -> None:
    job = NewJob("work", "a", 2, b"{}", has_new_id=True, terms=Terms())
    assert are_new((await store.backend.enqueue(EnqueueBatch("token", [job]))).places) == [True]
    assert (await (await store.worker()).take_one()).id == "a"
