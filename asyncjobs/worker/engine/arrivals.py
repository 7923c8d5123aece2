"""Takes in events: answers of the store, heartbeats, cancels, the stop. Does no I/O.

An event changes what is held and what is wanted. It returns orders if something has to be done
at once, whatever the next step is. The clock is passed in, in monotonic
seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from asyncjobs.errors import StoreError
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange, Resync
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.counting import RunCounts
from asyncjobs.worker.engine.holdings import Holdings
from asyncjobs.worker.engine.room import Room
from asyncjobs.worker.engine.steps import Orders, Trade

__all__ = ["Arrivals"]


class Arrivals:
    """Sorts what arrives into the holdings and the appetite of a worker."""

    __slots__ = (
        "_appetite",
        "_doubt",
        "_holdings",
        "_offer",
        "_room",
        "_shares",
        "_signals",
        "counts",
        "unrenewed",
    )

    def __init__(self, holdings: Holdings, appetite: Appetite) -> None:
        self._holdings = holdings
        self._appetite = appetite
        self._doubt = holdings.doubt
        self._offer = appetite.offer
        self._signals = appetite.signals
        self._shares = appetite.shares
        self._room = Room()
        self.counts = RunCounts(is_on=False)
        """What the attempts took whose ends the store has recorded."""
        self.unrenewed: Collection[str] = ()
        """Queues in which the last heartbeat could not renew the lease."""

    # -- from the store --------------------------------------------------------------------

    def answered(self, trade: Trade, exchange: Exchange, now_s: float) -> Orders | None:
        """The reply to the trade is here."""
        self._doubt.exchange = None
        # rule:19 figures count what the store has recorded
        self.counts.answered(trade.settlements, exchange)
        self._appetite.learn(trade.demand, exchange, now_s)
        if exchange.full:
            self._holdings.stuck.add(exchange.full, self._room.again(exchange.full, now_s))
        if exchange.away or self._doubt.failing:
            self._leave_out(exchange.away, now_s, trade.settlements, trade.demand)
        return self._take_in(exchange.jobs, exchange.lost, exchange.cancels)

    def landed(self, now_s: float) -> Orders | None:
        """Take in what the offer has brought."""
        landed = self._offer.landed
        assert landed is not None
        self._offer.landed = None
        exchange = landed.exchange
        if not exchange.jobs:
            # The signal was for jobs that are gone by now, or for suspects, which no offer takes.
            # The next exchange asks for them, and passes the signal on.
            self._signals.signalled.update(landed.signalled)
        self._appetite.learn(landed.offer.demand, exchange, now_s, is_offer=True)
        return self._take_in_late(exchange.jobs, exchange.lost, exchange.cancels)

    def recovered(self, answer: Resync, now_s: float) -> Orders | None:
        """The store has said what took effect, and which jobs it has given us."""
        sent = self._doubt.exchange
        assert sent is not None
        self._doubt.exchange = None
        # rule:19 figures count what was recorded by an exchange without a reply
        self.counts.recovered(sent, answer.applied)
        again, answer = sent.sort_out(answer)
        if sent.again is not None:
            self._holdings.stuck.add(again, sent.again)
        else:
            # rule:4 settlements that did not take effect are sent again
            self._holdings.unsettled.put_back(again)
        self._leave_out(answer.away, now_s, sent.settlements)
        return self._resume(answer)

    def asked_again(self, answer: Resync, now_s: float) -> Orders | None:
        """Queues in doubt were asked alone, and some have answered."""
        self._leave_out(answer.away, now_s)
        # The jobs of lost queues are other workers': what was to be settled there is dropped.
        self._doubt.resolve(answer.lost)
        return self._resume(answer)

    def rejoined(
        self, queues: Collection[str], away: Mapping[str, StoreError], now_s: float
    ) -> None:
        """The lease is entered again in these queues, except for those that are away."""
        self._holdings.lost.difference_update(queue for queue in queues if queue not in away)
        self._shares.look = True
        if away:
            self._leave_out(away, now_s)

    def _resume(self, answer: Resync) -> Orders | None:
        """Go on with the queues that have said what they hold for us."""
        self._holdings.unsettled.put_back(self._doubt.resolve(answer.applied))
        self._shares.leave_out(self._doubt.queues)
        self._shares.look = True
        # rule:4 jobs that the store says are ours are started
        return self._take_in_late(answer.missing, answer.lost)

    def _take_in_late(
        self, jobs: list[TakenJob], lost: Collection[str], cancels: Sequence[JobRef] = ()
    ) -> Orders | None:
        """Jobs that come beside a trade. A worker that is quiet does not start them."""
        # rule:22 a worker that was ordered to be quiet starts nothing
        if not self._appetite.takes_nothing:
            return self._take_in(jobs, lost, cancels)
        self._holdings.taken += len(jobs)
        returned = self._holdings.give_back(jobs)
        orders = self._take_in([], lost, cancels) or Orders()
        return orders._replace(given_back=[*returned, *orders.given_back])

    def _take_in(
        self, jobs: list[TakenJob], lost: Collection[str], cancels: Sequence[JobRef]
    ) -> Orders | None:
        holdings = self._holdings
        holdings.taken += len(jobs)
        holdings.arrived += jobs
        if not (lost or cancels or holdings.lost or holdings.unwanted or holdings.is_releasing):
            return None
        new = self._lose(lost)
        returned: Sequence[TakenJob] = ()
        if holdings.is_releasing:
            returned = holdings.give_back(holdings.take_arrived())
        return Orders(cancels, new, returned, self._drop_unwanted(cancels))

    # -- from heartbeats, users, and at the end ---------------------------------------------

    def hear_beat(
        self, ready: Collection[str], away: Mapping[str, StoreError], now_s: float
    ) -> None:
        """The store has renewed the lease, except in the queues that are away. `ready`: queues
        that hold work. That finds jobs whose signal was lost."""
        self.unrenewed = away.keys()
        new = {queue: why for queue, why in away.items() if queue not in self._doubt.queues}
        if new:
            # rule:2 a queue that cannot be renewed is left out
            self._leave_out(new, now_s)
        self._offer.hear_beat(has_work=bool(ready))
        self._signals.hear_beat(ready, now_s)

    def cancel(self, refs: Collection[JobRef]) -> Orders:
        """A user cancels these jobs. Running ones are stopped, the others never start."""
        return Orders(refs, cancelled=self._drop_unwanted(refs))

    def _drop_unwanted(self, refs: Collection[JobRef]) -> list[TakenJob]:
        is_in_doubt = self._doubt.exchange is not None or bool(self._doubt.queues)
        more_may_come = is_in_doubt or self._offer.may_bring_jobs()
        return self._holdings.drop_unwanted(refs, more_may_come=more_may_come)

    def lose(self, queues: Collection[str]) -> Orders:
        """The lease is gone in these queues."""
        return Orders(lost=self._lose(queues))

    def _lose(self, queues: Collection[str]) -> Collection[str]:
        new = self._holdings.lose(queues)
        if new:
            # Its jobs belong to other workers now.
            self._offer.withdraw()
        return new

    def start_without(self, away: Mapping[str, StoreError], now_s: float) -> None:
        """These queues could not be entered at the start. They are entered when they answer."""
        self._holdings.lost.update(away)
        self._leave_out(away, now_s)

    def _leave_out(
        self,
        away: Mapping[str, StoreError],
        now_s: float,
        settlements: Collection[Settlement] = (),
        asked: Collection[str] = (),
    ) -> None:
        """Go on without the queues that are away. All others of `asked` have answered."""
        self._doubt.add(away, settlements, now_s)
        self._doubt.note_exchange([queue for queue in asked if queue not in away])
        self._shares.leave_out(self._doubt.queues)

    def release(self) -> Orders:
        """Start nothing any more, and give back what has not been started."""
        self._appetite.end()
        self._holdings.is_releasing = True
        return Orders(given_back=self._holdings.give_back(self._holdings.take_arrived()))
