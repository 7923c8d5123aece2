"""One question about many queues or jobs, where one of them must not spoil the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from asyncjobs.errors import StoreError, StoreUnavailable

__all__ = ["Apart", "apart"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Apart(NamedTuple, Generic[K, T]):
    """What was answered, in the order of the question, and about whom the store refused to."""

    answers: dict[K, T]
    refused: dict[K, StoreError]


async def apart(
    ask: Callable[[Sequence[K]], Awaitable[Sequence[T]]], about: Sequence[K]
) -> Apart[K, T]:
    """`ask` about all at once; if that fails by one of them, about halves, down to that one.

    So a key of a wrong type in one queue does not hide the others. Raises StoreUnavailable:
    a store that is away is away for all of them.
    """
    answers: dict[K, T] = {}
    refused: dict[K, StoreError] = {}
    waiting = [list(about)] if about else []
    while waiting:
        part = waiting.pop()
        try:
            answers.update(zip(part, await ask(part), strict=True))
        except StoreUnavailable:
            raise
        except StoreError as error:
            if len(part) == 1:
                refused[part[0]] = error
                continue
            middle = len(part) // 2
            # The last one is asked about next, so the order stays that of the question.
            waiting += [part[middle:], part[:middle]]
    return Apart(answers, refused)
