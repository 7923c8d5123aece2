"""The answers of the intake: the next step of the loop, and orders to carry out at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from asyncjobs.model.demand import Demand
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange

__all__ = [
    "DONE",
    "AskAgain",
    "Done",
    "Land",
    "Orders",
    "Park",
    "Recover",
    "Rejoin",
    "Start",
    "Step",
    "Trade",
]


class Land(NamedTuple):
    """Take in the exchange that an offer has brought."""

    exchange: Exchange


class Recover(NamedTuple):
    """Ask the store what took effect. `cause` says why nobody knows."""

    cause: BaseException


class AskAgain(NamedTuple):
    """Ask these queues again. They have failed while others answered."""

    queues: list[str]


class Rejoin(NamedTuple):
    """Enter these queues again: the lease was lost there."""

    queues: list[str]


class Trade(NamedTuple):
    """Exchange ended jobs for new ones, in one round trip.

    While the store works on it, the jobs that the trade before has brought are started. Most jobs
    start in this way.
    `is_alone`: it has one settlement that may be a misfit, and asks for nothing.
    """

    settlements: list[Settlement]
    demand: Mapping[str, Demand]
    is_alone: bool = False


class Start(NamedTuple):
    """Start these jobs. Only when there is nothing to trade: a trade starts them by itself."""

    jobs: list[TakenJob]


class Park(NamedTuple):
    """Sleep until something happens.

    `listens`: a signal of a queue ends the sleep, too. False begins no wait for signals, but one
    that is under way goes on.
    `is_busy`: jobs are running. Then listening begins only if that lasts, and nothing is offered:
    a job that blocks the loop would hold up the jobs that an offer brings.
    `slots`: how many jobs the store may hand out together with a signal.
    `wake_s`: when to wake in any case, in monotonic seconds; infinity for never.
    """

    listens: bool
    is_busy: bool
    slots: int
    wake_s: float


class Done(NamedTuple):
    """The worker has taken its last job and settled all that it had."""


DONE: Final = Done()

Step = Land | Recover | AskAgain | Rejoin | Trade | Start | Park | Done


class Orders(NamedTuple):
    """What has to be done at once after an event, whatever the next step is."""

    cancel: Collection[JobRef] = ()
    """A user wants these jobs to stop; some may not be running here."""
    lost: Collection[str] = ()
    """The lease has just been lost in these queues: stop the jobs that run for them."""
    given_back: Sequence[TakenJob] = ()
    """These jobs go back and have not been started: tell the listeners."""
    cancelled: Sequence[TakenJob] = ()
    """These jobs were cancelled and have not been started: settle them."""
