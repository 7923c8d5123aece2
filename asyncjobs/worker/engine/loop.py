"""The loop of a worker: take, start, settle, and take again.

`intake.next` decides the next step. Each step has one method here, which talks to the store and
reports the result to the intake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping
from functools import partial
from typing import Any

from asyncjobs.errors import StoreError
from asyncjobs.guard.own import hide
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.model.clock import now_ms as wall_ms
from asyncjobs.model.events import Events
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.fairness import QueueShares
from asyncjobs.store.answers import Exchange, Heartbeat, StaleSequence
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.worker.engine.all_executors import AllExecutors
from asyncjobs.worker.engine.announce import (
    announce_exchange,
    announce_given_back,
    announce_lease_lost,
)
from asyncjobs.worker.engine.attempt import Crew, Reason
from asyncjobs.worker.engine.batches.collector import Batches
from asyncjobs.worker.engine.bounds import Bounds
from asyncjobs.worker.engine.counting import RunCounts
from asyncjobs.worker.engine.decoding import Find, decode
from asyncjobs.worker.engine.encore import goes_on
from asyncjobs.worker.engine.intake import Intake
from asyncjobs.worker.engine.mass_cancels import MassCancels
from asyncjobs.worker.engine.misfits import Misfits
from asyncjobs.worker.engine.parking import Parking
from asyncjobs.worker.engine.processes.executor import Processes
from asyncjobs.worker.engine.relays import Relays
from asyncjobs.worker.engine.runner import Runner
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.engine.seats import Seats
from asyncjobs.worker.engine.settling import Settler
from asyncjobs.worker.engine.steps import (
    AskAgain,
    Done,
    Land,
    Orders,
    Park,
    Recover,
    Rejoin,
    Start,
    Trade,
)
from asyncjobs.worker.engine.threads import Threads
from asyncjobs.worker.lease.session import ExchangeFault, Session

__all__ = ["Processor"]


class Processor:
    """Carries out what the intake decides. One `run` at a time, also after a cancelled one.

    Owns the parts of the engine. `running` has the jobs that run, `intake` has all others.
    """

    def __init__(
        self,
        session: Session,
        shares: QueueShares,
        find: Find,
        settings: AppSettings,
        hub: Events,
        *,
        middlewares: Middlewares,
        concurrency: int,
        threads: Threads,
        bounds: Bounds,
        processes: Processes | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.session = session
        self._events = hub
        self.running = Running(concurrency, settings.max_crashes)
        batches = Batches(concurrency, self.running, middlewares)
        self.executors = AllExecutors(threads, processes, self.running.note, batches)
        self.mass_cancels = MassCancels(self._loop.time)
        capabilities = session.backend.capabilities
        self.settler = Settler(settings, hub, self._loop.time, session.spec.worker, capabilities)
        self.settler.middlewares = middlewares
        threads.is_stopped_by_another = self.mass_cancels.have_stopped
        self.settler.is_stopped_by_another = self.mass_cancels.have_stopped
        # An offer looks into one queue. With several queues the signal may come from another one.
        slots = bounds.slots(concurrency, self.running, self.executors)
        self.intake = Intake(shares, slots, can_offer=len(session.spec.queues) == 1)
        self._arrivals = self.intake.arrivals
        self.counts = self._arrivals.counts = RunCounts(is_on=settings.history > 0)
        self._misfits = Misfits(settings, hub, self.intake, find)
        self.parking = Parking(session, self.intake.appetite, batches.flush)
        self.seats = Seats(session, self.running, hub, self.hear_signal)
        self.relays = Relays(session.backend)
        crew = Crew(settings, session.spec.worker, self.running.note, self.seats, session.backend)
        decode_job = partial(decode, find, crew, self.settler.unstarted)
        executors = self.executors
        self.runner = Runner(
            decode_job, hub, middlewares, executors, self.running, self.settler, self.settle, bounds
        )

    # -- the loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Take, run and settle until the intake wants no more jobs and every job is settled."""
        while True:
            match self.intake.next(self._loop.time(), is_sure=self._is_sure()):
                case Trade() as trade:
                    await self._trade(trade)
                case Start(jobs):
                    self.runner.start(jobs)
                    # One turn, in which the tasks make their first steps. In that step a job asks
                    # for its thread. Without the turn, the next trade would count that thread as
                    # free and take a job for it.
                    await asyncio.sleep(0)
                case Park() as park:
                    await self.parking.sleep(park)
                case Land(exchange):
                    self._note_answer(exchange, self._arrivals.landed(self._loop.time()))
                case Recover(cause):
                    await self._recover(cause)
                case AskAgain(queues):
                    await self._ask_again(queues)
                case Rejoin(queues):
                    await self._rejoin(queues)
                case Done():
                    if not await goes_on(self.intake):
                        return

    def _is_sure(self) -> bool:
        """Whether the lease is confirmed. If not, a job that starts may also run elsewhere."""
        return self.session.is_confirmed(time.monotonic())

    async def _trade(self, trade: Trade) -> None:
        sequence = self.session.next_sequence()
        self.intake.sent(sequence)
        trip = self.session.exchange(sequence, trade.settlements, trade.demand)
        try:
            exchange = await self._start_during(trip)
        except (StoreError, StaleSequence) as error:
            self.intake.failed(error)
            return
        except ExchangeFault as fault:
            self._misfits.isolate(trade, fault, self._loop.time())
            return
        self._note_answer(exchange, self._arrivals.answered(trade, exchange, self._loop.time()))

    async def _start_during(self, trip: Coroutine[Any, Any, Exchange]) -> Exchange:
        """Start the jobs of the last exchange while the store works on this one."""
        if not self.intake.holdings.arrived or not self._is_sure():
            return await trip
        reply = hide(self._loop.create_task(trip))
        try:
            await asyncio.sleep(0)  # one turn of the loop, in which the request leaves
            # Checked again: the process may have been stopped in that turn for longer than the
            # lease. Then its jobs run elsewhere.
            if self._is_sure():
                self.runner.start(self.intake.holdings.take_arrived())
            return await reply
        except BaseException:
            reply.cancel()
            raise

    def _note_answer(self, exchange: Exchange, orders: Orders | None) -> None:
        if exchange.now_ms:  # else every queue is away
            self.runner.clock_ahead_ms = self.seats.clock_ahead_ms = exchange.now_ms - wall_ms()
        if exchange.has_news:
            announce_exchange(self._events, exchange)
            self.relays.hear(exchange.relay)
        self._obey(orders)

    async def _recover(self, cause: BaseException) -> None:
        answer = await self.session.resync(cause, self._held)
        self._obey(self._arrivals.recovered(answer, self._loop.time()))

    async def _ask_again(self, queues: list[str]) -> None:
        try:
            answer = await self.session.ask(queues, self._held())
        except (StoreError, StaleSequence) as error:
            self.intake.failed(error)
            return
        self._obey(self._arrivals.asked_again(answer, self._loop.time()))

    async def _rejoin(self, queues: list[str]) -> None:
        try:
            away = await self.session.rejoin(queues)
        except StoreError as error:
            self.intake.failed(error)
            return
        self._arrivals.rejoined(queues, away, self._loop.time())
        self.session.outside = frozenset(self.intake.holdings.lost)

    def _held(self) -> list[TakenJob]:
        # rule:4 jobs that are running are named, so that none starts twice
        return [*self.running.jobs(), *self.intake.holdings.jobs()]

    # -- what is to be done at once ---------------------------------------------------------

    def _obey(self, orders: Orders | None) -> None:
        if orders is None:
            return
        if orders.lost:
            lost = self.intake.holdings.lost
            self.session.outside = frozenset(lost)
            stopped = self.running.lose(lost)
            announce_lease_lost(self._events, self.session.spec.worker, orders.lost, stopped)
        announce_given_back(self._events, orders.given_back)
        for job in orders.cancelled:
            self.intake.ended(self.settler.unstarted.cancelled(job))
        self.running.cancel(orders.cancel)

    def _obey_now(self, orders: Orders) -> None:
        """For events that come while the loop may be asleep."""
        self._obey(orders)
        self.parking.nudge()

    # -- events from outside the loop ---------------------------------------------------------

    def settle(self, settlement: Settlement | None) -> None:
        """Queue a settlement for the next trade: of an attempt that has freed its slot, or of a job
        that cannot run. None: the end of an attempt is not this worker's to record."""
        self.intake.ended(settlement)
        self.parking.nudge()

    def cancel(self, refs: Collection[JobRef]) -> None:
        """A user cancels these jobs. Running ones are stopped, the others never start."""
        self._obey_now(self._arrivals.cancel(refs))

    def hear_beat(self, spec: LeaseSpec, beat: Heartbeat) -> None:
        """The store has answered a heartbeat. `spec`: the lease as the heartbeat has sent it."""
        if beat.lost:
            self.note_lost(spec, beat.lost)
        if beat.cancels:
            self.cancel(beat.cancels)
        self._arrivals.hear_beat(beat.ready, beat.away, self._loop.time())
        self.parking.nudge()

    def hear_fault(self, error: StoreError) -> None:
        """Heartbeats fail, and the lease may have ended."""
        if not self.session.away:
            self.intake.appetite.hear_fault(error)
            self.parking.nudge()

    def hear_signal(self, queues: Collection[str]) -> None:
        """There may be work in these queues, even if another worker was signalled for it."""
        self.intake.appetite.hear_signal(queues)
        self.parking.nudge()

    def note_lost(self, spec: LeaseSpec, queues: Collection[str]) -> None:
        """The store has no entry of this lease in these queues."""
        # An answer may be old: where the worker has entered the queue again since, only the
        # entry before is gone.
        present = self.session.spec
        lost = [queue for queue in queues if spec.entry(queue) == present.entry(queue)]
        self._obey_now(self._arrivals.lose(lost))

    def start_without(self, away: Mapping[str, StoreError]) -> None:
        """These queues could not be entered at the start. They are entered when they answer."""
        self._arrivals.start_without(away, self._loop.time())

    @property
    def is_quiet(self) -> bool:
        """Whether it takes no more jobs."""
        return self.intake.appetite.takes_nothing

    # -- the end ---------------------------------------------------------------------------

    def quiet(self) -> None:
        """Take no more jobs; `run` returns when what is running has been settled."""
        self.intake.appetite.end()
        self.parking.nudge()

    def hear_end(self) -> None:
        """The worker will end: let the jobs that run know."""
        self.seats.end()
        self.executors.end()

    def release(self) -> None:
        """Stop all that runs and give it back. That spends no attempt."""
        orders = self._arrivals.release()
        self.running.release()
        self._obey_now(orders)

    def abandon(self) -> None:
        """Give back the jobs of attempts that swallow their cancellation."""
        for attempt in self.running.abandon():
            if attempt.reason is Reason.LEASE_LOST:
                # The job is another worker's: there is nothing to give back.
                self.settle(None)
                continue
            self.settler.released += 1
            self.settle(Settlement.release(attempt.job))

    def holding(self) -> list[TakenJob]:
        """The jobs that have run here and are not known to be settled."""
        return [*self.running.jobs(), *self.intake.holdings.ended_jobs()]

    async def close(self) -> None:
        """Let go of the threads, the processes and the pending wait."""
        await self.runner.close()
        await self.relays.close()
        await self.executors.close()
        await self.parking.close()
