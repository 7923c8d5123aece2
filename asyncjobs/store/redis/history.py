"""The history on a server: one entry for all jobs that an exchange has ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import orjson

from asyncjobs.errors import StoreError
from asyncjobs.guard.untrusted import LAST_MS, in_range
from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.codec import BadRecord, parse
from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.model.history import FinishedJob, finished_job, unstarted
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
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
from asyncjobs.store.redis.scripts import run, run_each, script

__all__ = ["RedisHistory", "read_entry", "told_of"]

STEP: Final = 1_000
"""Jobs that one call of the script looks at."""
STEP_BYTES: Final = 1 << 20

FIGURES_STEP: Final = 100
"""Functions that one call of the script adds to: each costs it some microseconds."""
_KEPT: Final = (MOST_FUNCTIONS, KEPT_MINUTES * MINUTE_MS, KEPT_HOURS * HOUR_MS)
_PAIRS: Final = rb"((?:\d{1,3}:\d{1,15} ?)*)"
_FIGURES: Final = re.compile(rb"(\d{1,15}) (\d{1,15})\|%b\|%b" % (_PAIRS, _PAIRS))

# In one step of the interpreter, for each job that ends passes here.
_ROW: Final = attrgetter("job.id", "state", "run")


def told_of(worker: str, settlements: Sequence[Settlement]) -> bytes:
    """What the history is told of these settlements, for lua/history.lua. Raises nothing: jobs must
    be settled, whatever their ids are."""
    rows = list(map(_ROW, settlements))
    try:
        return orjson.dumps((worker, rows))
    except TypeError:
        # An id of a foreign writer that is no UTF-8.
        shown = [(_shown(id), state, told) for id, state, told in rows]
    try:
        return orjson.dumps((worker, shown))
    except TypeError:
        # The name of the worker, or what it tells, is no text either.
        return orjson.dumps(("", [(id, state, None) for id, state, _ in shown]))


def _shown(id: str) -> str:
    return id_bytes(id).decode("utf-8", "backslashreplace")


class RedisHistory:
    """See `History`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def finished(self, query: FinishedQuery, after: int | None = None) -> FinishedPage:
        look = script("finished")
        keys = self._access.keys.queue(query.queue)
        most = self._access.settings.history
        found: list[FinishedJob] = []
        looked, more = 0, 1
        while True:
            before: bytes | int = b""
            if after is not None:
                before = after
            command = look.command(keys, self._access.pinned(), before, STEP, STEP_BYTES)
            now_ms, total, entries, more = await run(self._access.link, look, command)
            for entry in entries:
                # Whole entries are kept, so the oldest one may have more jobs than the ring.
                # Numbers, not counts: an entry may be that of a foreign writer and have none.
                jobs = [job for job in read_entry(query.queue, entry) if job.number > total - most]
                for job in reversed(jobs):
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


def read_entry(queue: str, entry: Sequence[Any]) -> list[FinishedJob]:
    """The jobs of one entry, oldest first. None of one that a foreign writer has made."""
    name, flat = entry
    pairs = list(zip(flat[::2], flat[1::2], strict=False))
    try:
        last = int(name.partition(b"-")[0])
        fields = dict(pairs)
        ended_ms = in_range(int(fields[b"at"]), LAST_MS)
        if b"rows" in fields:
            found = _told(queue, ended_ms, fields)
        else:
            found = _waited(queue, ended_ms, pairs)
    except (ValueError, TypeError, KeyError, AttributeError, BadRecord):
        return []
    # Whatever had no effect got no number.
    first = last - len(found) + 1
    return [job._replace(number=first + place) for place, job in enumerate(found)]


def _told(queue: str, ended_ms: int, fields: Mapping[bytes, bytes]) -> list[FinishedJob]:
    """The jobs that a worker has told of."""
    worker, rows = parse(fields[b"rows"])
    void = set(map(int, fields[b"void"].split()))
    cancelled = set(map(int, fields[b"cancelled"].split()))
    found = []
    for place, (id, word, told) in enumerate(rows, start=1):
        state = State.CANCELLED if place in cancelled else State(word)
        # rule:19 only what has counted is in the history
        if place not in void and state.is_final:
            ref = JobRef(queue, str(id))
            found.append(finished_job(ref, state, ended_ms, str(worker), told))
    return found


def _waited(queue: str, ended_ms: int, pairs: Sequence[tuple[bytes, bytes]]) -> list[FinishedJob]:
    """The jobs that were cancelled while they waited."""
    ids = [id_text(value) for name, value in pairs if name == b"id"]
    starts = [value for name, value in pairs if name == b"start"]
    return [
        finished_job(JobRef(queue, id), State.CANCELLED, ended_ms, "", unstarted(start))
        for id, start in zip(ids, starts, strict=True)
    ]
