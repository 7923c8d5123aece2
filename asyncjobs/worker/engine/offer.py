"""Slots that the store may fill together with a signal, without another round trip. Does
no I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from asyncjobs.errors import StoreError
from asyncjobs.store.answers import Exchange, StaleSequence
from asyncjobs.store.lease import Offer

__all__ = ["MOST_OFFERED", "Landed", "StandingOffer"]

MOST_OFFERED: Final = 8
"""The most slots of one offer, even if more are free. A process that is stopped, or a machine that
has lost its power, is still handed these jobs, and keeps them until its lease ends."""


class Landed(NamedTuple):
    """An offer that was taken up."""

    signalled: Collection[str]
    offer: Offer
    exchange: Exchange


class StandingOffer:
    """Owns the one offer of a worker, from when it is made until its answer is taken in.

    An offer stands, then it lands or breaks. A resync of the worker ends it in any case, and finds
    the jobs that it has brought.
    """

    __slots__ = ("_offer", "_unheard", "broken", "landed", "slots")

    def __init__(self) -> None:
        self.slots = 0
        """How many slots are kept free for the jobs that the offer may bring."""
        self.landed: Landed | None = None
        """Its answer, not yet taken in."""
        self.broken: StoreError | StaleSequence | None = None
        """Why it has no answer. This worker may hold jobs that it does not know of."""
        self._offer: Offer | None = None
        self._unheard: Offer | None = None
        """The offer that had no answer when a heartbeat last reported ready work."""

    def make(self, offer: Offer) -> None:
        """This offer is on its way to the store."""
        self._offer = offer
        self.slots = sum(demand.slots for demand in offer.demand.values())

    def answer(self, signalled: Collection[str], exchange: Exchange | None) -> bool:
        """The wait in front of it has ended. True when it has landed."""
        offer = self._offer
        self._end()
        if offer is None:
            return False
        if exchange is None:
            # It was not withdrawn, and yet the store refuses its number: a copy of the request
            # has taken effect before.
            self.broken = StaleSequence(f"the offer {offer.sequence} was refused")
            return False
        self.landed = Landed(signalled, offer, exchange)
        return True

    def fail(self, error: StoreError | StaleSequence) -> None:
        """The wait in front of it has failed. Does nothing when no offer was made."""
        if self._offer is not None:
            self._end()
            self.broken = error

    def give_up(self, error: StoreError) -> None:
        """Another request of this worker has no answer. Ask the store what it knows."""
        if self.broken is None:
            self._end()
            self.broken = error

    def hear_beat(self, *, has_work: bool) -> None:
        """The store has answered a heartbeat. `has_work`: it has reported ready work.

        An offer without an answer at two such heartbeats in a row is broken: a live one would have
        taken that work. Most likely its connection is dead.
        """
        if has_work and self._offer is not None and self._unheard is self._offer:
            self._end()
            self.broken = StaleSequence("an offer has no answer")
        self._unheard = None
        if has_work:
            self._unheard = self._offer

    def withdraw(self) -> None:
        """Forget it. A resync finds what it brings, or other workers own that by now."""
        self._end()
        self.landed = None
        self.broken = None

    def may_bring_jobs(self) -> bool:
        """Whether jobs may be on their way here."""
        return self._offer is not None or self.landed is not None or self.broken is not None

    def _end(self) -> None:
        self._offer = None
        self.slots = 0
