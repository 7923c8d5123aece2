"""The flows of a store on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.model.batches import places_by_queue
from asyncjobs.model.ends import STATE_OF_CODE
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.flows import (
    MOST_FLOWS,
    MOST_NODES,
    FlowCounts,
    FlowPage,
    FlowRecord,
    FlowRef,
    FlowState,
    NewFlow,
    NodePage,
    NodeRecord,
    Obstacle,
    check_nodes,
    unknown_flow,
)
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.bringing import bring
from asyncjobs.store.redis.lookups import in_steps
from asyncjobs.store.redis.scripts import run, run_all, script

__all__ = ["RedisFlows"]

_STATES: Final = {state.value.encode(): state for state in FlowState}
_TRIES: Final = 2


class RedisFlows:
    """See `Flows`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def open(self, flow: NewFlow) -> FlowRef | None:
        holder: bytes = await self._run(
            "flow_open",
            flow.ref.queue,
            id_bytes(flow.ref.id),
            id_bytes(flow.name),
            flow.nodes,
            flow.keep_ms,
            flow.definition,
            int(flow.is_unique),
            flow.ref.queue,
            more_keys=(self._access.keys.queues,),
        )
        if not holder:
            return None
        return FlowRef(flow.ref.queue, id_text(holder))

    async def add_nodes(self, flow: FlowRef, nodes: Sequence[NodeRecord]) -> None:
        check_nodes(nodes)
        args: list[bytes] = []
        for node in nodes:
            queue = node.job.queue
            # Nearly all are in the home queue, and there are many.
            if queue == flow.queue:
                queue = ""
            job = _sized(id_bytes(queue)) + _sized(id_bytes(node.job.id))
            args += (id_bytes(node.node), job + node.definition)
        if not await self._run("flow_add", flow.queue, id_bytes(flow.id), *args):
            raise unknown_flow(flow)

    async def start(self, flow: FlowRef, barriers: Sequence[tuple[str, str]]) -> None:
        # The record and what its queue holds, in one step. What other queues hold is in the outbox
        # from then on, so it is started though nobody comes to the next line.
        access = self._access
        settings = access.settings
        flow_text = id_bytes(str(flow))
        args: list[bytes | str | int] = ["start", id_bytes(flow.id), flow_text]
        args += (settings.id_ttl_ms, settings.history)
        for queue, barrier in barriers:
            place = "" if queue == flow.queue else queue
            args += (place, id_bytes(barrier))
        is_known = await self._run("flow_change", flow.queue, *args)
        posted: set[str] = set()
        if is_known == 2:
            posted.add(flow.queue)
        # No relay has to come for it, and each counts once.
        begin = script("barrier_start")
        places = places_by_queue(queue for queue, _ in barriers)
        others = [queue for queue in places if queue != flow.queue or not is_known]
        commands = tuple(
            begin.command(
                access.keys.queue(queue),
                access.pinned(),
                flow_text,
                settings.id_ttl_ms,
                settings.history,
                *(id_bytes(barriers[place][1]) for place in places[queue]),
            )
            for queue in others
        )
        if commands:
            answers = await run_all(access.link, begin, commands)
            posted |= {queue for queue, answer in zip(others, answers, strict=True) if answer == 2}
        await bring(access, posted)

    async def get(self, flows: Sequence[FlowRef]) -> list[FlowRecord | None]:
        found: list[FlowRecord | None] = [None] * len(flows)
        look = script("flow_get")
        access = self._access
        places = places_by_queue(flow.queue for flow in flows)
        commands = tuple(
            look.command(
                access.keys.queue(queue),
                access.pinned(),
                *(id_bytes(flows[place].id) for place in own),
            )
            for queue, own in places.items()
        )
        if not commands:
            return []
        replies = await run_all(access.link, look, commands)
        for own, answers in zip(places.values(), replies, strict=True):
            for place, fields in zip(own, answers, strict=True):
                found[place] = _record(flows[place], fields)
        return found

    async def page(
        self,
        queue: str,
        states: frozenset[FlowState] = frozenset(),
        after: str | None = None,
        limit: int = 100,
    ) -> FlowPage:
        wanted = [state for state in FlowState if not states or state in states]
        at, _, id = (after or "").partition(" ")
        args: list[bytes | str | int] = [min(limit, MOST_FLOWS), at, id_bytes(id), *wanted]
        now_ms, is_all, found, _ = await self._run("flow_page", queue, *args)
        flows = []
        last = None
        for place in range(0, len(found), 3):
            last = f"{found[place + 1]} {id_text(found[place])}"
            record = _record(FlowRef(queue, id_text(found[place])), found[place + 2])
            if record is not None:
                flows.append(record)
        if is_all:
            last = None
        return FlowPage(flows, last, now_ms)

    async def counts(self, queues: Sequence[str]) -> list[dict[FlowState, int]]:
        access = self._access
        look = script("flow_page")
        commands = tuple(
            look.command(access.keys.queue(queue), access.pinned(), 0, b"", b"", *FlowState)
            for queue in queues
        )
        if not commands:
            return []
        return [
            {state: number for state, number in zip(FlowState, numbers, strict=True) if number}
            for _, _, _, numbers in await run_all(access.link, look, commands)
        ]

    async def nodes(
        self, flow: FlowRef, after: str | None = None, limit: int = MOST_NODES
    ) -> NodePage:
        args = (id_bytes(flow.id), b"page", id_bytes(after or ""), min(limit, MOST_NODES))
        is_all, found = await self._run("flow_nodes", flow.queue, *args)
        nodes = [_node(flow, *found[at : at + 3]) for at in range(0, len(found), 3)]
        # A name is the place: nodes that come meanwhile move no other one.
        last = None
        if found and not is_all:
            last = id_text(found[-3])
        return NodePage([node for node in nodes if node is not None], last)

    async def look_up(self, flow: FlowRef, nodes: Sequence[str]) -> list[NodeRecord | None]:
        if not nodes:
            return []
        args = (id_bytes(flow.id), b"look", *map(id_bytes, nodes))
        _, found = await self._run("flow_nodes", flow.queue, *args)
        return [_node(flow, *found[at : at + 3]) for at in range(0, len(found), 3)]

    async def obstacles(self, jobs: Sequence[JobRef]) -> list[Obstacle | None]:
        look = script("obstacles")
        access = self._access
        steps, commands = in_steps(
            jobs,
            lambda queue, ids: look.command(
                access.keys.queue(queue), access.pinned(), *map(id_bytes, ids)
            ),
        )
        obstacles: list[Obstacle | None] = [None] * len(jobs)
        if not commands:
            return obstacles
        for own, answers in zip(steps, await run_all(access.link, look, commands), strict=True):
            for place, answer in zip(own, answers, strict=True):
                if answer:
                    left = None if answer[1] < 0 else answer[1]
                    obstacles[place] = Obstacle(id_text(answer[0]), left)
        return obstacles

    async def mark_cancelled(self, flow: FlowRef) -> bool:
        return await self._change("cancel", flow)

    async def reopen(
        self, flow: FlowRef, nodes: int, ended_ms: int | None = None, gone: int = 0
    ) -> bool:
        seen = b"" if ended_ms is None else ended_ms
        return await self._change("reopen", flow, nodes, seen, gone)

    async def drop(self, flow: FlowRef) -> bool:
        return await self._change("drop", flow)

    async def _change(self, what: str, flow: FlowRef, *args: bytes | str | int) -> bool:
        return bool(await self._run("flow_change", flow.queue, what, id_bytes(flow.id), *args))

    async def _run(
        self, name: str, queue: str, *args: bytes | str | int, more_keys: tuple[bytes, ...] = ()
    ) -> Any:
        access = self._access
        which = script(name)
        keys = access.keys.queue(queue)
        command = which.command(keys, access.pinned(), *args, more_keys=more_keys)
        return await run(access.link, which, command)


