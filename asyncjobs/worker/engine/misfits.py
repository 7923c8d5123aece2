"""Settlements that cannot be sent to the store, because our code or the store's has a fault.

Sending one raises what is no answer of a store, such as TypeError. That would end this worker, and
then each next one that runs the job. So the settlements of such an exchange are sent again one by
one. The one that raises alone is tried again for a while, since most faults pass. Then a plainer
one is sent. If not even that can be sent, the real one is tried again from time to time.
"""

from __future__ import annotations

from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import events
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import now_ms
from asyncjobs.model.events import Events
from asyncjobs.model.headers import MAX_MESSAGE
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.redaction import Mask, Redaction, mask_of
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.engine.decoding import Find
from asyncjobs.worker.engine.error_text import ErrorText, describe
from asyncjobs.worker.engine.intake import Intake
from asyncjobs.worker.engine.labels import call_of, label_of
from asyncjobs.worker.engine.records import bury
from asyncjobs.worker.engine.steps import Trade
from asyncjobs.worker.engine.stuck import Again
from asyncjobs.worker.lease.session import ExchangeFault

__all__ = ["Misfits"]

logger = GuardedLog("asyncjobs.worker")

PATIENCE_S: Final = 30.0
"""For how long a settlement has to meet a fault before it is replaced. A fault that passes sooner
must not cost a job its result or its next attempt."""
FIRST_S: Final = 0.1
MOST_S: Final = 5.0
"""The shortest and the longest pause between the tries meanwhile."""
RARELY_S: Final = 60.0
"""The pause between the tries when not even a plainer settlement can be sent."""
UNRECORDED: Final = "unrecorded"
"""The reason of a job that is dead because its real end cannot be sent."""


class _Misfit:
    """A settlement that has met a fault alone."""

    __slots__ = ("first_s", "is_replaced", "pauses", "plainer", "real")

    def __init__(self, real: Settlement, first_s: float) -> None:
        self.real = real
        self.first_s = first_s
        self.pauses = Pauses(FIRST_S, MOST_S)
        self.plainer: Settlement | None = None
        self.is_replaced = False
        """Whether the plainer one was sent last."""


class Misfits:
    """Finds them, and decides what is sent when. The clock is passed in, in monotonic seconds."""

    def __init__(self, settings: AppSettings, hub: Events, intake: Intake, find: Find) -> None:
        self._settings = settings
        self._events = hub
        self._intake = intake
        self._find = find
        self._known: dict[tuple[str, bytes], _Misfit] = {}
        self._most_known = 64

    def isolate(self, trade: Trade, fault: ExchangeFault, now_s: float) -> None:
        """This trade has met the fault. Raises its cause when no settlement can be the reason."""
        cause = fault.__cause__ or fault
        if not trade.settlements:
            raise cause
        if trade.is_alone:
            self._intake.send_instead(*self._instead_of(trade.settlements[0], cause, now_s))
        else:
            # Its text may quote any of these jobs.
            shown = None
            if all(self._mask(each.job) is None for each in trade.settlements):
                shown = cause
            text = "an exchange cannot be sent (%s); its %d settlements are sent one by one"
            kind = class_name(type(cause))
            logger.error(text, kind, len(trade.settlements), exc_info=shown)
        self._intake.broke(fault)

    def _instead_of(
        self, settlement: Settlement, fault: BaseException, now_s: float
    ) -> tuple[Settlement, Again | None]:
        """What to send next for the job of a settlement that was sent alone and has met `fault`,
        and when; None: at once."""
        job = settlement.job
        misfit = self._known.get((job.queue, job.receipt))
        if misfit is None:
            misfit = self._note(settlement, now_s)
        # rule:17 a fault that passes costs no job its next attempt
        if now_s - misfit.first_s < PATIENCE_S:
            return misfit.real, Again(now_s + misfit.pauses.next_s())
        # A release has nothing to leave out, and the end of the lease gives the job back, too.
        is_release = misfit.real.kind is SettlementKind.RELEASE
        told = describe(fault, self._mask(job))
        if misfit.is_replaced or is_release:
            misfit.is_replaced = False
            self._log(job, told, f"it is tried again in {RARELY_S:.0f} s")
            # The real one: should the fault be over by then, the job loses nothing.
            return misfit.real, Again(now_s + RARELY_S, is_hopeless=True)
        if misfit.plainer is None:
            misfit.plainer = self._plainer(misfit.real, _problem(told))
            self._log(job, told, f"it is {misfit.plainer.state}")
        misfit.is_replaced = True
        # rule:17 a settlement that cannot be sent is replaced
        instead = misfit.plainer
        return instead, None

    def _note(self, settlement: Settlement, now_s: float) -> _Misfit:
        """Its first fault. From time to time, those that are settled by now are forgotten."""
        if len(self._known) >= self._most_known:
            held = {(job.queue, job.receipt) for job in self._intake.holdings.jobs()}
            self._known = {key: each for key, each in self._known.items() if key in held}
            self._most_known = 2 * len(self._known) + 64
        misfit = _Misfit(settlement, now_s)
        self._known[settlement.job.queue, settlement.job.receipt] = misfit
        return misfit

    def _mask(self, job: TakenJob) -> Mask | None:
        """What must not be shown of a job. A driver's error may quote what it cannot write."""
        function = self._find(call_of(job)[0])
        redaction = Redaction()
        if function is not None:
            redaction = function.redaction
        return mask_of(redaction, job.envelope)

    @staticmethod
    def _log(job: TakenJob, told: ErrorText, what: str) -> None:
        exc_text = None
        if told.shown is None:
            exc_text = told.trace.rstrip()
        text = "%s: %s; %s"
        extra = label_of(job)
        problem = _problem(told)
        logger.error(
            text, job.ref, problem, what, exc_info=told.shown, exc_text=exc_text, extra=extra
        )

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
            plain = Settlement(job, SettlementKind.FINISH, state, outcome.encode(), ttl_ms)
            return plain.telling(settlement.run)
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
        return bury(job, outcome, ttl_ms).telling(settlement.run)


def _problem(told: ErrorText) -> str:
    return f"the store cannot be told its end: {told.kind}: {told.message}"[:MAX_MESSAGE]
