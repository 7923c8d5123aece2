"""Who waits for the end of jobs in a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncjobs.model.refs import JobRef

__all__ = ["ResultWaiters"]


class ResultWaiters:
    """Owns the futures of the waiters, by job."""

    def __init__(self) -> None:
        self._waiters: dict[JobRef, set[asyncio.Future[None]]] = {}

    def __contains__(self, ref: JobRef) -> bool:
        return ref in self._waiters

    def __len__(self) -> int:
        """How many jobs have waiters."""
        return len(self._waiters)

    def queues(self) -> set[str]:
        """The queues of these jobs."""
        return {ref.queue for ref in self._waiters}

    def tell(self, ref: JobRef) -> None:
        """The job has ended: wake its waiters."""
        for future in self._waiters.get(ref, ()):
            _resolve(future)

    def tell_queue(self, queue: str) -> None:
        """Wake all waiters of this queue, so that they look again."""
        for ref in [ref for ref in self._waiters if ref.queue == queue]:
            self.tell(ref)

    async def wait(self, refs: Sequence[JobRef], timeout_s: float | None) -> None:
        """Return when one of these jobs has ended, or after `timeout_s`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for ref in refs:
            self._waiters.setdefault(ref, set()).add(future)
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            # A caller may name a job twice.
            for ref in set(refs):
                self._waiters[ref].discard(future)
                if not self._waiters[ref]:
                    del self._waiters[ref]

    def close(self) -> None:
        """End all waits."""
        for futures in self._waiters.values():
            for future in futures:
                _resolve(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
