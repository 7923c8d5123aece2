"""Settlements that cannot be sent to the store, because our code or the store's has a fault.

Sending one raises what is no answer of a store, such as TypeError. That would end this worker, and
then each next one that runs the job. So the settlements of such an exchange are sent again one by
one, and the one that cannot be sent is replaced by a plainer one.
"""

from __future__ import annotations

from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.clock import now_ms
from asyncjobs.model.events import Events
from asyncjobs.model.headers import MAX_MESSAGE
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.options.app import AppSettings
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.intake import Intake
from asyncjobs.worker.engine.labels import call_of, label_of
from asyncjobs.worker.engine.records import bury
from asyncjobs.worker.engine.steps import Trade
from asyncjobs.worker.lease.session import ExchangeFault

__all__ = ["Misfits"]

logger = GuardedLog("asyncjobs.worker")

TRIES: Final = 2
"""How often a settlement is sent alone before it is replaced. A fault that has passed by then must
not cost a job its result or its next attempt."""
UNRECORDED: Final = "unrecorded"
"""The reason of a job that is dead because its real end cannot be sent."""


class Misfits:
    """Finds them, and decides what is sent instead. Counts how often each was tried."""

    def __init__(self, settings: AppSettings, hub: Events, intake: Intake) -> None:
        self._settings = settings
        self._events = hub
        self._intake = intake
        self._tries: dict[tuple[str, bytes], int] = {}

    def isolate(self, trade: Trade, fault: ExchangeFault) -> None:
        """This trade has met the fault. Raises its cause when no settlement can be the reason."""
        cause = fault.__cause__ or fault
        if not trade.settlements:
            raise cause
        if trade.is_alone:
            self._intake.send_instead(self._instead_of(trade.settlements[0], cause))
        else:
            text = "an exchange cannot be sent; its %d settlements are sent one by one"
            logger.error(text, len(trade.settlements), exc_info=cause)
        self._intake.broke(fault)

    def _instead_of(self, settlement: Settlement, fault: BaseException) -> Settlement | None:
        """What to send next for the job of a settlement that was sent alone and has met `fault`.

        None: nothing can be sent. The job stays with this worker. When the worker ends, the store
        gives it to another one.
        """
        job = settlement.job
        key = (job.queue, job.receipt)
        tries = self._tries.get(key, 0) + 1
        self._tries[key] = tries
        if tries < TRIES:
            return settlement
        told = describe(fault)
        problem = f"the store cannot be told its end: {told.kind}: {told.message}"[:MAX_MESSAGE]
        instead = None
        # A release has nothing to leave out, and the end of the lease gives the job back, too.
        if tries == TRIES and settlement.kind is not SettlementKind.RELEASE:
            # rule:17 a settlement that cannot be sent is replaced
            instead = self._plainer(settlement, problem)
        what = "nothing is sent"
        if instead is not None:
            what = f"it is {instead.state}"
        text = "%s: %s; %s"
        logger.error(text, job.ref, problem, what, exc_info=fault, extra=label_of(job))
        return instead

    def _plainer(self, settlement: Settlement, problem: str) -> Settlement:
        """The same end without its result. If more would be lost than that, the job is dead, and
        its dead letter has its envelope."""
        job = settlement.job
        state = settlement.state
        is_end = settlement.kind is SettlementKind.FINISH and state is not State.DEAD
        name, number = call_of(job)
        ttl_ms = self._settings.result_ttl_ms
        if is_end and settlement.effects is None:
            outcome = Outcome(
                state,
                name=name,
                attempt=number,
                finished_ms=now_ms(),
                unavailable=problem,
                reason=problem,
            )
            return Settlement(job, SettlementKind.FINISH, state, outcome.encode(), ttl_ms)
        outcome = Outcome(
            State.DEAD,
            name=name,
            attempt=number,
            finished_ms=now_ms(),
            reason=UNRECORDED,
            message=problem,
        )
        if self._events.active:
            self._events.emit(events.JobDead(job.ref, name, number, 0.0, UNRECORDED, None))
        return bury(job, outcome, ttl_ms)