def _sized(text: bytes) -> bytes:
    return b"%d:%b" % (len(text), text)


def _record(flow: FlowRef, fields: Sequence[bytes]) -> FlowRecord | None:
    """A flow from its fields; None when they are none."""
    stored = dict(zip(fields[::2], fields[1::2], strict=False))
    state = _STATES.get(stored.get(b"state", b""))
    # It is unknown, or a foreign writer has put something else there.
    if state is None:
        return None
    ended = {
        STATE_OF_CODE[field[2:]]: number
        for field, text in stored.items()
        if field[:2] == b"e:" and field[2:] in STATE_OF_CODE and (number := _number(text)) > 0
    }
    ended_ms = stored.get(b"ended")
    return FlowRecord(
        flow,
        id_text(stored.get(b"name", b"")),
        state,
        FlowCounts(_number(stored.get(b"nodes")), ended),
        _number(stored.get(b"opened")),
        None if ended_ms is None else _number(ended_ms),
        _number(stored.get(b"keep")),
        stored.get(b"definition", b""),
    )


def _number(text: bytes | None) -> int:
    """A number of a field. A foreign writer may have put anything there."""
    if text is None or len(text) > 16 or not text.lstrip(b"-").isdigit():
        return 0
    return int(text)


def _node(flow: FlowRef, name: bytes, stored: bytes, end: bytes) -> NodeRecord | None:
    """A node from what is stored of it, and of its end; None when it is unknown."""
    state: State | None = None
    definition = b""
    job: JobRef | None = None
    if stored:
        job, definition = _job(flow, stored)
    if end:
        state = STATE_OF_CODE.get(end[:1])
        job = _job(flow, end[2:])[0] or job
    if job is None:
        return None
    return NodeRecord(id_text(name), job, definition, state)


def _job(flow: FlowRef, packed: bytes) -> tuple[JobRef | None, bytes]:
    """The job at the beginning of what is stored of a node, and what is behind it."""
    texts: list[str] = []
    for _ in range(2):
        length, colon, rest = packed.partition(b":")
        if not colon or len(length) > 9 or not length.isdigit():
            return None, b""
        texts.append(id_text(rest[: int(length)]))
        packed = rest[int(length) :]
    return JobRef(texts[0] or flow.queue, texts[1]), packed
