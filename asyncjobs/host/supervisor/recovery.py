"""Giving the jobs of a process that has died back at once.

The store cannot know that a process has died: it waits until the lease ends. Its parent has seen
it end, and knows its lease. So only the death of the whole machine costs a lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Self

from asyncjobs.errors import AsyncJobsError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import in_own_thread
from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.child import Child
from asyncjobs.store import make_backend
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.seam import Backend, StoreSettings

__all__ = ["Recovery", "StoreAccess", "lease_message"]

logger = GuardedLog("asyncjobs.worker")

STEP: Final = 1_000
"""Jobs that one call gives back in a queue, so that the store stays free for others."""
LIMIT_S: Final = 10.0
"""How long the store may take. After that the jobs come back when the lease ends."""
CONNECT_S: Final = 2.0
LEFT: Final = (ExitCode.CLEAN, ExitCode.RELEASED, ExitCode.MEMORY)
"""How a process ends that has given its jobs back itself."""


class StoreAccess(NamedTuple):
    """How to open the store of a worker. `url` may hold a password: it goes through the pipe
    between a process and its parent only."""

    url: str
    prefix: str


def lease_message(spec: LeaseSpec, access: StoreAccess) -> dict[str, Any]:
    """What a process tells its parent of its lease when it is ready, for `Recovery`."""
    return {
        "id": spec.id,
        "worker": spec.worker,
        "queues": spec.queues,
        "duration_ms": spec.duration_ms,
        "url": access.url,
        "prefix": access.prefix,
    }


class _Lease(NamedTuple):
    """The lease of a process that has ended, and where it stands."""

    spec: LeaseSpec
    access: StoreAccess

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Self:
        spec = LeaseSpec(
            message["id"], message["worker"], tuple(message["queues"]), message["duration_ms"]
        )
        return cls(spec, StoreAccess(message["url"], message["prefix"]))


class Recovery:
    """Ends the leases of processes that have died. Opens the store only for that."""

    def __init__(self) -> None:
        self._under_way = 0

    def __bool__(self) -> bool:
        """Whether jobs are still being given back."""
        return self._under_way > 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """While this lasts, somebody gives jobs back or is about to."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def prepare(self, child: Child) -> None:
        """Import what `recover` needs while there is time: a first import takes 0.2 s."""
        if child.lease is None:
            return
        try:
            await _new_backend(_Lease.read(child.lease).access)
        except Exception as error:
            # `recover` meets it again, and then it matters.
            logger.debug("process %d: its store cannot be prepared: %s", child.number, error)

    async def recover(self, child: Child) -> None:
        """Give back what a process held that has died. Raises nothing: without this the jobs come
        back when the lease ends, and the other processes must go on."""
        message = child.lease
        # It was never ready, or no other process can reach its store, or it has left by itself.
        if message is None or child.ended.result() in LEFT:
            return
        try:
            async with asyncio.timeout(LIMIT_S):
                returned = await self._end(_Lease.read(message))
        except TimeoutError:
            _tell_failure(child, f"the store took more than {LIMIT_S:g} s")
        except AsyncJobsError as error:
            _tell_failure(child, str(error))
        except Exception as error:
            # Such as a message of another release, after an upgrade in place.
            _tell_failure(child, f"{type(error).__name__}: {error}")
        else:
            if returned:
                logger.info(
                    "process %d (pid %d): jobs given back: %d", child.number, child.pid, returned
                )

    async def _end(self, lease: _Lease) -> int:
        """How many jobs came back."""
        # A connection for this alone. A parent has none while its processes are well, so a store
        # with many parents is not kept busy by them.
        backend = await _new_backend(lease.access)
        try:
            await backend.open()
            return await _reclaim(backend, lease.spec)
        finally:
            await backend.close()


async def _new_backend(access: StoreAccess) -> Backend:
    settings = StoreSettings(access.prefix, connect_timeout_s=CONNECT_S)
    # The driver is imported from files, which would block the loop.
    return await in_own_thread(make_backend, access.url, settings)


def _tell_failure(child: Child, why: str) -> None:
    logger.warning(
        "process %d (pid %d): its jobs could not be given back now (%s); they run again when its "
        "lease ends",
        child.number,
        child.pid,
        why,
    )


async def _reclaim(backend: Backend, spec: LeaseSpec) -> int:
    returned = 0
    while True:
        answer = await backend.reclaim(spec.queues, spec.grace_ms, STEP, dead=spec.id)
        returned += answer.returned
        for queue, error in answer.away.items():
            logger.warning("queue %r: %s; its jobs run again when the lease ends", queue, error)
        # Zero: more jobs wait to be given back, of this lease or of others that have ended.
        if answer.again_ms != 0:
            return returned
