"""One worker at a time looks through all queues, in portions."""

from __future__ import annotations

import pytest

from asyncjobs.store.inspect import Survey
from asyncjobs.testing.conformance.store import Store, eventually

pytestmark = pytest.mark.anyio

NOT_YOURS = Survey(is_turn=False, is_last=False, queues=[])
TURN_MS = 60_000
QUEUES = {f"queue-{number:03}" for number in range(450)}


async def round_of(store: Store, asker: str, about: int = 200) -> list[list[str]]:
    """The names that each look of one round returns."""
    looks = []
    while True:
        survey = await store.backend.inspect.queues.survey(asker, about, TURN_MS)
        assert survey.is_turn
        looks.append(survey.queues)
        if survey.is_last:
            return looks


async def test_a_store_without_queues_has_nothing_to_look_at(store: Store) -> None:
    assert await round_of(store, "one") == [[]]


async def test_a_round_names_each_queue_in_portions(store: Store) -> None:
    for queue in QUEUES:
        await store.enqueue("a", queue=queue)
    for _ in range(2):
        looks = await round_of(store, "one")
        assert {name for look in looks for name in look} == QUEUES
        assert len(looks) >= 2
        assert max(map(len, looks)) < 300


async def test_one_looks_and_others_hear_that_it_is_not_their_turn(store: Store) -> None:
    await store.enqueue("a")
    assert await round_of(store, "one") == [["work"]]
    assert await store.backend.inspect.queues.survey("two", 200, TURN_MS) == NOT_YOURS
    assert await round_of(store, "one") == [["work"]]


async def test_another_one_takes_over_when_nobody_has_asked_for_long(store: Store) -> None:
    await store.enqueue("a")
    assert (await store.backend.inspect.queues.survey("one", 200, 50)).is_turn

    async def takes_over() -> bool:
        store.clock.ms += 50
        return (await store.backend.inspect.queues.survey("two", 200, TURN_MS)).is_turn

    await eventually(takes_over)
    assert await store.backend.inspect.queues.survey("one", 200, TURN_MS) == NOT_YOURS
