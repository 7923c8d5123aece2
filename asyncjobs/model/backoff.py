"""Pauses that grow while something fails again and again."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Pauses", "doubled", "pause_s"]

_MOST_DOUBLINGS: Final = 512
"""A float holds at most 2 ** 1023. The longest pause applies long before that."""


def doubled(first_s: float, longest_s: float, times: int) -> float:
    """`first_s`, doubled this many times, but at most `longest_s`."""
    doublings = min(max(times, 0), _MOST_DOUBLINGS)
    return min(first_s * 2.0**doublings, longest_s)


def pause_s(first_s: float, longest_s: float, times: int) -> float:
    """`first_s`, doubled this many times, with a random upper half; at most `longest_s`."""
    most_s = doubled(first_s, longest_s, times)
    return random.uniform(most_s / 2, most_s)


class Pauses:
    """The pauses between tries of one thing. Each is up to twice as long as the one before.

    The upper half of each pause is random, so that those who failed together do not try again
    together.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._times = 0

    def reset(self) -> None:
        """A try has worked, so the next pause is a first one again."""
        self._times = 0

    def next_s(self) -> float:
        """How long to wait after a failed try, in seconds."""
        next_s = pause_s(self._first_s, self._longest_s, self._times)
        self._times += 1
        return next_s
