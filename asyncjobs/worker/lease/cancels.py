"""Hears at once of cancels and orders, however busy the worker is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelCall, QueueChanged, ReclaimDue, WorkerOrdered
from asyncjobs.worker.lease.session import Session

__all__ = ["CancelListener"]

logger = GuardedLog("asyncjobs.worker")

LISTEN_S: Final = 30.0
"""How long one request listens. At its end a dead connection is found."""
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MOST_S: Final = 5.0


class CancelListener:
    """Listens on the queues of one session.

    Signals that are missed while the store is away do no harm: the next heartbeat or exchange
    brings the cancels.
    """

    def __init__(
        self,
        session: Session,
        on_cancel: Callable[[Collection[JobRef]], None],
        on_reclaim_due: Callable[[], None],
        on_changed: Callable[[str], None],
        on_ordered: Callable[[], None],
    ) -> None:
        self._session = session
        self._on_cancel = on_cancel
        self._on_reclaim_due = on_reclaim_due
        self._on_changed = on_changed
        self._on_ordered = on_ordered

    async def run(self) -> None:
        """Until cancelled."""
        pauses = Pauses(BACKOFF_FIRST_S, BACKOFF_MOST_S)
        while True:
            try:
                await self._listen()
            except StoreError as error:
                # The exchange meets the same fault and reports it once.
                logger.debug("no cancels are heard at present: %s", error)
            except Exception:
                logger.exception("listening for cancels failed")
            else:
                pauses.reset()
                continue
            await asyncio.sleep(pauses.next_s())

    async def _listen(self) -> None:
        signals = await self._session.lease.listen(LISTEN_S)
        spec = self._session.spec
        cancelled: list[JobRef] = []
        for signal in signals:
            match signal:
                case CancelCall(holder, ref) if holder == spec.entry(ref.queue):
                    cancelled.append(ref)
                case ReclaimDue():
                    self._on_reclaim_due()
                case QueueChanged(queue):
                    self._on_changed(queue)
                case WorkerOrdered(queue, lease) if lease == spec.entry(queue):
                    # A heartbeat asks what it is.
                    self._on_ordered()
                case _:
                    # For another worker, or of a kind that this one has no use for.
                    pass
        if cancelled:
            self._on_cancel(cancelled)
