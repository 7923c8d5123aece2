"""What happened lately in a queue, from counters that are kept by the minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from asyncjobs.model.ends import ENDS
from asyncjobs.store.inspect import QueueFlow

__all__ = ["ENQUEUED", "KEPT_MINUTES", "MINUTE_MS", "RESCHEDULED", "flow_of"]

MINUTE_MS: Final = 60_000
KEPT_MINUTES: Final = 5
"""Minutes whose counters are kept, the present one among them."""

ENQUEUED: Final = "enqueued"
RESCHEDULED: Final = "rescheduled"


def flow_of(
    queue: str,
    now_ms: int,
    oldest_ready_ms: int | None,
    counters: Mapping[tuple[int, str], int],
    next_due_ms: int | None = None,
) -> QueueFlow:
    """The last minute: what the present one has so far, and the rest out of the one before.

    `counters` by minute since the epoch and by word: ENQUEUED, RESCHEDULED or a final
    state.
    """
    minute, passed_ms = divmod(now_ms, MINUTE_MS)
    share = 1 - passed_ms / MINUTE_MS

    def lately(word: str) -> float:
        return counters.get((minute, word), 0) + share * counters.get((minute - 1, word), 0)

    return QueueFlow(
        queue,
        now_ms,
        oldest_ready_ms,
        lately(ENQUEUED),
        lately(RESCHEDULED),
        {state: lately(state) for state in ENDS},
        next_due_ms,
    )
