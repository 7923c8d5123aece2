"""The hot path: exchange → decode → run → judge → settle → next exchange.

Reads top to bottom, in the order in which a job passes. What counts here are the
microseconds of one job: no lock, no scope, no log line and no event object unless used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from asyncjobs.backends.base import Exchange, LeaseSpec, Offer, Resync, StaleSequence
from asyncjobs.clock import now_ms as wall_ms
from asyncjobs.config import AppSettings
from asyncjobs.errors import StoreError
from asyncjobs.events import Events
from asyncjobs.job import JobRef, Settlement, TakenJob
from asyncjobs.own import hide
from asyncjobs.policy.limits import QueueShares
from asyncjobs.worker.decoding import Find, decode
from asyncjobs.worker.doubt import InDoubt
from asyncjobs.worker.engine.runner import Runner
from asyncjobs.worker.limit import Limit
from asyncjobs.worker.parking import Parking, offer_for
from asyncjobs.worker.run import Reason
from asyncjobs.worker.running import Running
from asyncjobs.worker.session import Session
from asyncjobs.worker.settling import Settler
from asyncjobs.worker.sweeps import Sweeps
from asyncjobs.worker.telling import tell_exchanged, tell_given_back, tell_lease_lost
from asyncjobs.worker.threads import Threads
from asyncjobs.worker.unsettled import Unsettled

__all__ = ["Processor"]

TAKE_LIMIT: Final = 256
"""Jobs taken in one exchange at the most: enough to make the trip cheap for each, few
enough that the server answers others in between."""

LOOK_S: Final = 1.0
"""How long a worker sleeps at the most while jobs of its queues wait for a thread."""


class Processor:
    """Owns the running attempts and the settlements that the store has not confirmed."""

    def __init__(
        self,
        session: Session,
        shares: QueueShares,
        find: Find,
        settings: AppSettings,
        hub: Events,
        *,
        concurrency: int,
        threads: Threads,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._shares = shares
        self._events = hub
        self._concurrency = concurrency
        self._taken: list[TakenJob] = []
        self._unsettled = Unsettled()
        self._unsure: tuple[BaseException, int, list[Settlement]] | None = None
        self._doubts = InDoubt()
        self._lost: set[str] = set()
        self.is_quiet = self._releasing = False
        self.running = Running(concurrency, settings.max_crashes)
        self.sweeps = Sweeps(self._loop.time)
        self.threads = threads
        self.parking = Parking(session.lease)
        self.settler = Settler(settings, hub, self._loop.time, session.spec.worker)
        threads.is_swept = self.settler.is_swept = self.sweeps.hit
        self.runner = Runner(
            partial(decode, find, settings, self.settler.unstarted, self.running.note),
            hub,
            session.spec.worker,
            running=self.running,
            threads=threads,
            settler=self.settler,
            settle=self.settle,
        )
        self._cancelled_early: set[JobRef] = set()
        self.limit = Limit()
        self.taken = 0

    # -- the loop ---------------------------------------------------------------------

    async def run(self) -> None:
        """Take, run and settle until quiet and empty."""
        while not (self.is_quiet and self._is_empty()):
            if self.parking.landed is not None:
                self._land(*self.parking.landed)
            elif self.parking.broken is not None and self._unsure is None:
                self._unsure = self.parking.broken, self._session.next_sequence(), []
            elif self._unsure is not None:
                await self._recover(*self._unsure)
            elif self._doubts.queues and (due := self._due_doubts()):
                await self._ask_again(due)
            elif self._lost and not self._lost <= self._doubts.queues.keys():
                await self._rejoin()
            elif self._unsettled or self.parking.called or self._wants_jobs():
                await self._trade()
            elif self._taken and self._is_sure():
                self._start_taken()
                await asyncio.sleep(0)  # their first steps: threads are counted there
            elif not self.is_quiet and self._is_done():
                self.is_quiet = True
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        free = self._free()
        # Jobs that wait for a thread keep calling: no call is asked for meanwhile.
        wanting = self._shares.hot or self._shares.suspects
        blocked = bool(wanting and self._shares.wanting() & self._full())
        # What a call brings must be able to start at once.
        offers = free > 0 and not self.limit.is_set and not self.threads.sync_queues
        await self.parking.sleep(
            listen=free > 0 and not blocked,
            limit_s=LOOK_S if blocked else None,
            is_busy=bool(self.running),
            offer=partial(offer_for, self._session, free) if offers else None,
        )

    def _wants_jobs(self) -> bool:
        shares, parking = self._shares, self.parking
        looks = shares.look or parking.look or parking.due
        if self._free() > 0:
            wanted = looks or (shares.hot and shares.hot - self._full())
            return bool(wanted or (shares.suspects and self._may_take_suspects()))
        # All free slots are offered: what is due is called for, and comes by the offer.
        return bool(looks) and parking.offered > 0 and not self.is_quiet

    def _may_take_suspects(self) -> bool:
        room = self.running.room(self._taken)
        return bool(self._shares.with_suspects(room, self._full()))

    def _full(self) -> set[str]:
        return {queue for queue, most in self.threads.most(len(self._taken)).items() if not most}

    def _is_sure(self) -> bool:
        """False while the lease may be over: what is started then may run elsewhere, too."""
        return self._session.is_confirmed(time.monotonic())

    def _free(self) -> int:
        if self.is_quiet or not self._is_sure():
            return 0
        if self._doubts.queues and len(self._doubts.queues) == len(self._shares.weights):
            return 0
        # rule:12 never more than there are free slots
        # rule:12 jobs that are taken and not started count
        # rule:12 slots that are offered behind a call count
        used = len(self.running) + len(self._taken) + self.parking.offered
        free = min(self._concurrency - used, TAKE_LIMIT)
        return self.limit.cap(max(free, 0), self.taken)

    def _land(self, called: Collection[str], offer: Offer, exchange: Exchange) -> None:
        """Take in what an exchange has brought that waited behind a call."""
        self.parking.landed = None
        if not exchange.jobs:
            # Called for jobs that are no longer there, or for suspects.
            self.parking.called.update(called)
        if self.is_quiet:
            self._give_back(exchange.jobs)
        self._shares.learn(offer.demand, exchange.left_ready)
        self.parking.note_due(exchange)
        self._accept(exchange)

    async def _trade(self) -> None:
        settlements, parking, free = self._unsettled.take(), self.parking, self._free()
        if self._doubts.queues:
            settlements = self._doubts.hold_back(settlements, parking.called, parking.due)
        self._shares.look |= parking.look
        if not free and parking.offered and (parking.due or self._shares.look):
            parking.called |= parking.due or {*self._shares.weights}
            self._shares.look = False
        self._shares.hot |= parking.called | parking.due
        demand = self._shares.demand(
            free,
            self._loop.time(),
            called=parking.called,
            most=self.threads.most(len(self._taken)),
            room=self.running.room(self._taken),
        )
        if not demand and not settlements:
            return
        parking.called = set()
        if free or parking.offered:
            parking.due, parking.look = set(), False
        sequence = self._session.next_sequence()
        # Until the reply is here nothing is known of these settlements.
        self._unsure = (asyncio.CancelledError(), sequence, settlements)
        try:
            exchange = await self._overlap(self._session.exchange(sequence, settlements, demand))
        except (StoreError, StaleSequence) as error:
            self._unsure = (error, sequence, settlements)
            return
        self._unsure = None
        self._shares.learn(demand, exchange.left_ready)
        if exchange.suspects or self._shares.suspects:
            self._shares.learn_suspects(exchange.next_due_ms, exchange.suspects)
        parking.note_due(exchange)
        if exchange.away or self._doubts.failing:
            self._doubt(exchange.away, settlements, demand)
        self._accept(exchange)
        drained = self._shares.asked_all and not exchange.jobs and not self._shares.wanting()
        self.limit.learn(exchange, self._loop.time(), drained=drained)

    async def _overlap(self, trip: Coroutine[Any, Any, Exchange]) -> Exchange:
        """Start what the last exchange has brought while the store works on this one."""
        if not self._taken or not self._is_sure():
            return await trip
        reply = hide(self._loop.create_task(trip))
        try:
            await asyncio.sleep(0)  # one turn of the loop, in which the request leaves
            # Asked again: in that turn the process may have been stopped for longer than
            # the lease, and what it took runs elsewhere.
            if self._is_sure():
                self._start_taken()
            return await reply
        except BaseException:
            reply.cancel()
            raise

    def _accept(self, exchange: Exchange) -> None:
        self.taken += len(exchange.jobs)
        self._taken += exchange.jobs
        if exchange.now_ms:  # else every queue is away
            self.runner.clock_ahead_ms = exchange.now_ms - wall_ms()
        if exchange.has_news or self._lost:
            tell_exchanged(self._events, exchange)
            self._lose(exchange.lost)
        if self._releasing:
            self._give_back(self._taken)
        if exchange.cancels or self._cancelled_early:
            self.cancel(exchange.cancels)

    # -- the ends of attempts ------------------------------------------------------------

    def _start_taken(self) -> None:
        taken, self._taken = self._taken, []
        self.runner.start(taken)

    def settle(self, settlement: Settlement | None) -> None:
        """An attempt has given up its slot; None when its end is not ours to say."""
        if settlement is not None:
            self._unsettled.append(settlement)
        self.limit.drained = False
        self.parking.nudge()

    # -- beside the way: verdicts, faults, the end ----------------------------------------

    def cancel(self, refs: Collection[JobRef] = ()) -> None:
        """A user wants these jobs to stop; ones that have not started must not."""
        early = self._cancelled_early
        early.update(refs)
        if self._taken:
            unwanted = [job for job in self._taken if job.ref in early]
            self._taken = [job for job in self._taken if job.ref not in early]
            for job in unwanted:
                self._unsettled.append(self.settler.unstarted.cancelled(job))
        is_sure = self._unsure is None and not self._doubts.queues
        if is_sure and self.parking.is_sure():
            early.clear()  # else a reply may bring them that is on its way
        self.running.cancel(refs)
        self.parking.nudge()

    def note_lost(self, lease: LeaseSpec, queues: Collection[str]) -> None:
        """A heartbeat of `lease` found its entry gone in these queues."""
        present = self._session.spec
        self._lose([queue for queue in queues if lease.entry(queue) == present.entry(queue)])
        self.parking.nudge()

    def _lose(self, queues: Collection[str]) -> None:
        """Their jobs belong to other workers now: stop them here, settle nothing.

        Nor what a reply has brought that was on its way when a heartbeat told of the loss.
        """
        queues = set(queues) - self._lost
        if queues:
            self.parking.withdraw()
            self._lost |= queues
            stopped = self.running.lose(self._lost)
            tell_lease_lost(self._events, self._session.spec.worker, queues, stopped)
        self._unsettled.drop(self._lost)
        self._doubts.drop(self._lost)
        self._session.outside = frozenset(self._lost)
        self._taken = [job for job in self._taken if job.queue not in self._lost]

    async def _rejoin(self) -> None:
        queues = sorted(self._lost.difference(self._doubts.queues))
        try:
            away = await self._session.rejoin(queues)
        except StoreError as error:
            self._unsure = (error, self._session.next_sequence(), [])
            return
        self._lost.difference_update(queue for queue in queues if queue not in away)
        self._session.outside = frozenset(self._lost)
        self._shares.look = True
        if away:
            self._doubt(away)

    # rule:4 an offer is withdrawn before a resync
    async def _recover(
        self, cause: BaseException, sequence: int, settlements: list[Settlement]
    ) -> None:
        """The reply to exchange `sequence` was lost: ask what took effect, send again
        what did not, and start what the store says is ours."""
        self.parking.withdraw()
        sent = [settlement.job for settlement in settlements]
        answer = await self._session.resync(cause, lambda: [*self._known_jobs(), *sent])
        self._unsure = None
        again = [s for s in settlements if answer.applied.get(s.job.queue, sequence) < sequence]
        # rule:4 settlements that did not take effect are sent again
        self._unsettled.put_back(again)
        self._doubt(answer.away, settlements)
        self._resume(answer)

    def _known_jobs(self) -> list[TakenJob]:
        # rule:4 jobs that are running are named, so that none starts twice
        held = [*self.running.jobs(), *self._unsettled.jobs(), *self._taken]
        return [*held, *self._doubts.jobs()]

    def _resume(self, answer: Resync) -> None:
        """Go on with the queues that have said what they hold for us."""
        self._unsettled.put_back(self._doubts.resolve(answer.applied))
        self._shares.leave_out(self._doubts.queues)
        self.taken += len(answer.missing)
        if self.is_quiet:
            self._give_back(answer.missing)
        # rule:4 jobs that the store says are ours are started
        self._taken += answer.missing
        self._lose(answer.lost)
        if self._releasing:
            self._give_back(self._taken)
        self.cancel()
        self._shares.look = True

    # -- queues that do not answer, beside others that do ------------------------------------

    def start_without(self, away: Mapping[str, StoreError]) -> None:
        """These queues could not be entered at the start: they are, as soon as they answer."""
        self._lost.update(away)
        self._doubt(away)

    def note_away(self, away: Mapping[str, StoreError]) -> None:
        """A heartbeat could not renew the lease in these queues: take nothing there."""
        new = {queue: why for queue, why in away.items() if queue not in self._doubts.queues}
        if new:
            self._doubt(new)

    def _doubt(
        self,
        away: Mapping[str, StoreError],
        settlements: Collection[Settlement] = (),
        asked: Collection[str] = (),
    ) -> None:
        """Leave out the queues that are away; of those asked, the others have answered."""
        self._doubts.add(away, settlements, self._loop.time())
        self._doubts.note_exchange([queue for queue in asked if queue not in away])
        for queue in away:
            self._loop.call_at(self._doubts.next_s(queue), self.parking.nudge)
        self._shares.leave_out(self._doubts.queues)

    def _due_doubts(self) -> list[str]:
        return self._doubts.due(self._loop.time(), self._session.unrenewed - self._lost)

    async def _ask_again(self, queues: list[str]) -> None:
        """Ask each what it knows of us, and enter anew those in which the lease is lost."""
        entered = [queue for queue in queues if queue not in self._lost]
        self._doubts.resolve([queue for queue in queues if queue in self._lost])
        self._shares.leave_out(self._doubts.queues)
        if not entered:
            return
        self.parking.withdraw()  # of a worker's one queue: this makes its offer void
        try:
            answer = await self._session.ask(entered, self._known_jobs())
        except (StoreError, StaleSequence) as error:
            self._unsure = (error, self._session.next_sequence(), [])
            return
        self._doubt(answer.away)
        self._doubts.resolve(answer.lost)
        self._resume(answer)

    def quiet(self) -> None:
        """Take no more jobs; `run` returns when what is running has been settled."""
        self.is_quiet = True
        self.parking.nudge()

    def release(self) -> None:
        """Stop everything that runs; it is given back and spends no attempt."""
        self.is_quiet = self._releasing = True
        self._give_back(self._taken)
        self.running.release()
        self.parking.nudge()

    def _give_back(self, jobs: list[TakenJob]) -> None:
        ours = [job for job in jobs if job.queue not in self._lost]
        jobs.clear()
        tell_given_back(self._events, ours)
        self._unsettled.put_back([Settlement.release(job) for job in ours])

    def abandon(self) -> None:
        """Give back the jobs of attempts that swallow their cancellation."""
        for attempt in self.running.abandon():
            self.settler.released += 1
            is_lost = attempt.reason is Reason.LEASE_LOST
            self.settle(None if is_lost else Settlement.release(attempt.job))

    def holds_nothing(self) -> bool:
        """True when no job would be missed if this worker ended now."""
        unsure = self._unsure is not None and self._unsure[2]
        kept = bool(self._doubts.queues) and self._doubts.holds_settlements()
        return not (self.running or self._taken or self._unsettled or unsure or kept)

    def holding(self) -> list[TakenJob]:
        """The jobs that have run here and are not known to be settled."""
        sent = [] if self._unsure is None else self._unsure[2]
        return [*self.running.jobs(), *self._unsettled.jobs(), *(each.job for each in sent)]

    def _is_empty(self) -> bool:
        # A call that was heard has to be passed on before the end, what it brought given back.
        heard = self.parking.called or self.parking.landed is not None
        return self.holds_nothing() and self._unsure is None and not heard

    def _is_done(self) -> bool:
        """Whether a limited worker has reached its end. Called with nothing to trade."""
        limit = self.limit
        if limit.is_reached(self.taken):
            return True
        blocked = self._shares.wanting() & self._full()  # by threads whose jobs were lost
        if not limit.is_burst or self.running or blocked or not self._free():
            return False
        if self._doubts.queues:  # nobody knows whether they are empty
            return False
        if not limit.drained:
            # A job may have enqueued others since all queues were last looked into.
            self._shares.look = True
            self.parking.nudge()
        return limit.is_drained(self._loop.time(), self.parking.next_due_in_s())

    async def close(self) -> None:
        """Let go of the threads and of the pending wait."""
        self.threads.close()
        await self.parking.close()
