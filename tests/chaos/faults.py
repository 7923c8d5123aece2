"""What is broken, when, and for how long: planned from a seed, then done and written down."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asyncjobs.testing.servers import Server
from tests.chaos.fleet import LEASE_S, Slot
from tests.chaos.jobs import ENQUEUE_TRIES_S
from tests.chaos.proxy import Proxy

__all__ = ["Fault", "Faults", "Step", "schedule"]

A_MINUTE: Final = {
    "kill": 24,
    "stop": 8,
    "long stop": 6,
    "leave": 6,
    "store": 4,
    "cut": 10,
    "cut in a request": 8,
    "cut in a reply": 16,
    "delay": 6,
    "half-open": 6,
    "client": 8,
}
"""How many of each there are in 60 s. 24 kills and 34 cuts a minute on four workers leave
each of them a few seconds between two."""


UP_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Step:
    """A fault to come: when (seconds from the start), which, for how long, a random number."""

    at_s: float
    kind: str
    for_s: float
    dice: float


@dataclass
class Fault:
    """A fault that happened. `pid` None: to all workers."""

    kind: str
    begin_s: float
    pid: int | None = None
    end_s: float = math.inf

    def __str__(self) -> str:
        whom = "all workers" if self.pid is None else f"worker {self.pid}"
        return f"{self.kind} of {whom} from {self.begin_s:.3f} to {self.end_s:.3f}"


def schedule(chance: random.Random, seconds: float) -> list[Step]:
    """The faults of a run, in order; at least one of each kind."""
    steps = []
    for kind, count in A_MINUTE.items():
        for _ in range(max(1, math.ceil(count * seconds / 60))):
            longest = {"long stop": 2.5 * LEASE_S, "stop": 0.6 * LEASE_S, "store": 1.5 * LEASE_S}
            shortest = 1.2 * LEASE_S if kind == "long stop" else 0.0
            for_s = chance.uniform(shortest, longest.get(kind, 1.25 * LEASE_S))
            steps.append(Step(chance.uniform(0.02, 1) * seconds, kind, for_s, chance.random()))
    return sorted(steps, key=lambda step: step.at_s)


class Faults:
    """Does the steps of a schedule to a fleet and its store, and remembers all of them."""

    def __init__(
        self, server: Server, slots: list[Slot], client: Proxy, tell: Callable[[str], None]
    ) -> None:
        self._server = server
        self._slots = slots
        self._client = client
        self._tell = tell
        self._store = asyncio.Lock()
        self.done: list[Fault] = []
        self.client_cuts = 0

    def counts(self) -> Counter[str]:
        found = Counter(fault.kind for fault in self.done)
        found["client"] = self.client_cuts
        return found

    async def run(self, steps: list[Step]) -> None:
        """All steps, each at its time; returns when nothing is broken any more."""
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                await asyncio.sleep(max(start_s + step.at_s - time.monotonic(), 0))
                tasks.create_task(self._do(step))
        for proxy in (self._client, *(slot.proxy for slot in self._slots)):
            proxy.heal()

    async def _do(self, step: Step) -> None:
        if step.kind == "store":
            await self._restart_store(step)
        elif step.kind == "client":
            await self._break_client(step)
        else:
            slot = await self._slot(step)
            if step.kind in ("kill", "leave"):
                await self._end(slot, step)
            elif step.kind in ("stop", "long stop"):
                await self._stop(slot, step)
            else:
                await self._break_wire(slot, step)

    async def _slot(self, step: Step) -> Slot:
        """One whose worker is up; there is none for a moment when all were just killed."""
        async with asyncio.timeout(UP_LIMIT_S):
            while not (free := [slot for slot in self._slots if slot.is_up]):
                await asyncio.sleep(0.05)
        return free[int(step.dice * len(free))]

    def _begin(self, kind: str, pid: int | None) -> Fault:
        fault = Fault(kind, time.monotonic(), pid)
        self.done.append(fault)
        return fault

    def _end_of(self, fault: Fault, who: str) -> None:
        fault.end_s = time.monotonic()
        self._tell(f"{fault.kind}: {who}, for {fault.end_s - fault.begin_s:.2f} s")

    async def _end(self, slot: Slot, step: Step) -> None:
        async with slot.busy:
            fault = self._begin(step.kind, slot.pid)
            number = signal.SIGKILL if step.kind == "kill" else signal.SIGTERM
            slot.signal(number, ends=True)
            await slot.ended()
            self._end_of(fault, f"worker {slot.number}")

    async def _stop(self, slot: Slot, step: Step) -> None:
        async with slot.busy:
            fault = self._begin(step.kind, slot.pid)
            try:
                slot.signal(signal.SIGSTOP)
                await asyncio.sleep(step.for_s)
            finally:
                slot.signal(signal.SIGCONT)
            self._end_of(fault, f"worker {slot.number}")

    async def _break_wire(self, slot: Slot, step: Step) -> None:
        fault = self._begin(step.kind, slot.pid)
        await _break(slot.proxy, step)
        self._end_of(fault, f"worker {slot.number}")

    async def _break_client(self, step: Step) -> None:
        kinds = ("cut", "cut in a request", "cut in a reply", "delay", "half-open", "half-open")
        kind = kinds[int(step.dice * len(kinds))]
        # Longer than an enqueue tries: it fails, and its jobs may be stored all the same.
        for_s = 1.5 * ENQUEUE_TRIES_S if kind == "half-open" else step.for_s
        await _break(self._client, Step(step.at_s, kind, for_s, step.dice * 7 % 1))
        self.client_cuts += 1
        self._tell(f"client: {kind}")

    async def _restart_store(self, step: Step) -> None:
        async with self._store:
            fault = self._begin("store", None)
            try:
                await asyncio.to_thread(self._server.kill)
                await asyncio.sleep(step.for_s)
            finally:
                await asyncio.to_thread(self._server.restart)
            self._end_of(fault, self._server.kind)


async def _break(proxy: Proxy, step: Step) -> None:
    """One fault of a connection, and the time until it has passed."""
    if step.kind == "cut":
        proxy.cut()
    elif step.kind.startswith("cut in"):
        way = proxy.replies if step.kind == "cut in a reply" else proxy.requests
        # Few bytes fall into what is on its way at this very moment.
        way.bytes_left = int(step.dice**3 * 10_000)
        await asyncio.sleep(step.for_s)
        way.bytes_left = None
    elif step.kind == "delay":
        proxy.requests.delay_s = proxy.replies.delay_s = 0.02 + step.dice * 0.25
        await asyncio.sleep(step.for_s)
        proxy.requests.delay_s = proxy.replies.delay_s = 0.0
    else:
        # Of half of them only the replies are missing: what was asked for has happened.
        proxy.replies.hold()
        if step.dice < 0.5:
            proxy.requests.hold()
        await asyncio.sleep(step.for_s)
        if step.dice * 10 % 1 < 0.5:
            proxy.cut()
        proxy.requests.release()
        proxy.replies.release()
