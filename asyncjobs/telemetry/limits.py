"""What gauges say of limits: by queue and name, never by key. There may be one for each tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from asyncjobs.store.seam import Backend

__all__ = ["LimitCounts", "limits_of"]

MOST_PAGES: Final = 20
"""The most pages of keys that one look reads in a queue: a scrape comes every few seconds."""
PAGE: Final = 500
MOST_NAMES: Final = 100
"""The most limits of one queue that are told apart. All others count together."""
OTHERS: Final = "_OTHER"


class LimitCounts(NamedTuple):
    """One limit of a queue at one moment, with all of its keys.

    `running`: permits that are taken. `waiting`: jobs that wait, the oldest for `oldest_s` seconds.
    """

    queue: str
    limit: str
    running: int = 0
    waiting: int = 0
    oldest_s: float = 0.0


async def limits_of(store: Backend, queues: Sequence[str]) -> list[LimitCounts]:
    """The limits of these queues; none for a store without limits. Raises StoreError."""
    found: list[LimitCounts] = []
    if not store.capabilities.gates:
        return found
    for queue in queues:
        found += await _of_queue(store, queue)
    return found


async def _of_queue(store: Backend, queue: str) -> list[LimitCounts]:
    counts: dict[str, LimitCounts] = {}
    after: str | None = None
    for _ in range(MOST_PAGES):
        page = await store.limits.page(queue, after, PAGE)
        for record in page.limits:
            name = record.limit
            # Each name is a series of its own, and names may come from a foreign writer.
            if name not in counts and len(counts) >= MOST_NAMES:
                name = OTHERS
            before = counts.get(name) or LimitCounts(queue, name)
            oldest_s = before.oldest_s
            if record.oldest_ms is not None:
                oldest_s = max(oldest_s, (page.now_ms - record.oldest_ms) / 1000)
            running, waiting = before.running + record.running, before.waiting + record.waiting
            counts[name] = LimitCounts(queue, name, running, waiting, oldest_s)
        after = page.after
        if after is None:
            break
    return [*counts.values()]
