"""Which ticks of a schedule fire when they were not fired in time.

Pure: all workers that ask about the same times get the same answer.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from asyncjobs.model.schedules import CatchUp
from asyncjobs.policy.calendar import Calendar, first_after

__all__ = ["MOST_AT_ONCE", "PUNCTUAL_MS", "DueTicks", "due_ticks", "jitter_ms"]

PUNCTUAL_MS: Final = 10_000
"""A tick that is no older than this fires in any case: it was not missed, workers were busy."""
MOST_AT_ONCE: Final = 100
"""The most ticks of one schedule that fire together. The others fire right after them."""


class DueTicks(NamedTuple):
    """What is to be done with the ticks that have come. All times are in ms since the epoch.

    `ticks` fire, the oldest first. `missed` is how many others are used up; it may stop at
    calendar.MOST_COUNTED. `last_ms` is the last tick that is used up, None when none is.
    `next_ms` is the one after that, perhaps due already; None when there is none.
    """

    ticks: list[int]
    missed: int
    last_ms: int | None
    next_ms: int | None


def due_ticks(
    calendar: Calendar,
    next_ms: int,
    now_ms: int,
    *,
    catch_up: CatchUp = CatchUp.LATEST,
    window_ms: int = 3_600_000,
    end_ms: int | None = None,
    left: int | None = None,
) -> DueTicks:
    """The ticks from `next_ms` to `now_ms`, which is a tick itself, and what to do with them.

    NONE fires those that are no older than PUNCTUAL_MS. LATEST also fires the newest one, if it
    is no older than `window_ms`. ALL fires those that are no older than that. No tick is after
    `end_ms`, and at most `left` fire.
    """
    until_ms = now_ms
    if end_ms is not None:
        until_ms = min(now_ms, end_ms)
    if next_ms > until_ms:
        return DueTicks([], 0, None, _until(next_ms, end_ms))
    oldest_ms = now_ms - PUNCTUAL_MS
    if catch_up is CatchUp.ALL:
        oldest_ms = now_ms - max(window_ms, PUNCTUAL_MS)
    ticks, missed = _from(calendar, next_ms, oldest_ms, until_ms)
    if ticks:
        # Of more than fit into one fire, the others stay due.
        last_ms = ticks[-1]
    else:
        last_ms = _newest(calendar, next_ms, until_ms)
        if catch_up is CatchUp.LATEST and last_ms >= now_ms - window_ms:
            ticks = [last_ms]
            missed -= 1
    following_ms = first_after(calendar, last_ms, end_ms=end_ms)
    # What a limit cuts off is used up as well: the schedule is over.
    return DueTicks(ticks[:left], missed, last_ms, following_ms)


def jitter_ms(schedule_id: str, tick_ms: int, most_ms: int) -> int:
    """How long after a tick its job is due: 0 to `most_ms`, the same for all workers.

    It spreads schedules that fire at the same time. The tick itself stays where it is.
    """
    if most_ms <= 0:
        return 0
    # hash() differs from process to process.
    text = f"{schedule_id}:{tick_ms}".encode("utf-8", "surrogateescape")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return number % (most_ms + 1)


def _until(tick_ms: int, end_ms: int | None) -> int | None:
    if end_ms is not None and tick_ms > end_ms:
        return None
    return tick_ms


def _from(calendar: Calendar, next_ms: int, oldest_ms: int, until_ms: int) -> tuple[list[int], int]:
    """The first ticks that are no older than `oldest_ms`, and how many are older."""
    missed = 0
    tick_ms: int | None = next_ms
    if next_ms < oldest_ms:
        # Beyond the end there are no ticks that could be missed.
        before_ms = min(oldest_ms - 1, until_ms)
        missed = 1 + calendar.count(next_ms, before_ms)
        tick_ms = calendar.after(before_ms)
    ticks: list[int] = []
    while tick_ms is not None and tick_ms <= until_ms and len(ticks) < MOST_AT_ONCE:
        ticks.append(tick_ms)
        tick_ms = calendar.after(tick_ms)
    return ticks, missed


def _newest(calendar: Calendar, next_ms: int, until_ms: int) -> int:
    """The last tick that is not later than `until_ms`: `next_ms`, or one after it.

    It halves the time instead of walking over the ticks, of which there may be millions.
    """
    newest_ms = next_ms
    low_ms = next_ms
    high_ms = until_ms
    while low_ms < high_ms:
        middle_ms = (low_ms + high_ms) // 2
        tick_ms = calendar.after(middle_ms)
        if tick_ms is None or tick_ms > until_ms:
            high_ms = middle_ms
        else:
            newest_ms = tick_ms
            low_ms = tick_ms
    return newest_ms
