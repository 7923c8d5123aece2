"""The worker that looks through the queues of a store in memory for all, and where it is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from asyncjobs.store.inspect import Survey

__all__ = ["Surveyor"]


class Surveyor:
    """The asker whose turn it is, until it has not asked for a while."""

    __slots__ = ("_last", "asker", "until_ms")

    def __init__(self, asker: str) -> None:
        self.asker = asker
        self.until_ms = 0
        self._last = ""

    def look(self, names: Sequence[str], about: int, until_ms: int) -> Survey:
        """The next `about` of these sorted names."""
        self.until_ms = until_ms
        # The place is a name and no number, so queues that come and go meanwhile skip nothing.
        first = bisect_right(names, self._last)
        found = list(names[first : first + about])
        is_last = first + about >= len(names)
        self._last = ""
        if not is_last:
            self._last = found[-1]
        return Survey(is_turn=True, is_last=is_last, queues=found)
