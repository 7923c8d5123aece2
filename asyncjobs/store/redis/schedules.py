"""The schedules of a store on a server. Each change of one is one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.schedules import ScheduleRef
from asyncjobs.store.checks import check_ticks
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.layout import CAPABILITIES
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.lookups import STEP
from asyncjobs.store.redis.rules import (
    fire_command,
    place_of,
    put_command,
    read_fired,
    read_ran,
    read_rule,
    read_run,
    read_taken,
    run_command,
)
from asyncjobs.store.redis.scripts import (
    Script,
    by_queue,
    raise_away,
    run,
    run_all,
    run_each,
    script,
)
from asyncjobs.store.schedules import (
    MOST_RUNS,
    DueSchedules,
    Fire,
    Fired,
    NewSchedule,
    Put,
    Ran,
    Resume,
    ScheduleRecord,
    ScheduleRun,
    Tick,
)

__all__ = ["RedisSchedules"]

QUEUES_AT_ONCE: Final = 20
"""How many queues one look at a page asks: each of them may answer with a whole page."""


class RedisSchedules:
    """See `Schedules`. Owns no connection.

    Which queue a schedule feeds stands in an index of the whole store. It is a hint: it is
    written before and after the rule, so a rule is never without it, and what it names may be
    gone.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def put(self, schedules: Sequence[NewSchedule], *, fresh_ms: int = 0) -> list[Put]:
        before = await self._queues_of([new.ref.id for new in schedules])
        answer = []
        # One after the other: few are put at once, and one that moves takes several trips.
        for new, queue in zip(schedules, before, strict=True):
            answer.append(await self._put(new, queue, fresh_ms))
        return answer

    async def _put(self, new: NewSchedule, before: str | None, fresh_ms: int) -> Put:
        keys = self._access.keys
        queue = new.ref.queue
        index = (b"HSET", keys.schedules, id_bytes(new.ref.id), queue)
        carried: tuple[Sequence[bytes], Sequence[bytes]] = ((), ())
        if before is None:
            # A rule that the index does not name would fire, and nobody could drop it by its id.
            await self._access.link.call(*index)
        elif before != queue:
            taken = await self._take(before, new, fresh_ms)
            if taken is None:
                return Put.OLDER
            carried = taken
        store = script("cron_put")
        pinned = self._access.pinned()
        command = put_command(store, keys, pinned, new, fresh_ms, carried)
        # Once more: somebody may have dropped the schedule meanwhile.
        last = (index, (b"SADD", keys.queues, queue))
        replies = await run_each(self._access.link, store, (command,), last=last)
        _raise_first(replies)
        if before is not None and before != queue:
            # Only now: had the mover died, the next one would find everything there.
            await self._change(ScheduleRef(before, new.ref.id), b"drop")
        return Put(replies[0].decode())

    async def _take(
        self, before: str, new: NewSchedule, fresh_ms: int
    ) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
        """Let nobody fire a schedule in its queue of `before` any more; see `read_taken`."""
        # What people put is what they want.
        age = b"%d" % fresh_ms if new.is_code else b""
        ref = ScheduleRef(before, new.ref.id)
        return read_taken(await self._change(ref, b"take", place_of(new), age))

    async def declare(self, declared: Sequence[tuple[ScheduleRef, str]]) -> list[bool]:
        mark = script("cron_marks")
        steps: list[Sequence[int]] = []
        commands: list[Command] = []
        # A worker declares all that it has, each minute: one trip for all queues.
        for queue, places in places_by_queue(ref.queue for ref, _ in declared).items():
            for step in pieces(places, STEP):
                args = [
                    part for n in step for part in (id_bytes(declared[n][0].id), declared[n][1])
                ]
                steps.append(step)
                commands.append(self._command(mark, queue, b"", *args))
        answer = [False] * len(declared)
        replies = await run_all(self._access.link, mark, tuple(commands))
        for step, letters in zip(steps, replies, strict=True):
            for place, letter in zip(step, letters, strict=True):
                answer[place] = letter == ord("1")
        return answer

    async def lapse(self, queues: Sequence[str], age_ms: int, reason: str) -> list[ScheduleRef]:
        mark = script("cron_marks")
        commands = tuple(self._command(mark, queue, age_ms, reason) for queue in queues)
        replies = await run_all(self._access.link, mark, commands)
        return [
            ScheduleRef(queue, id_text(id))
            for queue, ids in zip(queues, replies, strict=True)
            for id in ids
        ]

    async def get(self, ids: Sequence[str]) -> list[ScheduleRecord | None]:
        return await self._records(await self._refs(ids))

    async def _records(self, refs: Sequence[ScheduleRef | None]) -> list[ScheduleRecord | None]:
        """What is known of these schedules; None for those without a ref."""
        look = script("cron_get")
        known = [place for place, ref in enumerate(refs) if ref is not None]
        steps: list[list[int]] = []
        commands: list[Command] = []
        for queue, places in places_by_queue(_queue(refs[place]) for place in known).items():
            for step in pieces(places, STEP):
                steps.append([known[place] for place in step])
                ids = [id_bytes(_id(refs[place])) for place in steps[-1]]
                commands.append(self._command(look, queue, *ids))
        records: list[ScheduleRecord | None] = [None] * len(refs)
        replies = await run_all(self._access.link, look, tuple(commands))
        for step_places, rules in zip(steps, replies, strict=True):
            for place, fields in zip(step_places, rules, strict=True):
                ref = refs[place]
                assert ref is not None
                records[place] = read_rule(ref, fields)
        return records

    async def queues(self) -> list[str]:
        # People and workers ask this rarely, and there are few schedules beside jobs.
        found = await self._access.link.call(b"HGETALL", self._access.keys.schedules)
        return sorted({_name(queue) for queue in found[1::2]})

    async def page(
        self, queues: Sequence[str], *, after: ScheduleRef | None = None, limit: int = 100
    ) -> list[ScheduleRecord]:
        names = sorted({name for name in queues if after is None or name >= after.queue})
        records: list[ScheduleRecord] = []
        for some in pieces(names, QUEUES_AT_ONCE):
            commands = [self._page_command(queue, after, limit) for queue in some]
            replies = await self._access.link.calls(commands)
            _raise_first(replies)
            refs = [
                ScheduleRef(queue, id_text(id))
                for queue, ids in zip(some, replies, strict=True)
                for id in ids
            ]
            # Each queue has answered with a whole page, of which most may not be wanted.
            wanted = refs[: limit - len(records)]
            records += [each for each in await self._records(wanted) if each is not None]
            if len(records) >= limit:
                break
        return records

    def _page_command(self, queue: str, after: ScheduleRef | None, limit: int) -> Command:
        first = b"-"
        if after is not None and queue == after.queue:
            first = b"(" + id_bytes(after.id)
        key = self._access.keys.queue(queue).base + b"cron"
        return (b"ZRANGE", key, first, b"+", b"BYLEX", b"LIMIT", 0, limit)

    async def due(self, queues: Sequence[str], limit: int) -> DueSchedules:
        look = script("cron_due")
        commands = tuple(self._command(look, queue, limit) for queue in queues)
        replies = await run_each(self._access.link, look, commands)
        answers, away = by_queue(queues, replies)
        records: list[ScheduleRecord] = []
        next_ms: dict[str, int] = {}
        now_ms = 0
        for queue, (now, first, *found) in answers.items():
            now_ms = max(now_ms, now)
            if first >= 0:
                next_ms[queue] = min(first, LAST_MS)
            for id, fields in zip(found[::2], found[1::2], strict=True):
                record = read_rule(ScheduleRef(queue, id_text(id)), fields)
                # The script leaves out what is no rule.
                assert record is not None
                records.append(record)
        return DueSchedules(now_ms, records, next_ms, away)

    async def fire(self, fires: Sequence[Fire]) -> list[Fired]:
        for fire in fires:
            check_ticks(fire.ref, fire.ticks, CAPABILITIES, fire.overlap)
        if not fires:
            return []
        use_up = script("cron_fire")
        access = self._access
        commands = tuple(
            fire_command(use_up, access.keys, access.pinned(), access.settings, fire)
            for fire in fires
        )
        # A queue that holds a job is listed.
        names: Command = (b"SADD", access.keys.queues, *{fire.ref.queue for fire in fires})
        replies = await run_each(access.link, use_up, commands, last=(names,))
        return [
            Fired(fire.ref, is_ours=False, refused=reply)
            if isinstance(reply, StoreError)
            else read_fired(fire, reply)
            for fire, reply in zip(fires, replies[: len(fires)], strict=True)
        ]

    async def run(self, id: str, ticks: Sequence[Tick]) -> Ran | None:
        (ref,) = await self._refs([id])
        if ref is None:
            return None
        check_ticks(ref, ticks, CAPABILITIES)
        store = script("cron_run")
        command = run_command(store, self._access.keys, self._access.pinned(), ref, ticks)
        names = (b"SADD", self._access.keys.queues, ref.queue)
        reply, _ = await run_each(self._access.link, store, (command,), last=(names,))
        if isinstance(reply, StoreError):
            raise_away({ref.queue: reply})
        elif reply:
            return read_ran(ref, reply)
        # An unknown schedule.
        return None

    async def runs(self, id: str, limit: int = MOST_RUNS) -> list[ScheduleRun]:
        (ref,) = await self._refs([id])
        if ref is None or limit <= 0:
            return []
        key = self._access.keys.queue(ref.queue).ran(id)
        items = await self._access.link.call(b"LRANGE", key, -limit, -1)
        return [found for item in reversed(items) if (found := read_run(ref, item)) is not None]

    async def pause(self, ids: Sequence[str], reason: str) -> list[bool]:
        return [await self._change(ref, b"pause", reason) == 1 for ref in await self._refs(ids)]

    async def resume(self, resumes: Sequence[Resume]) -> list[bool]:
        refs = await self._refs([resume.id for resume in resumes])
        answer = []
        for ref, resume in zip(refs, resumes, strict=True):
            next_ms = b"" if resume.next_ms is None else b"%d" % resume.next_ms
            answer.append(await self._change(ref, b"resume", resume.version, next_ms) == 1)
        return answer

    async def delete(self, ids: Sequence[str]) -> list[bool]:
        answer = []
        for id, ref in zip(ids, await self._refs(ids), strict=True):
            answer.append(await self._change(ref, b"drop") == 1)
            # Behind the rule: one that nobody finds by its id could not be dropped.
            await self._access.link.call(b"HDEL", self._access.keys.schedules, id_bytes(id))
        return answer

    async def _change(self, ref: ScheduleRef | None, what: bytes, *args: bytes | str) -> Any:
        """What lua/cron_change.lua answers; 0 for a schedule without a ref."""
        if ref is None:
            return 0
        keys = self._access.keys.queue(ref.queue)
        change = script("cron_change")
        more_keys = (keys.rule(ref.id), keys.ran(ref.id))
        command = change.command(
            keys, self._access.pinned(), id_bytes(ref.id), what, *args, more_keys=more_keys
        )
        return await run(self._access.link, change, command)

    async def _refs(self, ids: Sequence[str]) -> list[ScheduleRef | None]:
        queues = await self._queues_of(ids)
        return [
            None if queue is None else ScheduleRef(queue, id)
            for id, queue in zip(ids, queues, strict=True)
        ]

    async def _queues_of(self, ids: Sequence[str]) -> list[str | None]:
        """The queues that the index names."""
        if not ids:
            return []
        fields = (id_bytes(id) for id in ids)
        found = await self._access.link.call(b"HMGET", self._access.keys.schedules, *fields)
        return [None if queue is None else _name(queue) for queue in found]

    def _command(self, which: Script, queue: str, *args: bytes | str | int) -> Command:
        return which.command(self._access.keys.queue(queue), self._access.pinned(), *args)


def _queue(ref: ScheduleRef | None) -> str:
    assert ref is not None
    return ref.queue


def _id(ref: ScheduleRef | None) -> str:
    assert ref is not None
    return ref.id


def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
