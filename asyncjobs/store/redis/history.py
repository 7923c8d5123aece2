"""The history on a server: the ring of finished jobs, and the figures of job functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.history import FinishedJob
from asyncjobs.store.history import (
    KEPT_HOURS,
    KEPT_MINUTES,
    MAX_LOOK,
    MOST_FUNCTIONS,
    FiguresQuery,
    FinishedPage,
    FinishedQuery,
    in_steps,
)
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.ring import read_entry
from asyncjobs.store.redis.scripts import run, run_each, script

__all__ = ["RedisHistory"]

STEP: Final = 1_000
"""Jobs that one call of the script looks at."""
STEP_BYTES: Final = 1 << 20

FIGURES_STEP: Final = 100
"""Functions that one call of the script adds to: each costs it some microseconds."""
_KEPT: Final = (MOST_FUNCTIONS, KEPT_MINUTES * MINUTE_MS, KEPT_HOURS * HOUR_MS)
_PAIRS: Final = rb"((?:\d{1,3}:\d{1,15} ?)*)"
_FIGURES: Final = re.compile(rb"(\d{1,15}) (\d{1,15})\|%b\|%b" % (_PAIRS, _PAIRS))


class RedisHistory:
    """See `History`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def finished(self, query: FinishedQuery, after: int | None = None) -> FinishedPage:
        look = script("finished")
        keys = self._access.keys.queue(query.queue)
        found: list[FinishedJob] = []
        looked, more = 0, 1
        while True:
            before: bytes | int = b""
            if after is not None:
                before = after
            command = look.command(keys, self._access.pinned(), before, STEP, STEP_BYTES)
            now_ms, first, entries, more = await run(self._access.link, look, command)
            for entry in entries:
                for job in reversed(read_entry(query.queue, entry)):
                    if job.number < int(first):
                        return FinishedPage(found, None, looked, now_ms)
                    if after is not None and job.number >= after:
                        continue
                    if len(found) == query.limit or looked == MAX_LOOK:
                        return FinishedPage(found, after, looked, now_ms)
                    looked += 1
                    after = job.number
                    if query.wants(job):
                        found.append(job)
                    if query.since_ms is not None and job.ended_ms < query.since_ms:
                        return FinishedPage(found, None, looked, now_ms)
            if not more or not entries:
                return FinishedPage(found, None, looked, now_ms)
            # Behind an entry that cannot be read no job says how far the look has come.
            # rule:15 an entry of the history that cannot be read ends no look
            reached = _number(entries[-1])
            if after is None or reached < after:
                after = reached

    async def figures(self, query: FiguresQuery) -> list[Figures]:
        look = script("figures")
        keys = self._access.keys.queue(query.queue)
        unit = b"hour" if query.is_by_hour else b"minute"
        at, end = query.units.start, query.units.stop
        found: list[Figures] = []
        while at < end:
            command = look.command(keys, self._access.pinned(), unit, at, end, STEP_BYTES)
            at, hashes = await run(self._access.link, look, command)
            for number, fields in zip(hashes[::2], hashes[1::2], strict=True):
                found += read_figures(query.queue, number * query.unit_ms, fields)
        return in_steps(query, found)

    async def add(self, figures: Sequence[Figures]) -> None:
        """Add what a worker has counted: see `Backend.add_figures`."""
        write = script("add_figures")
        commands: list[Command] = []
        for queue, places in places_by_queue(each.queue for each in figures).items():
            for step in pieces(places, FIGURES_STEP):
                args: list[bytes | int] = []
                for place in step:
                    each = figures[place]
                    name = each.function.encode("utf-8", "backslashreplace")
                    args += (name, each.at_ms // MINUTE_MS, write_figures(each))
                keys = self._access.keys.queue(queue)
                command = write.command(keys, self._access.pinned(), *_KEPT, *args)
                commands.append(command)
        answers = await run_each(self._access.link, write, tuple(commands))
        for answer in answers:
            # After those of all other queues are added.
            if isinstance(answer, StoreError):
                raise answer


def _number(entry: Sequence[Any]) -> int:
    """The number of the last job of an entry, by its id."""
    return int(entry[0].partition(b"-")[0])


def write_figures(figures: Figures) -> bytes:
    """Figures as lua/add_figures.lua keeps them."""
    parts = [
        " ".join(f"{bucket}:{number}" for bucket, number in histogram.items())
        for histogram in (figures.queued, figures.ran)
    ]
    return f"{figures.attempts} {figures.failed}|{parts[0]}|{parts[1]}".encode()


def read_figures(queue: str, at_ms: int, fields: Sequence[bytes]) -> list[Figures]:
    """The figures of one hash. Fields of a foreign writer are left out."""
    found = []
    for name, stored in zip(fields[::2], fields[1::2], strict=False):
        match = _FIGURES.fullmatch(stored)
        if match is None:
            # One function's field, and no reason to hide the others.
            continue
        attempts, failed, queued, ran = match.groups()
        function = name.decode("utf-8", "backslashreplace")
        about = (int(attempts), int(failed), _histogram(queued), _histogram(ran))
        found.append(Figures(queue, function, at_ms, *about))
    return found


def _histogram(stored: bytes) -> dict[int, int]:
    pairs = (pair.partition(b":") for pair in stored.split())
    return {int(bucket): int(number) for bucket, _, number in pairs}
