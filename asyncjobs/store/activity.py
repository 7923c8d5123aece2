"""What happened in a queue in the last minute, from counters that are kept by the minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from asyncjobs.model.ends import ENDS
from asyncjobs.store.inspect import QueueFlow

__all__ = ["ENQUEUED", "KEPT_MINUTES", "MINUTE_MS", "RESCHEDULED", "flow_of"]

MINUTE_MS: Final = 60_000
KEPT_MINUTES: Final = 5
"""How many minutes' counters are kept, with the present one."""

ENQUEUED: Final = "enqueued"
RESCHEDULED: Final = "rescheduled"


def flow_of(
    queue: str,
    now_ms: int,
    oldest_ready_ms: int | None,
    counters: Mapping[tuple[int, str], int],
    next_due_ms: int | None = None,
) -> QueueFlow:
    """The last 60 seconds: the present minute so far, and a share of the minute before.

    `counters` are by minute since the epoch and by word: ENQUEUED, RESCHEDULED or a final
    state.
    """
    minute, passed_ms = divmod(now_ms, MINUTE_MS)
    # The older part of the last 60 seconds lies in the minute before.
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
