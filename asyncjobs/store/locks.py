"""Unique keys at the seam: who holds which, and freeing one by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Until

__all__ = ["MOST_LOCKS", "LockPage", "LockRef", "UniqueKeys", "UniqueLock"]

MOST_LOCKS: Final = 1_000
"""About how many locks one page has, at the most. A store may answer a few more."""


class LockRef(NamedTuple):
    """A key as it was seen: in which queue, and who held it."""

    queue: str
    key: bytes
    holder: JobRef


class UniqueLock(NamedTuple):
    """A key that is held. Times are by the store's clock, in milliseconds since the epoch.

    `since_ms`: when its holder has taken it. `over_ms`: when it is free in any case. `next`: the
    job that is held until then, if there is one.
    """

    ref: LockRef
    until: Until
    since_ms: int
    over_ms: int
    next: JobRef | None = None


class LockPage(NamedTuple):
    """Some locks of one queue, in no order. The next page begins at `after`; None at the end.

    A lock that stays is in a page. One that comes or goes meanwhile may be.
    """

    locks: list[UniqueLock]
    after: bytes | None
    now_ms: int


class UniqueKeys(Protocol):
    """Looks at unique keys, and frees them: `store.inspect.unique`."""

    async def page(self, queue: str, after: bytes | None = None, limit: int = 500) -> LockPage:
        """About `limit` locks of a queue, over or not."""
        ...

    async def free(self, locks: Sequence[LockRef]) -> list[bool]:
        """Free keys whose jobs still hold them; for each, whether it did. The jobs go on, and a
        held one that waits for the key goes on, too."""
        ...
