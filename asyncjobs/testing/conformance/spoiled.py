"""A queue in which calls fail, beside others that are sound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Final

import pytest

from asyncjobs.model.refs import JobRef

__all__ = ["BAD", "Part", "Spoil", "any_part", "spoil"]

BAD: Final = "bad"
"""The queue that is spoiled."""


class Part(StrEnum):
    """What of queue BAD is spoiled.

    A store that keeps several of these in one place spoils them together, and one that cannot
    tell them apart fails as a whole: the cases allow for that.
    """

    LEASES = "leases"
    """The entries of workers: none can enter, exchange or leave."""
    UPKEEP = "upkeep"
    """When a worker was last heard of: no lease can be renewed."""
    LEAVING = "leaving"
    """The leases that have ended and still have jobs: nothing can be reclaimed."""
    PLACES = "places"
    """Where each job is: none can be looked up, stored, settled or cancelled."""
    CRITICAL = "critical"
    """The ready jobs of priority 0."""
    NORMAL = "normal"
    """The ready jobs of priority 2."""
    LOW = "low"
    """The ready jobs of priority 3."""
    DUE_TIMES = "due-times"
    """When scheduled jobs are due."""
    SCHEDULED = "scheduled"
    """The scheduled jobs themselves."""
    KNOWN = "known"
    """The ids of jobs that have ended."""
    DEATHS = "deaths"
    """When the dead jobs died."""
    LETTERS = "letters"
    """The dead letters themselves."""
    LETTER_BYTES = "letter-bytes"
    """How large all dead letters are together."""
    ACTIVITY = "activity"
    """What happened in the last minutes."""
    FINISHED = "finished"
    """The list of jobs that have ended."""
    FINISHED_NUMBER = "finished-number"
    """How many jobs have ended."""
    SIGNALS = "signals"
    """What wakes a parked worker."""


class Spoil(ABC):
    """How queue BAD is spoiled and mended. The fixture `spoil` makes one for each case.

    `await spoil(Part.LEASES)` makes the calls that need this part of the queue fail with a
    StoreError, as if somebody else had written what is stored there.
    """

    error: str = ""
    """A pattern that is found in the text of such an error; the empty one is found in any."""

    @abstractmethod
    async def __call__(self, part: str) -> None:
        """Spoil a part, or what the fixture `any_part` names."""

    @abstractmethod
    async def mend(self, part: str | None = None) -> None:
        """Mend what was spoiled. None: take the whole queue away, with what is left in it and
        does not fit together any more."""

    async def has_waiter(self, about: JobRef) -> bool:
        """Whether somebody waits for the end of this job, so that its end wakes them without
        another look at the store. A store that cannot tell leaves this as it is."""
        return True


@pytest.fixture
def spoil() -> Spoil:
    """Override it for a store in which one queue can fail while others work: yield a `Spoil`,
    and mend the queue behind that."""
    pytest.skip("nothing says how a queue of this store is spoiled")


@pytest.fixture(params=list(Part))
def any_part(request: pytest.FixtureRequest) -> str:
    """One part after the other. Override it to name everything that your store can spoil."""
    part: str = request.param
    return part
