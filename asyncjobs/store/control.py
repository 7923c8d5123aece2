"""What operators do to queues and workers: `store.control`.

There is one small protocol for each subject, and a store with the capability `control` has all of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from asyncjobs.model.job import State
from asyncjobs.store.apart import apart

__all__ = [
    "Control",
    "Order",
    "OrderKind",
    "Pause",
    "Purge",
    "Purged",
    "QueueControl",
    "WorkerControl",
    "paused_wholly",
]


class Pause(NamedTuple):
    """A queue, or one job function of it, of which nothing is handed out."""

    queue: str
    function: str | None
    """The name of the job function; None: the whole queue."""
    since_ms: int
    info: bytes
    """Who has paused it, and why, as JSON."""
    is_resuming: bool = False
    """It is resumed, and some of its jobs are still on their way back. Workers bring them back
    also when whoever began has gone."""


class Purge(NamedTuple):
    """Which waiting jobs of a queue are to be cancelled, and how that is recorded."""

    queue: str
    function: str | None = None
    """The name of the job function; None: all."""
    states: frozenset[State] = frozenset({State.HELD, State.READY, State.SCHEDULED})
    outcome: bytes | None = None
    result_ttl_ms: int = 0
    is_trial: bool = False
    """Count them only."""


class Purged(NamedTuple):
    """One part of a purge: how many jobs it has cancelled, or counted.

    `after` is where the next part begins; None when this was the last one.
    """

    jobs: int
    after: bytes | None


async def paused_wholly(control: QueueControl, queues: Sequence[str]) -> set[str]:
    """Which of these queues hand out nothing at all. One that cannot be read is not among them.

    Raises StoreUnavailable.
    """
    found = await apart(control.paused, queues)
    return {
        queue
        for queue, pauses in found.answers.items()
        if any(pause.function is None and not pause.is_resuming for pause in pauses)
    }


class QueueControl(Protocol):
    """Pausing and emptying queues. What it does counts at once, for all workers."""

    async def pause(self, queues: Sequence[str], function: str | None, info: bytes) -> list[bool]:
        """Hand out nothing of these queues, or of one job function in them; for each queue,
        whether that is new.

        What runs goes on and is settled, and scheduled jobs become ready at their time. Ready jobs
        keep their order. What is paused already keeps its time, and has the new `info`. Raises
        UsageError when so many functions of one queue are paused that exchanges would become slow
        (1,000).
        """
        ...

    async def resume(self, queues: Sequence[str], function: str | None) -> list[bool]:
        """Hand out again what `pause` has stopped; for each queue, whether it was paused.

        A function stays paused in a queue that is paused as a whole, and the other way round.
        """
        ...

    async def paused(self, queues: Sequence[str]) -> list[list[Pause]]:
        """For each queue what is paused: first the queue itself, then functions by name."""
        ...

    async def purge(self, purge: Purge, limit: int, after: bytes | None = None) -> Purged:
        """Cancel jobs that wait: held ones first, then ready ones from the most urgent and oldest
        on, then scheduled ones. About `limit` jobs are looked at.

        They end as by `Backend.cancel`: their ids are remembered, and who waits for a result is
        told. Running jobs stay. Jobs that are enqueued meanwhile may stay.
        """
        ...


class OrderKind(StrEnum):
    """What an order is about. A lease has at most one order of each kind: the last one."""

    STATE = "state"
    WEIGHTS = "weights"


class Order(NamedTuple):
    """What an operator wants of a worker.

    `number` rises from order to order, so that a worker follows each order once although every
    heartbeat brings it. `value`: what is ordered, as a text that workers know.
    """

    kind: OrderKind
    number: int
    value: str


class WorkerControl(Protocol):
    """Orders to workers."""

    async def order(
        self, entries: Sequence[tuple[str, str]], kind: OrderKind, value: str
    ) -> list[bool]:
        """Give an order to the leases that stand under these names: (queue, lease). For each,
        whether it is there.

        The order stays with the lease until it ends, so it outlives a lost signal and an outage. A
        worker that listens hears of it at once, every other one by its next heartbeat.
        """
        ...


class Control(Protocol):
    """Changes what workers may do."""

    @property
    def queues(self) -> QueueControl: ...

    @property
    def workers(self) -> WorkerControl: ...
