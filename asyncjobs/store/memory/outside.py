"""Permits in memory of those who are no job, each for its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asyncjobs.model.terms import LimitUse
from asyncjobs.store.limits import Acquired
from asyncjobs.store.memory.lineup import Lineup
from asyncjobs.store.memory.permits import LimitKey, LimitKeys, Use
from asyncjobs.store.memory.structures import Timed

__all__ = ["Outside"]

ASK_AGAIN_MS: Final = 500
"""After what time to ask again where nobody can say when a permit is given back."""


class Outside:
    """Knows who holds permits outside of jobs, and until when. See `Limits`."""

    def __init__(self, keys: LimitKeys, lanes: Lineup) -> None:
        self._keys = keys
        self._lanes = lanes
        self._held: Timed[tuple[LimitKey, ...]] = Timed()
        """The keys whose permits a holder has."""

    def __len__(self) -> int:
        return len(self._held)

    def acquire(self, uses: Sequence[LimitUse], holder: str, ttl_ms: int, now: int) -> Acquired:
        """Let a holder pass all of these keys, or none."""
        self.expire(now)
        self._lanes.declare(uses, now)
        held = self._held.get(holder)
        # rule:35 who is in already counts once, in memory
        if held is not None:
            self._held.put(holder, now + ttl_ms, held)
            return Acquired(is_in=True)
        tokens = {(use.limit, use.key): use.tokens for use in uses}
        wanted = [Use(self._keys.get(name), count) for name, count in tokens.items()]
        opens = [self._keys.opens_ms(use, now) for use in wanted]
        if any(ms is None for ms in opens):
            again_ms = ASK_AGAIN_MS
            if (end_ms := self._held.first_ms()) is not None:
                again_ms = min(again_ms, end_ms - now)
            return self._refuse(wanted, again_ms)
        latest = max((ms for ms in opens if ms is not None), default=now)
        if latest > now:
            return self._refuse(wanted, latest - now)
        keys = tuple(use.key for use in wanted if self._keys.take(use, now))
        for key in keys:
            key.outside.add(holder)
        self._held.put(holder, now + ttl_ms, keys)
        return Acquired(is_in=True)

    def _refuse(self, wanted: Sequence[Use], again_ms: int) -> Acquired:
        for key, _ in wanted:
            self._keys.drop_idle(key)
        return Acquired(False, max(again_ms, 1))

    def renew(self, holder: str, ttl_ms: int, now: int) -> bool:
        """Keep the permits of a holder; False when they are gone."""
        self.expire(now)
        held = self._held.get(holder)
        if held is None:
            return False
        self._held.put(holder, now + ttl_ms, held)
        return True

    def give_back(self, holder: str, now: int) -> None:
        """Take the permits of a holder back, if it has them still."""
        for key in self._held.pop(holder) or ():
            key.outside.discard(holder)
            self._lanes.let_in(key, now, 1)
            self._keys.drop_idle(key)

    def expire(self, now: int) -> None:
        """Take the permits back whose time is over."""
        first = self._held.first_ms()
        if first is None or first > now:
            return
        for holder in [holder for ms, holder in self._held.times() if ms <= now]:
            # rule:35 a permit outside of a job ends with its time, in memory
            self.give_back(holder, now)

    def pull_back(self, from_ms: int, by_ms: int) -> None:
        """The clock has gone back: nobody keeps a permit for longer."""
        self._held.pull_back(from_ms, by_ms)

    @property
    def next_end_ms(self) -> int | None:
        """When the first permit ends that jobs wait for, perhaps."""
        if not any(key.barred for key in self._keys):
            return None
        return self._held.first_ms()
