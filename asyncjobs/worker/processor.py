"""The hot path: exchange → decode → run → judge → settle → next exchange.

Reads top to bottom, in the order in which a job passes. What counts here are the
microseconds of one job: no lock, no scope, no log line and no event object unless used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any, Final

from asyncjobs import events
from asyncjobs.backends.base import Exchange, Lease, StaleSequence
from asyncjobs.clock import now_ms as wall_ms
from asyncjobs.codec import BadEnvelope, Envelope, NewerEnvelope
from asyncjobs.config import AppSettings
from asyncjobs.context import JobContext, _current
from asyncjobs.errors import ConfigError, StoreError
from asyncjobs.events import Events
from asyncjobs.function import JobFunction
from asyncjobs.job import JobRef, Settlement, TakenJob
from asyncjobs.policy.limits import QueueShares
from asyncjobs.worker.parking import Parking
from asyncjobs.worker.run import Reason, Run, start_task
from asyncjobs.worker.session import Session
from asyncjobs.worker.settling import Settler
from asyncjobs.worker.threads import Threads
from asyncjobs.worker.unsettled import Unsettled

__all__ = ["Processor"]

logger = logging.getLogger("asyncjobs.worker")

TAKE_LIMIT: Final = 256
"""Jobs taken in one exchange at the most: enough to make the trip cheap for each, few
enough that the server answers others in between."""
ASK_ALL_EVERY: Final = 16
"""While some queue is hot, every so many exchanges the others are asked too."""

Find = Callable[[str], JobFunction[..., Any] | None]


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
        threads: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._shares = shares
        self._find = find
        self._settings = settings
        self._events = hub
        self._concurrency = concurrency
        self.threads = Threads(threads)
        self._running: set[Run] = set()
        self._taken: list[TakenJob] = []
        self._now_ms = 0
        self._unsettled = Unsettled()
        self._unsure: tuple[BaseException, int, list[Settlement]] | None = None
        self._notes: dict[JobContext, bytes] = {}
        self._note = self._notes.__setitem__
        self._lost: set[str] = set()
        self._ask_all = True
        self._trips = 0
        self._quiet = self._releasing = False
        self._drained = False
        self.parking = Parking(session.backend)
        self.settler = Settler(settings, hub, self._loop.time)
        self.alive: Callable[[], object] = time.monotonic
        self.max_jobs: int | None = None
        self.burst_wait_s: float | None = None
        self.taken = 0

    # -- the loop ---------------------------------------------------------------------

    async def run(self) -> None:
        """Take, run and settle until quiet and empty."""
        while not (self._quiet and self._is_empty()):
            self.alive()
            if self._unsure is not None:
                await self._recover(*self._unsure)
            elif self._lost:
                await self._rejoin()
            elif self._unsettled or self.parking.called or self._wants_jobs():
                await self._trade()
            elif self._taken:
                self._start_taken()
            elif not self._quiet and self._is_done():
                self._quiet = True
            else:
                await self.parking.sleep(self._session.lease, listen=self._free() > 0)

    def _wants_jobs(self) -> bool:
        return self._free() > 0 and bool(
            self._ask_all or self.parking.look or self.parking.due or self._shares.hot
        )

    def _free(self) -> int:
        """Slots to fill. None while the lease is unconfirmed: what would be started then
        may be running elsewhere already."""
        if self._quiet or not self._session.is_confirmed(time.monotonic()):
            return 0
        free = min(self._concurrency - len(self._running) - len(self._taken), TAKE_LIMIT)
        if self.max_jobs is not None:
            free = min(free, self.max_jobs - self.taken)
        return max(free, 0)

    async def _trade(self) -> None:
        settlements = self._unsettled.take()
        parking, free = self.parking, self._free()
        self._trips += 1
        ask_all = self._ask_all or parking.look or self._trips % ASK_ALL_EVERY == 0
        self._shares.hot |= parking.called | parking.due
        demand = self._shares.demand(free, ask_all=ask_all, called=parking.called)
        if not demand and not settlements:
            return
        parking.called = set()
        if free:
            parking.due, parking.look, self._ask_all = set(), False, False
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
        parking.note_due(exchange)
        self.taken += len(exchange.jobs)
        self._taken = exchange.jobs
        self._now_ms = exchange.now_ms
        if exchange.lost or exchange.not_yours or exchange.cancels:
            self._start_taken()
            self._note_verdicts(exchange)
        self._drained = ask_all and free > 0 and not exchange.jobs and not self._shares.hot

    async def _overlap(self, trip: Coroutine[Any, Any, Exchange]) -> Exchange:
        """Start what the last exchange has brought while the store works on this one."""
        if not self._taken:
            return await trip
        reply = self._loop.create_task(trip)
        try:
            await asyncio.sleep(0)  # one turn of the loop, in which the request leaves
            self._start_taken()
            return await reply
        except BaseException:
            reply.cancel()
            raise

    # -- an attempt ----------------------------------------------------------------------

    def _start_taken(self) -> None:
        taken, self._taken = self._taken, []
        for job in taken:
            self._start(job, self._now_ms)

    def _start(self, job: TakenJob, now_ms: int) -> None:
        """Decode a job and start its attempt; what cannot run is settled at once."""
        run = self._decode(job, now_ms)
        if run is None:
            return
        self._running.add(run)
        if self._events.active:
            started = (run.function.name, run.envelope.attempt, max(now_ms - job.ready_ms, 0))
            self._events.emit(events.JobStarted(job.ref, *started))
        if run.settings.timeout_s is not None:
            run.timer = self._loop.call_later(run.settings.timeout_s, run.stop, Reason.TIMEOUT)
        run.task = start_task(self._loop, self._attempt(run))

    def _decode(self, job: TakenJob, now_ms: int) -> Run | None:
        settler = self.settler
        try:
            envelope = Envelope.decode(job.envelope)
        except NewerEnvelope as error:
            self._unsettled.append(settler.unknown(job, "", str(error), now_ms))
            return None
        except BadEnvelope as error:
            self._unsettled.append(settler.unreadable(job, error))
            return None
        name = envelope.name
        function = self._find(name)
        if function is None:
            problem = f"no job function {name!r} here"
            self._unsettled.append(settler.unknown(job, name, problem, now_ms))
            return None
        try:
            run = Run(job, envelope, function, self._settings, now_ms, self._note)
            run.started_s = self._loop.time()
        except (TypeError, ValueError, OverflowError, ConfigError) as error:
            # An option or header of a kind that no client of ours writes.
            self._unsettled.append(settler.unreadable(job, error))
            return None
        if job.crashes >= self._settings.max_crashes:
            attempt, ttl_ms = envelope.attempt, run.result_ttl_ms
            self._unsettled.append(settler.crashed(job, name, attempt, ttl_ms))
            return None
        return run

    async def _attempt(self, run: Run) -> None:
        """One attempt, from the call of the job function to the settlement.

        Runs as a task of its own, so a context variable set in one job never shows in
        the next. Catches everything: even SystemExit ends the attempt, not the worker.
        """
        run.entered = True
        try:
            if run.reason is not None:
                raise asyncio.CancelledError
            _current.set(run.context)
            envelope, function = run.envelope, run.function
            kwargs = envelope.kwargs
            if function.injected is not None:
                kwargs[function.injected] = run.context
            if function.is_async:
                value = await function.function(*envelope.args, **kwargs)
            else:
                call = partial(function.function, *envelope.args, **kwargs)
                value = await self.threads.call(run, call)
        except BaseException as error:
            settlement = self.settler.error(run, error)
        else:
            settlement = self.settler.value(run, value)
        if run.timer is not None:
            run.timer.cancel()
        if run not in self._running:
            return  # abandoned: its job has been given back
        self._running.remove(run)
        if settlement is not None:
            self._unsettled.append(settlement)
        self._drained = False
        self.parking.nudge()

    # -- beside the way: verdicts, faults, the end ----------------------------------------

    def _note_verdicts(self, exchange: Exchange) -> None:
        for settlement in exchange.not_yours:
            logger.warning(
                "%s: ended as %s here, but it belongs to another worker now; its word counts",
                settlement.job.ref,
                settlement.state.value,
            )
        if exchange.cancels:
            self.cancel(exchange.cancels)
        self._lose(exchange.lost)

    def cancel(self, refs: Collection[JobRef]) -> None:
        """Stop the running attempts of these jobs; ones that are not here are ignored."""
        wanted = set(refs)
        for run in [run for run in self._running if run.job.ref in wanted]:
            run.stop(Reason.CANCEL)

    def note_lost(self, lease: Lease, queues: Collection[str]) -> None:
        """A heartbeat of `lease` found its entry gone in these queues."""
        present = self._session.lease
        self._lose([queue for queue in queues if lease.entry(queue) == present.entry(queue)])
        self.parking.nudge()

    def _lose(self, queues: Collection[str]) -> None:
        """Their jobs belong to other workers now: stop them here, settle nothing."""
        if not queues:
            return
        self._lost.update(queues)
        stopped = [run for run in self._running if run.job.queue in self._lost]
        for run in stopped:
            run.stop_again(Reason.LEASE_LOST)
        self._unsettled.drop(self._lost)
        self._taken = [job for job in self._taken if job.queue not in self._lost]
        logger.error(
            "the lease ended in %s; %d running jobs are stopped here and run elsewhere",
            ", ".join(sorted(queues)),
            len(stopped),
        )
        if self._events.active:
            worker = self._session.lease.worker
            self._events.emit(events.LeaseLost(worker, tuple(sorted(queues))))

    async def _rejoin(self) -> None:
        queues = sorted(self._lost)
        try:
            await self._session.rejoin(queues)
        except StoreError as error:
            self._unsure = (error, self._session.next_sequence(), [])
            return
        self._lost.difference_update(queues)
        self._ask_all = True

    async def _recover(
        self, cause: BaseException, sequence: int, settlements: list[Settlement]
    ) -> None:
        """The reply to exchange `sequence` was lost: ask what took effect, send again
        what did not, and start what the store says is ours."""

        def holding() -> list[TakenJob]:
            held = [run.job for run in self._running]
            held += [settlement.job for settlement in settlements]
            return held + self._unsettled.jobs() + self._taken

        answer = await self._session.resync(cause, holding)
        self._unsure = None
        self._lose([queue for queue in answer.lost if queue not in self._lost])
        again = [s for s in settlements if answer.applied.get(s.job.queue, sequence) < sequence]
        self._unsettled.put_back(again)
        self.taken += len(answer.missing)
        self._taken += answer.missing
        self._now_ms = wall_ms()
        if self._releasing:
            self._release_taken()
        self._ask_all = True

    def take_notes(self) -> list[tuple[TakenJob, bytes]]:
        """The newest progress of each running job, since the last call."""
        jobs = {run.context: run.job for run in self._running}
        notes = [self._notes.popitem() for _ in range(len(self._notes))]
        return [(jobs[context], note) for context, note in notes if context in jobs]

    def quiet(self) -> None:
        """Take no more jobs; `run` returns when what is running has been settled."""
        self._quiet = True
        self.parking.nudge()

    def release(self) -> None:
        """Stop everything that runs; it is given back and spends no attempt."""
        self._quiet = self._releasing = True
        self._release_taken()
        for run in list(self._running):
            run.stop_again(Reason.SHUTDOWN)
        self.parking.nudge()

    def _release_taken(self) -> None:
        for job in self._taken:
            self._unsettled.append(Settlement.release(job))
        self._taken = []

    def abandon(self) -> None:
        """Let go of attempts that swallow their cancellation: their jobs are given back."""
        for run in list(self._running):
            logger.error("%s: stuck, it ignores its cancellation", run.job.ref, extra=run.label)
            self._running.discard(run)
            self.settler.released += 1
            if run.reason is not Reason.LEASE_LOST:
                self._unsettled.append(Settlement.release(run.job))
        self.parking.nudge()

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return len(self._running)

    def _is_empty(self) -> bool:
        return not (self._running or self._taken or self._unsettled or self._unsure)

    def _is_done(self) -> bool:
        """Whether a limited worker has reached its end. Called with nothing to trade."""
        if self.max_jobs is not None and self.taken >= self.max_jobs:
            return True
        if self.burst_wait_s is None or self._running or self._free() == 0:
            return False
        if not self._drained:
            # A job may have enqueued others since all queues were last looked into.
            self._ask_all = True
            self.parking.nudge()
            return False
        due_s = self.parking.next_due_in_s()
        return due_s is None or due_s > self.burst_wait_s

    async def close(self) -> None:
        """Let go of the threads and of the pending wait."""
        self.threads.close()
        await self.parking.close()
