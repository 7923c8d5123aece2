"""Brings what an act of a caller has noted in outboxes to its queues at once.

A worker relays what its settlements note. A cancel, a purge, a delete or the start of a flow may
come from a process without a worker, and the queue may have none: its outbox would wait for one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.outbox import Outboxes

__all__ = ["MOST_TRIPS", "PART", "bring", "has_posted"]

logger = GuardedLog("asyncjobs.redis")

PART: Final = 100
"""Entries of each outbox that one trip reads."""
MOST_TRIPS: Final = 5
"""Then workers bring the rest: an outbox may hold what others have noted, too."""
_POSTED: Final = b"posted"


def has_posted(answer: list[Any]) -> bool:
    """Whether a script that has ended jobs has noted something for other queues. Takes that word
    off its answer."""
    if answer[-1:] != [_POSTED]:
        return False
    answer.pop()
    return True


async def bring(access: Access, queues: Collection[str]) -> None:
    """Relay the outboxes of these queues, a few hundred entries of each.

    The act itself is done, so this raises no error: what cannot be brought now, a worker of the
    queue brings later.
    """
    left = frozenset(queues)
    if not left:
        return
    outboxes = Outboxes(access)
    try:
        # rule:37 what an act brings to other queues while it waits is bounded
        for _ in range(MOST_TRIPS):
            answer = await outboxes.relay(sorted(left), PART)
            # Without that it would ask a queue that is away again and again.
            if not answer.moved or not answer.left:
                break
            left = answer.left
    except StoreError as error:
        logger.debug("the outboxes of %s are relayed later: %s", sorted(left), error)
    # rule:37 an act that is done does not fail for what is relayed behind it
    except Exception:
        logger.exception("relaying the outboxes of %s has failed", sorted(left))
