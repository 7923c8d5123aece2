"""What an end in one queue in memory brings to barriers and flows of all queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Barrier, FlowNode
from asyncjobs.store.memory.queue import Queue

__all__ = ["Crossing"]


class Crossing:
    """See `Outcomes`. Each end counts in all queues in its own step: nothing can come between
    them on one event loop."""

    def __init__(self, home: str, find: Callable[[str], Queue]) -> None:
        self._home = home
        self._find = find

    def lift(self, barriers: Iterable[Barrier]) -> None:
        for barrier in barriers:
            self._find(barrier.queue).barriers.lift([barrier])

    def arrive(self, arrival: Arrival, has_failed: bool, now: int) -> None:
        queue = self._find(arrival.queue)
        failure = None
        if has_failed:
            failure = arrival.on_failure
        queue.barriers.arrive(arrival.barrier, failure, now)
        # The queue of the job itself takes what it has let go, or signals then.
        if arrival.queue != self._home:
            queue.signal_all()

    def record(
        self, node: FlowNode, job: JobRef, state: State, now: int, *, may_succeed: bool
    ) -> None:
        self._find(node.queue).barriers.flows.record(node, job, state, now, may_succeed=may_succeed)
