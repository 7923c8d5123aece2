"""Batches: many items in pieces that are small enough for one call each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["cut", "pieces", "places_by_queue"]

T = TypeVar("T")


def places_by_queue(queues: Iterable[str]) -> dict[str, list[int]]:
    """The places of each queue in `queues`, in order: 0 is the first place."""
    by_queue: dict[str, list[int]] = {}
    for place, queue in enumerate(queues):
        by_queue.setdefault(queue, []).append(place)
    return by_queue


def pieces(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in order, at most `most` together."""
    for first in range(0, len(items), most):
        yield items[first : first + most]


def cut(sizes: Sequence[int], *, most: int, most_bytes: int) -> Iterator[range]:
    """Cut items of these sizes into batches, in order: the places of each batch.

    A batch has at most `most` items and `most_bytes` bytes. An item that is larger than that
    is a batch of its own: it was checked where it was made, and here it must not get lost.
    """
    first = 0
    batch_bytes = 0
    for place, size in enumerate(sizes):
        is_full = place - first >= most or batch_bytes + size > most_bytes
        if is_full and place > first:
            yield range(first, place)
            first = place
            batch_bytes = 0
        batch_bytes += size
    if first < len(sizes):
        yield range(first, len(sizes))
