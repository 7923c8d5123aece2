"""Lists of jobs on a server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.batches import cut, pieces, places_by_queue
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import JobRecord, Priority, State, held_behind, held_by
from asyncjobs.model.refs import JobRef
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.ended_jobs import page_of_ended
from asyncjobs.store.history import History
from asyncjobs.store.letters import MAX_PAGE_BYTES
from asyncjobs.store.listing import ENDED_STATES, JobCursor, JobPage, JobQuery, ListedJob
from asyncjobs.store.looking import (
    BEHIND,
    Ask,
    Batch,
    Found,
    Needles,
    check_query,
    look,
    needles_of,
    parts_of,
)
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.bringing import bring, has_posted
from asyncjobs.store.redis.gates import GATED
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.lookups import event_held_by, text
from asyncjobs.store.redis.scripts import raise_away, run_each, script

__all__ = ["RedisJobInspection"]

MOST_CHANGES: Final = 100
"""Jobs that one call of a script changes. That takes about a millisecond."""
MOST_CALLS: Final = 50
"""Calls of a script in one trip: a server that has begun to answer answers all of them."""
_SCRIPTS: Final = {
    State.READY: "list_ready",
    State.RUNNING: "list_running",
    State.SCHEDULED: "list_timed",
    State.HELD: "list_timed",
    State.DEAD: "list_timed",
}
_WITH_GATES: Final = frozenset({State.READY, State.RUNNING, State.HELD})
_DIGITS: Final = {b"%d" % priority: priority for priority in Priority}


class RedisJobInspection:
    """See `JobInspection`."""

    def __init__(self, access: Access, history: History) -> None:
        self._access = access
        self._history = history

    async def page(self, query: JobQuery, after: JobCursor | None = None) -> JobPage:
        check_query(query, after)
        names = query.queues
        if not names:
            found = await self._access.link.call(b"SMEMBERS", self._access.keys.queues)
            names = tuple(name.decode("utf-8", "backslashreplace") for name in found)
        if query.state in ENDED_STATES:
            return await page_of_ended(self._history, names, query, after)
        parts = [*parts_of(query.state)]
        if query.state in _WITH_GATES:
            parts.append(GATED)
        places = [(queue, part) for queue in sorted(names) for part in parts]

        async def read(asks: Sequence[Ask]) -> Sequence[Batch | StoreError]:
            return await self._read(query, asks)

        return await look(query, places, after, read)

    async def delete(self, targets: Sequence[Target]) -> list[Changed]:
        return await self._act("delete", targets)

    async def run_now(self, targets: Sequence[Target]) -> list[Changed]:
        return await self._act("run_now", targets)

    async def _act(self, name: str, targets: Sequence[Target]) -> list[Changed]:
        args = [(id_bytes(target.ref.id), target.seen) for target in targets]
        refs = [target.ref for target in targets]
        return await self._change(name, refs, args, [0] * len(targets))

    async def change(self, changes: Sequence[Change]) -> list[Changed]:
        args: list[tuple[bytes | int, ...]] = [
            (
                id_bytes(each.ref.id),
                hashlib.sha1(each.expected, usedforsecurity=False).hexdigest().encode(),
                _or_empty(each.at_ms),
                each.envelope,
            )
            for each in changes
        ]
        refs = [each.ref for each in changes]
        return await self._change("change", refs, args, [len(each.envelope) for each in changes])

    async def _change(
        self,
        name: str,
        refs: Sequence[JobRef],
        args: Sequence[tuple[bytes | int, ...]],
        sizes: Sequence[int],
    ) -> list[Changed]:
        """The verdicts of a script that is given `args` of each job, of these sizes in bytes."""
        which = script(name)
        steps: list[list[int]] = []
        commands: list[Command] = []
        for queue, places in places_by_queue(ref.queue for ref in refs).items():
            own_sizes = [sizes[place] for place in places]
            for step in cut(own_sizes, most=MOST_CHANGES, most_bytes=MAX_PAGE_BYTES):
                own = [places[at] for at in step]
                flat = (value for place in own for value in args[place])
                steps.append(own)
                commands.append(
                    which.command(self._access.keys.queue(queue), self._access.pinned(), *flat)
                )
        verdicts = [Changed.GONE] * len(refs)
        away: dict[str, StoreError] = {}
        posted: set[str] = set()
        for own, command in zip(steps, commands, strict=True):
            # One step at a time, for a trip with all envelopes could be as large as they like.
            (reply,) = await run_each(self._access.link, which, (command,))
            if isinstance(reply, StoreError):
                away[refs[own[0]].queue] = reply
                continue
            if has_posted(reply):
                posted.add(refs[own[0]].queue)
            for place, verdict in zip(own, reply, strict=True):
                verdicts[place] = Changed(verdict.decode())
        await bring(self._access, posted)
        raise_away(away)
        return verdicts

    async def _read(self, query: JobQuery, asks: Sequence[Ask]) -> list[Batch | StoreError]:
        needles = needles_of(query)
        answers: dict[Ask, Batch | StoreError] = {}
        # A trip calls one script.
        for name in ("list_ready", "list_running", "list_timed"):
            own = [ask for ask in asks if _script_for(query.state, ask) == name]
            # A trip waits for its answer, so other clients have their turn in between.
            for step in pieces(own, MOST_CALLS):
                commands = tuple(self._command(query, ask, needles) for ask in step)
                replies = await run_each(self._access.link, script(name), commands)
                for ask, reply in zip(step, replies, strict=True):
                    if isinstance(reply, StoreError):
                        answers[ask] = reply
                    elif name == "list_timed":
                        answers[ask] = _of_times(query.state, ask, *reply)
                    else:
                        answers[ask] = _of_stream(query.state, ask, *reply)
        return [answers[ask] for ask in asks]

    def _command(self, query: JobQuery, ask: Ask, needles: Needles) -> Command:
        order = b"old" if query.oldest_first else b"new"
        bounds: tuple[bytes | int, ...]
        last: tuple[bytes | int, ...] = ()
        name = _script_for(query.state, ask)
        if name != "list_timed":
            kind: bytes | int = ask.part
            bounds = _entries(ask, oldest_first=query.oldest_first)
        else:
            kind = query.state.value.encode()
            if ask.part == GATED:
                kind = b"gated:" + kind
            if query.state is State.HELD and ask.part == BEHIND:
                kind = b"behind"
            bounds = (_or_empty(ask.since_ms), _or_empty(ask.before_ms))
            if ask.after is not None:
                last = ask.after
        which = script(name)
        args = (kind, order, *bounds, ask.most, ask.most_bytes, *needles, *last)
        return which.command(self._access.keys.queue(ask.queue), self._access.pinned(), *args)


def _script_for(state: State, ask: Ask) -> str:
    """The script that lists jobs of a state at one place."""
    # Ready jobs in lanes are in the order of their times.
    if ask.part == GATED and state is State.READY:
        return "list_timed"
    return _SCRIPTS[state]


def _entries(ask: Ask, *, oldest_first: bool) -> tuple[bytes, bytes]:
    """The first and the last id of entries to look at."""
    # The ids of entries are `<ms>-<number>`, and the numbers begin at 0 in each millisecond.
    first = b"-"
    last = b"+"
    if ask.since_ms is not None:
        first = b"%d-0" % max(ask.since_ms, 0)
    if ask.before_ms is not None:
        # There is no entry before 0-1.
        last = b"(%d-1" % max(ask.before_ms, 0)
        if ask.before_ms > 0:
            last = b"(%d-0" % ask.before_ms
    if ask.after is not None:
        ms, number = ask.after
        assert isinstance(number, int)
        behind = b"(%d-%d" % (ms, number)
        if ask.part == GATED:
            behind = b"(1-%d" % number
        if oldest_first:
            first = behind
        else:
            last = behind
    return first, last


def _or_empty(number: int | None) -> bytes | int:
    return b"" if number is None else number


def _position(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    # Those of jobs with a gate are numbered in microseconds, about when they were taken.
    if ms == b"1":
        return int(number) // 1000, int(number)
    return int(ms), int(number)


def _of_stream(
    state: State,
    ask: Ask,
    now_ms: int,
    looked: int,
    size: int,
    is_end: int,
    last: bytes,
    found: list[Any],
) -> Batch:
    """The answer of lua/list_ready.lua or lua/list_running.lua."""
    width = 3 if state is State.READY else 9
    jobs = []
    for at in range(0, len(found), width):
        entry, job_id, envelope, *held = found[at : at + width]
        ms, number = _position(entry)
        record = JobRecord(
            JobRef(ask.queue, id_text(job_id)), state, priority=ask.part, envelope=envelope
        )
        worker = b""
        time_ms = ms
        # Nobody holds a ready one.
        if held:
            holder, time_ms, asked, progress, worker, priority = held
            record = record._replace(
                priority=priority,
                holder=text(holder),
                taken_ms=time_ms,
                is_cancelled=bool(asked),
                progress=progress or None,
            )
        seen = b"%d:%b" % (ask.part, entry)
        jobs.append(Found(number, ms, ListedJob(record, time_ms, seen, len(envelope), worker)))
    reached = None
    if last:
        reached = _position(last)
    return Batch(now_ms, looked, size, reached, bool(is_end), jobs)


def _of_times(
    state: State,
    ask: Ask,
    now_ms: int,
    looked: int,
    size: int,
    is_end: int,
    last: list[Any],
    found: list[Any],
) -> Batch:
    """The answer of lua/list_timed.lua."""
    jobs = []
    for at in range(0, len(found), 4):
        job_id, ms, stored, holder = found[at : at + 4]
        # Its first byte is the priority; a foreign writer may have left it out.
        priority = _DIGITS.get(stored[:1], Priority.NORMAL)
        record = JobRecord(JobRef(ask.queue, id_text(job_id)), state, priority=priority)
        # The time is what the actions on this job compare: a retry or another death has another.
        if state is State.DEAD:
            record = record._replace(dead_letter=stored[1:])
        elif ask.part == GATED:
            record = record._replace(envelope=stored[1:], held_by=text(holder) or None)
        elif state is State.HELD:
            waits = held_by(JobRef(ask.queue, id_text(holder)))
            if ask.part == BEHIND:
                waits = held_behind(holder.decode("utf-8", "backslashreplace"))
            record = record._replace(envelope=stored[1:], held_by=waits)
        else:
            record = record._replace(due_ms=ms, envelope=stored[1:], held_by=event_held_by(holder))
        listed = ListedJob(record, ms, b"%d" % ms, max(len(stored) - 1, 0))
        jobs.append(Found(id_bytes(record.ref.id), ms, listed))
    reached = None
    if last:
        reached = (last[0], last[1])
    return Batch(now_ms, looked, size, reached, bool(is_end), jobs)
