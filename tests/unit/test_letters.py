"""How many dead letters one call of a script is given."""

from __future__ import annotations

from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import MAX_PAGE_BYTES, LetterKey
from asyncjobs.store.redis.letters import _in_steps
from asyncjobs.store.redis.lookups import STEP


def keys(*queues: str) -> list[LetterKey]:
    return [LetterKey(JobRef(queue, f"job-{n}"), 1) for n, queue in enumerate(queues)]


def test_a_step_is_of_one_queue_and_in_order() -> None:
    steps = list(_in_steps(keys("a", "b", "a", "b", "c"), [1] * 5))
    assert steps == [[0, 2], [1, 3], [4]]
    assert list(_in_steps([], [])) == []


def test_a_step_is_bounded_in_number() -> None:
    steps = list(_in_steps(keys(*["a"] * (2 * STEP + 1)), [0] * (2 * STEP + 1)))
    assert [len(step) for step in steps] == [STEP, STEP, 1]


def test_a_step_is_bounded_in_bytes() -> None:
    half = MAX_PAGE_BYTES // 2
    sizes = [half, half, half + 1, half, 3 * half, 1]
    assert list(_in_steps(keys(*["a"] * 6), sizes)) == [[0, 1], [2], [3], [4], [5]]
