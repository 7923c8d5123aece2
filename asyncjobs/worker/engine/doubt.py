"""What the store has not answered: a whole exchange, or some queues of one.

When the reply to an exchange is lost, a resync says what took effect. A key of a wrong type or a
missing right makes one queue fail. Its settlements are kept until it answers a question of its
own, and nothing is taken from it meanwhile. The other queues go on at their full rate.

These are the words for a queue in trouble:

- *away*: one request to the store has failed for this queue and was answered for others.
- *in doubt*: it was away. Its settlements are kept, and it is *left out* of the shares, so nothing
  is taken there. That lasts until it answers a question about it alone (`AskAgain`).
- *failing*: it has not answered an exchange since it was away. A queue that has answered its
  question is no longer in doubt and still failing: the next failure doubles its pause.
- *unrenewed*: the last heartbeat could not renew the lease there. Then it stays in doubt.
- *lost*: the lease is not entered there. It has ended, or was never entered. Jobs of this queue are
  other workers', and `Rejoin` enters it again.
- *outside*: the lost queues as the session knows them. A heartbeat that reports no others as lost
  still confirms the lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.backoff import doubled
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Resync
from asyncjobs.worker.engine.stuck import Again

__all__ = ["AwayLog", "InDoubt", "Unanswered"]

logger = GuardedLog("asyncjobs.worker")

FIRST_S: Final = 0.1
MOST_S: Final = 10.0
"""The shortest and the longest pause of a queue that fails. It doubles with each failure in a
row."""


class AwayLog:
    """Logs once that a queue is away, and once that it is back."""

    __slots__ = ("_away", "_what")

    def __init__(self, what: str) -> None:
        """`what`: the request that fails there."""
        self._what = what
        self._away: set[str] = set()

    def note(self, away: Mapping[str, StoreError]) -> None:
        """All the queues that are away now, and why."""
        for queue in sorted(away.keys() - self._away):
            logger.error(
                "queue %r is left out because %s fails there: %s; it is tried again, and the other "
                "queues go on",
                queue,
                self._what,
                away[queue],
            )
        for queue in sorted(self._away - away.keys()):
            logger.warning("queue %r is back: %s works there again", queue, self._what)
        self._away = set(away)


class _Doubt:
    """What is kept for one queue in doubt."""

    __slots__ = ("again_s", "settlements")

    def __init__(self, again_s: float) -> None:
        self.again_s = again_s
        self.settlements: list[Settlement] = []


class Unanswered:
    """An exchange without a reply, which may never come."""

    __slots__ = ("again", "cause", "sequence", "settlements")

    def __init__(self, cause: BaseException, settlements: Sequence[Settlement] = ()) -> None:
        self.cause = cause
        self.settlements = settlements
        self.sequence = 0
        self.again: Again | None = None
        """When its settlement is tried again, if that has met a fault alone; None: at once."""

    def jobs(self) -> list[TakenJob]:
        """The jobs that its settlements are for."""
        return [settlement.job for settlement in self.settlements]

    def named_jobs(self) -> list[TakenJob]:
        """Those that need not be asked for. Of a success with effects the number of the exchange
        does not say whether it counts: a store without room leaves it out. So its job is not named
        in a resync, and the answer says whether it is still held."""
        return [each.job for each in self.settlements if each.effects is None]

    def sort_out(self, answer: Resync) -> tuple[list[Settlement], Resync]:
        """The settlements without an effect, and the answer without their jobs."""
        again = self.to_send_again(answer.applied)
        causing = {_key(each.job): each for each in self.settlements if each.effects is not None}
        if not causing:
            return again, answer
        missing = [job for job in answer.missing if _key(job) not in causing]
        # rule:6 after a lost reply a success with effects is sent again while its job is held
        held = [each for job in answer.missing if (each := causing.get(_key(job))) is not None]
        again = [each for each in again if each.effects is None]
        return again + held, answer._replace(missing=missing)

    def to_send_again(self, applied: Mapping[str, int]) -> list[Settlement]:
        """The settlements without an effect. `applied`: for each queue the last exchange that took
        effect there."""
        sequence = self.sequence
        # A queue that is not in `applied` has not answered. Nothing is known of it, so nothing is
        # sent again.
        return [
            settlement
            for settlement in self.settlements
            if applied.get(settlement.job.queue, sequence) < sequence
        ]


def _key(job: TakenJob) -> tuple[str, int, bytes]:
    return job.queue, job.priority, job.receipt


class InDoubt:
    """Owns the settlements of which nobody knows whether they count. Does no I/O. Times are
    monotonic seconds."""

    def __init__(self) -> None:
        self.exchange: Unanswered | None = None
        """The exchange that is under way, or whose reply was lost. It has no settlements if it
        stands for another request that has failed. Then this worker may hold jobs that it does not
        know of."""
        self.queues: dict[str, _Doubt] = {}
        """Queues that are left out until they answer a question about them alone."""
        self.failing: dict[str, StoreError] = {}
        """Queues without an answered exchange since they failed, and why."""
        self._failures: dict[str, int] = {}
        self._log = AwayLog("an exchange")

    def fail(self, cause: BaseException) -> None:
        """A request has no answer, so the store has to be asked what it knows."""
        if self.exchange is None:
            self.exchange = Unanswered(cause)
        else:
            self.exchange.cause = cause

    def add(
        self, away: Mapping[str, StoreError], settlements: Iterable[Settlement], now_s: float
    ) -> None:
        """These queues have not answered. What was sent to them may count or not.

        It is sent again, whatever a resync says of its number: a script that fails in the middle
        has noted the number, and has not done all settlements. Each counts only once all the same.
        """
        for queue, error in away.items():
            failures = self._failures[queue] = self._failures.get(queue, 0) + 1
            again_s = now_s + doubled(FIRST_S, MOST_S, failures - 1)
            doubt = self.queues.get(queue)
            if doubt is None:
                self.queues[queue] = _Doubt(again_s)
            else:
                doubt.again_s = again_s
            self.failing[queue] = error
        for settlement in settlements:
            if settlement.job.queue in away:
                # rule:5 what was sent to a queue that failed is kept until it answers
                self.queues[settlement.job.queue].settlements.append(settlement)
        self._log.note(self.failing)

    def hold_back(self, settlements: list[Settlement], *names: set[str]) -> list[Settlement]:
        """Keep the settlements of queues in doubt, and return the others.

        Removes these queues from each set of `names`, too. Left there, they would ask for an
        exchange again and again.
        """
        for queues in names:
            queues.difference_update(self.queues)
        others = []
        for settlement in settlements:
            doubt = self.queues.get(settlement.job.queue)
            if doubt is None:
                others.append(settlement)
            else:
                doubt.settlements.append(settlement)
        return others

    def due(self, now_s: float, unrenewed: Collection[str] = ()) -> list[str]:
        """The queues to ask again now. `unrenewed`: queues in which the lease is not renewed. They
        are left out: nothing may be taken there, whatever they answer."""
        return [
            queue
            for queue, doubt in self.queues.items()
            if doubt.again_s <= now_s and queue not in unrenewed
        ]

    def wake_s(self, now_s: float) -> float:
        """When the next pause ends; infinity when none is left."""
        # A queue whose pause is over waits for its lease to be renewed. To wake for it would not
        # help, and the loop would spin.
        pauses = (doubt.again_s for doubt in self.queues.values() if doubt.again_s > now_s)
        return min(pauses, default=float("inf"))

    def resolve(self, queues: Collection[str]) -> list[Settlement]:
        """These queues have answered, each alone. Hands over their settlements."""
        found: list[Settlement] = []
        for queue in queues:
            doubt = self.queues.pop(queue, None)
            if doubt is not None:
                found += doubt.settlements
        return found

    def note_exchange(self, queues: Collection[str]) -> None:
        """These queues have answered an exchange. Their next failure is a first one."""
        for queue in queues:
            self._failures.pop(queue, None)
            self.failing.pop(queue, None)
        self._log.note(self.failing)

    def drop(self, queues: Collection[str]) -> None:
        """Forget the settlements of these queues: their jobs belong to other workers."""
        for queue in queues:
            if queue in self.queues:
                self.queues[queue].settlements.clear()

    def jobs(self) -> Iterator[TakenJob]:
        """The jobs whose settlements are kept here, but for those that a resync must not name."""
        if self.exchange is not None:
            yield from self.exchange.named_jobs()
        for doubt in self.queues.values():
            for settlement in doubt.settlements:
                yield settlement.job

    def sent_jobs(self) -> Iterator[TakenJob]:
        """The jobs that the exchange without a reply settles."""
        if self.exchange is not None:
            yield from self.exchange.jobs()

    def holds_settlements(self) -> bool:
        if self.exchange is not None and self.exchange.settlements:
            return True
        return any(doubt.settlements for doubt in self.queues.values())
