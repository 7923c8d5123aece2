"""The client, when its store takes the jobs of one queue and refuses those of another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from asyncjobs.errors import MissingCapability, StoreFull, StoreUnavailable
from asyncjobs.events import EnqueueFailed, JobEnqueued
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Gate, Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.seam import Capabilities
from tests.unit.test_client import job, opened

pytestmark = pytest.mark.anyio

FULL = StoreFull("no memory")


def ids(heard: list[Any]) -> list[str]:
    return [event.ref.id for event in heard]


async def test_callers_of_a_sound_queue_do_not_hear_of_a_full_one() -> None:
    async with opened() as (client, store):
        store.refused = {"full": FULL}
        calls = [
            client.enqueue(job(f"{queue}-{n}", queue), "f")
            for n in range(20)
            for queue in ("sound", "full")
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert store.sizes() == [40]
        assert answers[::2] == [None] * 20
        assert {type(answer) for answer in answers[1::2]} == {StoreFull}


async def test_a_lone_caller_of_a_full_queue() -> None:
    async with opened() as (client, store):
        store.refused = {"full": FULL}
        with pytest.raises(StoreFull):
            await client.enqueue(job("1", "full"), "f")
        store.refused = {}
        assert await client.enqueue(job("2", "full"), "f") is None


async def test_a_call_of_which_a_part_is_stored_is_not_called_refused() -> None:
    """Repeated as after StoreFull, it would store that part twice."""
    async with opened() as (client, store):
        stored: list[Any] = []
        failed: list[Any] = []
        client._events.on(JobEnqueued, stored.append)
        client._events.on(EnqueueFailed, failed.append)
        store.refused = {"full": FULL}
        jobs = [job(str(n), ("sound", "full", "other")[n % 3]) for n in range(9)]
        with pytest.raises(StoreUnavailable, match=r"6 of these 9 jobs are stored.*no memory") as e:
            await client.enqueue_many(jobs, ["f"] * 9)
        assert isinstance(e.value.__cause__, StoreFull)
        assert store.sizes() == [9]
        assert sorted(ids(stored)) == ["0", "2", "3", "5", "6", "8"]
        assert ids(failed) == ["1", "4", "7"]


async def test_answers_of_several_queues_keep_the_order_of_the_calls() -> None:
    async with opened() as (client, store):
        store.ids.update(("1", "6"))
        jobs = [job(str(n), f"q{n % 3}") for n in range(9)]
        answers = await client.enqueue_many(jobs, ["f"] * 9)
        there = {1: Placed(JobRef("q1", "1"), "there"), 6: Placed(JobRef("q0", "6"), "there")}
        assert answers == [there.get(place) for place in range(9)]
        assert client.queues == {"q0", "q1", "q2"}


async def test_a_call_of_which_nothing_is_stored_is_refused() -> None:
    async with opened() as (client, store):
        store.refused = {"full": FULL, "fuller": FULL}
        with pytest.raises(StoreFull):
            await client.enqueue_many([job("1", "full"), job("2", "fuller")], ["f"] * 2)


async def test_a_refusal_after_an_unsure_try_is_unsure_for_that_queue_alone() -> None:
    async with opened() as (client, store):
        store.answers = [StoreUnavailable("the reply was lost")]
        store.refused = {"full": FULL}
        sound, full = await asyncio.gather(
            client.enqueue(job("1", "sound"), "f"),
            client.enqueue(job("2", "full"), "f"),
            return_exceptions=True,
        )
        assert sound is None
        assert isinstance(full, StoreUnavailable)
        assert "may be stored" in str(full)


CAPABILITIES = Capabilities(durable=True, shared=True, threaded_heartbeat=True)


@pytest.mark.parametrize(
    ("capability", "terms"),
    [
        ("unique", Terms(unique=Unique(b"key", "finished", 1_000))),
        ("gates", Terms(gate=Gate(turn="key"))),
        ("flows", Terms(behind="barrier")),
        ("flows", Terms(arrivals=(Arrival("q", "barrier"),))),
    ],
)
async def test_terms_that_a_store_cannot_keep_fail_their_own_caller_alone(
    capability: str, terms: Terms
) -> None:
    async with opened() as (client, store):
        store.capabilities = CAPABILITIES
        failed: list[Any] = []
        client._events.on(EnqueueFailed, failed.append)
        strict = job("strict", "q")._replace(terms=terms)
        answers = await asyncio.gather(
            client.enqueue(job("1", "q"), "f"),
            client.enqueue(strict, "f"),
            client.enqueue(job("2", "q"), "f"),
            client.enqueue_many([job("3", "q"), strict], ["f", "f"]),
            client.enqueue_many([job("4", "q"), job("5", "other")], ["f", "f"]),
            return_exceptions=True,
        )
        assert [answers[0], answers[2], answers[4]] == [None, None, [None, None]]
        for refused in (answers[1], answers[3]):
            assert isinstance(refused, MissingCapability)
            assert f"'{capability}'" in str(refused)
        # Nothing of the call with the job that was refused, and all of the others.
        assert store.ids == {"1", "2", "4", "5"}
        assert ids(failed) == ["strict", "strict"]
        store.capabilities = replace(CAPABILITIES, **{capability: True})
        assert await client.enqueue(strict, "f") is None
