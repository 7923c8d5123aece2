"""Batches keep order and limits, and lose nothing; ids survive the way to a store and back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.model.batches import cut, pieces, places_by_queue
from asyncjobs.model.ids import id_bytes, id_text


def cut_into(sizes: list[int], most: int, most_bytes: int) -> list[list[int]]:
    return [list(places) for places in cut(sizes, most=most, most_bytes=most_bytes)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [[0]]),
        ([1, 1, 1], [[0, 1, 2]]),
        ([1, 1, 1, 1], [[0, 1, 2], [3]]),
        ([5, 5, 5], [[0, 1], [2]]),
        ([5, 6], [[0], [1]]),
        ([99], [[0]]),
        ([1, 99, 1], [[0], [1], [2]]),
        ([99, 99], [[0], [1]]),
    ],
)
def test_a_batch_ends_at_three_items_or_ten_bytes(
    sizes: list[int], expected: list[list[int]]
) -> None:
    assert cut_into(sizes, 3, 10) == expected


@given(
    st.lists(st.integers(0, 30)),
    st.integers(1, 5),
    st.integers(1, 40),
)
def test_every_item_is_in_one_batch_and_no_batch_is_too_large_or_too_small(
    sizes: list[int], most: int, most_bytes: int
) -> None:
    batches = cut_into(sizes, most, most_bytes)
    assert [place for batch in batches for place in batch] == list(range(len(sizes)))
    for batch in batches:
        total = sum(sizes[place] for place in batch)
        assert 1 <= len(batch) <= most
        assert total <= most_bytes or len(batch) == 1
    for batch, after in pairwise(batches):
        total = sum(sizes[place] for place in [*batch, after[0]])
        assert len(batch) == most or total > most_bytes


def test_pieces_are_full_but_for_the_last_one() -> None:
    assert list(pieces("abcdefg", 3)) == ["abc", "def", "g"]
    assert list(pieces("abcdef", 3)) == ["abc", "def"]
    assert list(pieces((), 3)) == []


def test_places_are_in_order_by_queue_and_queues_by_their_first_place() -> None:
    by_queue = places_by_queue(["b", "a", "b", "c", "a"])
    assert list(by_queue.items()) == [("b", [0, 2]), ("a", [1, 4]), ("c", [3])]
    assert places_by_queue([]) == {}


@given(st.binary())
def test_an_id_that_is_no_text_survives(stored: bytes) -> None:
    assert id_bytes(id_text(stored)) == stored


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_an_id_is_stored_as_utf_8(job_id: str) -> None:
    assert id_bytes(job_id) == job_id.encode()
    assert id_text(id_bytes(job_id)) == job_id
