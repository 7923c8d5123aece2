"""The loop that runs the duties of a worker; see duties/."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Final, Self

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model.backoff import Pauses
from asyncjobs.store.answers import Heartbeat
from asyncjobs.worker.duties import Duty, Site

__all__ = ["Upkeep"]

logger = GuardedLog("asyncjobs.worker")

REFUSED_FIRST_S: Final = 2.0
REFUSED_MOST_S: Final = 60.0
"""The pauses after refusals in a row grow from the first to the second of these."""


class Upkeep:
    """Runs the duties one after the other, each when it has asked for it."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = duties
        self._refused: dict[Duty, Pauses] = {}
        """Duties whose last run the store has refused although it could be reached."""

    @classmethod
    def of(cls, site: Site, kinds: Iterable[type[Duty]]) -> Self:
        """Those of these duties that this worker has."""
        duties = [kind.of(site) for kind in kinds]
        return cls([duty for duty in duties if duty is not None])

    def hear_beat(self, beat: Heartbeat) -> None:
        """The store has answered a heartbeat."""
        for duty in self._duties:
            duty.hear_beat(beat)

    def hear_reclaim_due(self) -> None:
        """A signal says that a lease has ended."""
        for duty in self._duties:
            duty.hear_reclaim_due()

    def hear_changed(self, queue: str) -> None:
        """A signal says that something about this queue was changed by hand."""
        for duty in self._duties:
            duty.hear_changed(queue)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        next_s = [0.0] * len(self._duties)
        while True:
            for place, duty in enumerate(self._duties):
                if next_s[place] <= loop.time():
                    next_s[place] = loop.time() + await self._once(duty)
            await asyncio.sleep(max(min(next_s) - loop.time(), 0.02))

    async def finish(self) -> None:
        """The worker leaves: each duty does what cannot wait, as far as the store lets it."""
        for duty in self._duties:
            try:
                await duty.finish()
            except StoreError as error:
                logger.debug("%s is not finished: %s", type(duty).__name__, error)
            except Exception:
                logger.exception("%s failed", type(duty).__name__)

    async def _once(self, duty: Duty) -> float:
        try:
            next_s = await duty.run()
            self._refused.pop(duty, None)
            return next_s
        except StoreUnavailable as error:
            # The processor meets the same fault and reports it once.
            logger.debug("%s put off: %s", type(duty).__name__, error)
        except StoreError as error:
            return self._put_off(duty, error)
        except Exception:
            logger.exception("%s failed", type(duty).__name__)
        # Random, so that a fleet does not come back to its store at one moment.
        return random.uniform(1.0, 3.0)

    def _put_off(self, duty: Duty, error: StoreError) -> float:
        """Something in the store is wrong, and perhaps only this duty meets it. So it is logged,
        but once and not at each try."""
        if duty not in self._refused:
            self._refused[duty] = Pauses(REFUSED_FIRST_S, REFUSED_MOST_S)
            logger.error("%s is refused, tried again: %s", type(duty).__name__, error)
        return self._refused[duty].next_s()
