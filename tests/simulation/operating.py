"""An operator who pauses, empties and resumes queues, and orders workers to be quiet."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.control import WorkerState
from asyncjobs.model.job import State
from asyncjobs.store.control import OrderKind, Purge
from tests.simulation.ledger import Ledger
from tests.simulation.load import FUNCTIONS
from tests.simulation.wire import Wire

__all__ = ["Operator"]


class States(frozenset[State]):
    """States that are shown in the same order in each process: the trace of a run names them."""

    def __repr__(self) -> str:
        return f"States({', '.join(sorted(self))})"


STATES: Final = (
    States({State.READY}),
    States({State.SCHEDULED, State.HELD}),
    States({State.HELD, State.READY, State.SCHEDULED}),
)


class Operator:
    """Decides by a chance of its own, so runs without operators stay what they were."""

    def __init__(self, seed: int, wire: Wire, ledger: Ledger, queues: tuple[str, ...]) -> None:
        self._chance = Random(f"operator of {seed}")
        self._wire = wire
        self._ledger = ledger
        self._queues = queues
        self.is_on_duty = self._chance.random() < 0.6

    async def work(self) -> None:
        """A few acts, each taken back after a while; then take back whatever is left, also what
        comes late. Until killed."""
        acts = (self._pause, self._pause, self._purge, self._quiet)
        for _ in range(2 + int(4 * self._chance.random())):
            await asyncio.sleep(0.6 * self._chance.random())
            await self._pick(acts)()
        while True:
            await self._take_back()
            await asyncio.sleep(0.5)

    def _pick(self, some: Any) -> Any:
        return some[int(self._chance.random() * len(some))]

    async def _call(self, name: str, *args: Any) -> None:
        """Until there is an answer, or it is given up: then it may come late, or never."""
        while True:
            try:
                await self._wire.call(f"control.{name}", *args)
            except StoreUnavailable:
                if self._chance.random() < 0.3:
                    return
                await asyncio.sleep(0.1)
            else:
                return

    async def _pause(self) -> None:
        """Up to two at a time: a queue and a function of it, or one of them twice."""
        for _ in range(1 + int(2 * self._chance.random())):
            function = None if self._chance.random() < 0.4 else self._pick(FUNCTIONS)
            await self._call("queues.pause", [self._pick(self._queues)], function, b"{}")
        await asyncio.sleep(1.5 * self._chance.random())
        await self._take_back()

    async def _purge(self) -> None:
        function = None if self._chance.random() < 0.5 else self._pick(FUNCTIONS)
        queue, states = self._pick(self._queues), self._pick(STATES)
        is_trial = self._chance.random() < 0.2
        await self._call("queues.purge", Purge(queue, function, states, is_trial=is_trial), 1000)

    async def _quiet(self) -> None:
        processes = list(self._ledger.orders.entries)
        if processes:
            entries = self._ledger.orders.entries[self._pick(processes)]
            await self._order(entries, WorkerState.QUIET)
            await asyncio.sleep(3 * self._chance.random())
            await self._take_back()

    async def _order(self, entries: dict[str, str], state: WorkerState) -> None:
        await self._call("workers.order", list(entries.items()), OrderKind.STATE, state.value)

    async def _take_back(self) -> None:
        for queue, function in self._ledger.pauses.standing():
            await self._call("queues.resume", [queue], function)
        for process in list(self._ledger.orders.quiet):
            await self._order(self._ledger.orders.entries.get(process, {}), WorkerState.RUNNING)
