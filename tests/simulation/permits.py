"""What the ledger knows of limits, from calls and answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from asyncjobs.model.terms import LimitKind, LimitUse
from tests.simulation.loop import SimLoop
from tests.simulation.stories import JobStory, Taking

__all__ = ["Permits"]

Key: TypeAlias = tuple[str, str, str]
"""A queue, a limit, and a key of it."""


class Permits:
    """Who has permits, when one came back last, and when jobs were started at rates."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._freed_s: dict[Key, float] = {}
        self._all_freed_s = 0.0
        self._starts: dict[Key, list[int]] = {}
        self._ahead_ms: dict[Key, float] = {}
        self.count = 0

    def freed(self, story: JobStory) -> None:
        """A job of this story is not held any more."""
        for key, _ in _uses(story):
            self._freed_s[key] = self._loop.now_s

    def all_freed(self) -> None:
        """Leases were ended: whatever their jobs had is free."""
        self._all_freed_s = self._loop.now_s

    def free_s(self, story: JobStory) -> float:
        """Since when nothing may keep it from being handed out but a rate, as far as known."""
        times = [self._freed_s.get(key, 0.0) for key, _ in _uses(story)]
        return max([self._all_freed_s, *times]) if times else 0.0

    def taken(
        self, story: JobStory, stories: Iterable[JobStory], lives: Iterable[Taking]
    ) -> Iterator[str]:
        """It is handed out, while these takings of others live; what is wrong with that."""
        living = set(lives)
        for key, use in _uses(story):
            self.count += 1
            if use.rule.kind is LimitKind.RATE:
                yield from self._started(key, use)
                continue
            others = [
                other.ref
                for other in stories
                if other is not story
                and other.holder in living
                and any(key == its for its, _ in _uses(other))
            ]
            if len(others) >= use.rule.number:
                yield f"was handed out beside {len(others)} others at {key}: {others[:3]}"

    def _started(self, key: Key, use: LimitUse) -> Iterator[str]:
        now_ms = self._loop.store_ms()
        ahead_ms = now_ms - self._loop.now_s * 1000
        # The store measures by its own clock: what was before a step of it is no window.
        if abs(ahead_ms - self._ahead_ms.get(key, ahead_ms)) > 1:
            self._starts.pop(key, None)
        self._ahead_ms[key] = ahead_ms
        starts = self._starts.setdefault(key, [])
        starts.append(now_ms)
        window = [ms for ms in starts if ms > now_ms - use.rule.period_ms]
        if len(window) > use.rule.number:
            yield f"is start {len(window)} in {use.rule.period_ms} ms at {key}"


def _uses(story: JobStory) -> Iterator[tuple[Key, LimitUse]]:
    if story.gate is not None:
        for use in story.gate.uses:
            yield (story.ref.queue, use.limit, use.key), use
