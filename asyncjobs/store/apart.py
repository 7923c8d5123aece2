"""One question about many queues or jobs, of which one may fail without hiding the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from asyncjobs.errors import StoreError, StoreUnavailable

__all__ = ["Apart", "apart"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Apart(NamedTuple, Generic[K, T]):
    """The answers, in the order of the question, and the errors of those without one."""

    answers: dict[K, T]
    refused: dict[K, StoreError]


async def apart(
    ask: Callable[[Sequence[K]], Awaitable[Sequence[T]]], about: Sequence[K]
) -> Apart[K, T]:
    """`ask` about all at once. If that fails, ask about halves, down to the one that fails.

    So a key of a wrong type in one queue does not hide the others. Raises StoreUnavailable,
    for a store that is away answers about none of them.
    """
    answers: dict[K, T] = {}
    refused: dict[K, StoreError] = {}
    waiting: list[Sequence[K]] = []
    if about:
        waiting.append(about)
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
