"""What tests of the intake are written with: a worker that runs nothing, and a clock to turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Exchange, Resync
from asyncjobs.store.lease import Offer
from asyncjobs.worker.engine.intake import Intake
from asyncjobs.worker.engine.slots import Slots
from asyncjobs.worker.engine.steps import Start, Step, Trade

AWAY = StoreUnavailable("the wire broke")
BROKEN = StoreError("planted: WRONGTYPE")
NOW_MS = 1_800_000_000_000
S = TypeVar("S")


def job(id: str, queue: str = "q", crashes: int = 0) -> TakenJob:
    return TakenJob(queue, id, 2, b"", b"{}", crashes, NOW_MS)


def jobs(*ids: str, queue: str = "q") -> list[TakenJob]:
    return [job(id, queue) for id in ids]


def exchange(*brought: TakenJob, **more: Any) -> Exchange:
    plain = Exchange([*brought], [], (), [], frozenset(), {}, None, NOW_MS)
    return plain._replace(**more)


def resync(*missing: TakenJob, applied: Mapping[str, int] | None = None, **more: Any) -> Resync:
    return Resync(dict(applied or {"q": 1}), [*missing], (), **more)


class Worker:
    """Drives an intake as the loop does, and says what has become of each job."""

    def __init__(
        self,
        *queues: str,
        concurrency: int = 2,
        threads: Mapping[str, int] | None = None,
        can_offer: bool | None = None,
    ) -> None:
        weights = dict.fromkeys(queues or ("q",), 1)
        self.threads = dict(threads or {})
        self.running: list[TakenJob] = []
        self.now_s = 1000.0
        self.is_sure = True
        self.sequence = 0
        slots = Slots(
            concurrency,
            in_use=lambda: len(self.running),
            most=lambda arrived: self.threads,
            room=self._room,
            has_places=threads is not None,
        )
        can_offer = len(weights) == 1 if can_offer is None else can_offer
        self.intake = Intake(QueueShares(weights), slots, can_offer=can_offer)

    def _room(self, arrived: Sequence[TakenJob]) -> tuple[int, ...]:
        """One suspect at a time."""
        here = [*self.running, *arrived]
        return (0,) if any(each.crashes for each in here) else (1,)

    def next(self) -> Step:
        return self.intake.next(self.now_s, is_sure=self.is_sure)

    def expect(self, kind: type[S]) -> S:
        """The next step, which has to be of this kind."""
        step = self.next()
        assert isinstance(step, kind), step
        return step

    def send(self) -> Trade:
        """A trade leaves."""
        trade = self.expect(Trade)
        self.sequence += 1
        self.intake.sent(self.sequence)
        return trade

    def trade(self, *brought: TakenJob, **more: Any) -> Trade:
        """A trade leaves, and its reply brings these jobs."""
        trade = self.send()
        self.intake.arrivals.answered(trade, exchange(*brought, **more), self.now_s)
        return trade

    def start(self) -> list[TakenJob]:
        """Run what the intake says."""
        started = self.expect(Start).jobs
        self.running += started
        return started

    def end(self, *ended: TakenJob) -> list[Settlement]:
        """These attempts have succeeded."""
        settlements = [Settlement.succeeded(each) for each in ended]
        for settlement in settlements:
            self.running.remove(settlement.job)
            self.intake.ended(settlement)
        return settlements

    def offer(self, slots: int) -> Offer:
        """The parked wait begins, with so many slots behind it."""
        self.sequence += 1
        offer = Offer(self.sequence, {"q": Demand(slots)})
        self.intake.appetite.offered(offer)
        return offer

    def run(self, *brought: TakenJob) -> list[TakenJob]:
        """These jobs are taken and started."""
        self.trade(*brought)
        return self.start()


def slots_of(trade: Trade) -> dict[str, int]:
    return {queue: demand.slots for queue, demand in trade.demand.items()}


def ids(found: Sequence[TakenJob]) -> list[str]:
    return [each.id for each in found]


def settled(trade: Trade) -> list[tuple[str, str]]:
    return [(each.job.id, each.kind.value) for each in trade.settlements]
