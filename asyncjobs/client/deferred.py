"""Enqueues that wait for something else to succeed, such as a transaction of a database."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from asyncjobs.errors import PayloadTooLarge, UsageError
from asyncjobs.jobs.function import JobCall
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.model.job import NewJob

__all__ = ["MOST_DEFERRED", "Deferred"]

R = TypeVar("R")

MOST_DEFERRED: Final = 100_000
"""The most calls that wait together. They are in memory."""


class Checker(Protocol):
    """What `Deferred` needs of the sender."""

    def trial(self, call: JobCall[Any]) -> NewJob:
        """The job of this call, to look at. Raises for a call of which none can be made."""
        ...

    async def send_many(self, calls: list[JobCall[Any]]) -> list[JobHandle[Any]]:
        """Store the jobs."""
        ...


class Deferred:
    """Calls that are stored together at the end of a block, or dropped if it raises.

        async with app.deferred() as later:
            async with session.begin():
                session.add(order)
                later.add(ship.bind(order.id))

    The jobs are stored after the transaction has committed: a rollback leaves none behind, and no
    worker looks for an order that is not there yet. If the process dies between the commit and the
    end of the block, the jobs are lost.

    Belongs to one task. Integrations of databases call `send` after a commit and `drop` after a
    rollback.
    """

    def __init__(self, sender: Checker, max_payload: int) -> None:
        self._sender = sender
        self._max_payload = max_payload
        self._calls: list[JobCall[Any]] = []

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    def add(self, call: JobCall[Any]) -> None:
        """Keep a call, made by `f.bind(...)`, until `send`. Its arguments are checked now: what
        they hold by then is stored.

        Raises UsageError for what is no call of this app, and if too many wait. Raises
        ArgumentsError, EncodeError and PayloadTooLarge like an enqueue.
        """
        if len(self._calls) >= MOST_DEFERRED:
            raise UsageError(
                f"{MOST_DEFERRED:,} calls wait already; send them, or use enqueue_many in steps"
            )
        # After the commit an error would come too late.
        # rule:33 a call of which no job can be made is refused before the commit
        size = len(self._sender.trial(call).envelope)
        if size > self._max_payload:
            raise PayloadTooLarge(
                f"{call.function.name}: the job is {size:,} bytes, over max_payload="
                f"{self._max_payload:,}; store the data elsewhere and pass its key, or raise "
                "max_payload on the app"
            )
        self._calls.append(call)

    async def send(self) -> list[JobHandle[Any]]:
        """Store the jobs of all calls that wait; returns their handles in the order of the calls.
        Each carries the context variables that are set now.

        Raises like `AsyncJobs.enqueue_many`. Then the calls still wait, and `send` may be repeated:
        no job is stored twice if its call has an id.
        """
        if not self._calls:
            return []
        sent = self._calls
        # A middleware of an enqueue may add calls meanwhile, and they wait for the next time.
        self._calls = []
        try:
            return await self._sender.send_many(sent)
        except BaseException:
            # rule:33 whoever sends again after an error loses no call
            self._calls = sent + self._calls
            raise

    def drop(self) -> int:
        """Forget the calls that wait. Returns how many there were."""
        number = len(self._calls)
        self._calls.clear()
        return number

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # rule:33 a block that fails stores nothing
        if kind is not None:
            self.drop()
            return
        await self.send()
