"""The seam, spoken to Redis or Valkey. Decides nothing; every effect is one script."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.awaiting import NewEvent
from asyncjobs.model.figures import Figures
from asyncjobs.model.ids import id_text
from asyncjobs.model.job import JobRecord
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import (
    CancelVerdict,
    Enqueued,
    EventSent,
    Reclaimed,
    Relayed,
)
from asyncjobs.store.flows import FlowRef
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.bringing import bring, has_posted
from asyncjobs.store.redis.enqueue import Enqueuer
from asyncjobs.store.redis.events import send
from asyncjobs.store.redis.flows import RedisFlows
from asyncjobs.store.redis.inspection import RedisInspection
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.layout import CAPABILITIES
from asyncjobs.store.redis.leases import LeaseLinks, RedisLease
from asyncjobs.store.redis.letters import RedisDeadLetters
from asyncjobs.store.redis.limits import RedisLimits
from asyncjobs.store.redis.link import Command, Link
from asyncjobs.store.redis.lookups import in_steps, read_record
from asyncjobs.store.redis.operating import RedisControl
from asyncjobs.store.redis.outbox import Outboxes
from asyncjobs.store.redis.results import ResultBoard
from asyncjobs.store.redis.schedules import RedisSchedules
from asyncjobs.store.redis.scripts import (
    by_queue,
    raise_away,
    run_each,
    script,
)
from asyncjobs.store.redis.server import check_server
from asyncjobs.store.seam import (
    Clock,
    EnqueueBatch,
    StoreInfo,
    StoreSettings,
)
from asyncjobs.store.unstarted import cancel_unstarted

__all__ = ["RedisBackend"]

logger = GuardedLog("asyncjobs.redis")


class RedisBackend:
    """See `Backend`. Owns one connection for calls and one for results. `RedisLease` owns those
    of a worker."""

    capabilities = CAPABILITIES

    def __init__(
        self,
        url: str | Address,
        settings: StoreSettings | None = None,
        *,
        now_ms: Clock | None = None,
        label: str = "client",
    ) -> None:
        self._address = url if isinstance(url, Address) else Address.parse(url)
        self._settings = settings or StoreSettings()
        self._now_ms = now_ms
        self._keys = StoreKeys(self._settings.prefix)
        self._link = self._new_link(label)
        self._access = Access(self._link, self._new_link, self._keys, self._settings, self._pinned)
        self.inspect = RedisInspection(self._access)
        self.dead = RedisDeadLetters(self._access)
        self.schedules = RedisSchedules(self._access)
        self.control = RedisControl(self._access)
        self.limits = RedisLimits(self._access)
        self._lease_links: set[LeaseLinks] = set()
        self._board: ResultBoard | None = None
        self._enqueuer = Enqueuer(self._access, self.address)
        self._outboxes = Outboxes(self._access)

    @property
    def address(self) -> str:
        return self._address.text

    def for_thread(self) -> RedisBackend:
        return RedisBackend(self._address, self._settings, now_ms=self._now_ms, label="lease")

    async def open(self) -> StoreInfo:
        info = await check_server(self._link, self._keys, self.address)
        return info._replace(warnings=(*info.warnings, *self._address.warnings))

    async def close(self) -> None:
        board = self._board
        self._board = None
        if board is not None:
            await board.close()
        for links in list(self._lease_links):
            await links.close()
        self._lease_links.clear()
        await self._link.close()

    async def lease(self, spec: LeaseSpec) -> RedisLease:
        lease = self.attach(spec)
        try:
            await lease.enter()
        except BaseException:
            # Also when cancelled, for nobody else knows of these connections.
            await lease.close()
            raise
        return lease

    def attach(self, spec: LeaseSpec) -> RedisLease:
        return RedisLease(self._access, spec, self._lease_links)

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        return await self._enqueuer.enqueue(batch)

    async def relay(self, queues: Sequence[str], limit: int = 100) -> Relayed:
        return await self._outboxes.relay(queues, limit)

    @property
    def flows(self) -> RedisFlows:
        # It owns nothing, and few apps ask for it.
        return RedisFlows(self._access)

    async def reclaim(
        self, queues: Sequence[str], grace_ms: int, limit: int, *, dead: str = ""
    ) -> Reclaimed:
        end = script("reclaim")
        commands = tuple(
            end.command(self._keys.queue(queue), self._pinned(), grace_ms, limit, dead)
            for queue in queues
        )
        answers, away = by_queue(queues, await run_each(self._link, end, commands))
        waits = [again for _, _, again, _ in answers.values() if again >= 0]
        return Reclaimed(
            sum(returned for returned, _, _, _ in answers.values()),
            sum(leases for _, leases, _, _ in answers.values()),
            min(waits, default=None),
            max((now for _, _, _, now in answers.values()), default=0),
            away,
        )

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        drop = script("prune")
        settings = self._settings
        bounds = (settings.dead_max_age_ms, settings.dead_max_count, settings.dead_max_bytes)
        commands = tuple(
            drop.command(self._keys.queue(queue), self._pinned(), *bounds, limit)
            for queue in queues
        )
        answers, away = by_queue(queues, await run_each(self._link, drop, commands))
        raise_away(away)
        late = [FlowRef(queue, id_text(id)) for queue, (_, ids) in answers.items() for id in ids]
        await cancel_unstarted(self, late)
        return sum(dropped for dropped, _ in answers.values())

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        records, away = await self._records(refs, b"full")
        raise_away(away)
        return records

    async def _records(
        self, refs: Sequence[JobRef], mode: bytes
    ) -> tuple[list[JobRecord | None], Mapping[str, StoreError]]:
        """What is known of these jobs, and the errors of the queues that have not answered."""
        look = script("get")

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            results = tuple(keys.result(job_id) for job_id in ids)
            return look.command(keys, self._pinned(), mode, *ids, more_keys=results)

        steps, commands = in_steps(refs, command)
        try:
            replies = await run_each(self._link, look, commands)
        except StoreUnavailable:
            # Looking has no effect, so a second try is safe. After a restart of the server each
            # connection fails once.
            replies = await run_each(self._link, look, commands)
        records: list[JobRecord | None] = [None] * len(refs)
        away: dict[str, StoreError] = {}
        for places, answers in zip(steps, replies, strict=True):
            if isinstance(answers, StoreError):
                away[refs[places[0]].queue] = answers
                continue
            for place, answer in zip(places, answers, strict=True):
                records[place] = read_record(refs[place], answer)
        return records, away

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        stop = script("cancel")
        ttl_ms = 0
        if outcome is not None:
            ttl_ms = result_ttl_ms

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            results = tuple(keys.result(job_id) for job_id in ids)
            settings = self._settings
            about = (settings.id_ttl_ms, ttl_ms, outcome or b"", settings.history)
            head = (self._pinned(), *about)
            return stop.command(keys, *head, *ids, more_keys=results)

        steps, commands = in_steps(refs, command)
        verdicts = [CancelVerdict.UNKNOWN] * len(refs)
        away: dict[str, StoreError] = {}
        posted: set[str] = set()
        for places, answers in zip(steps, await run_each(self._link, stop, commands), strict=True):
            if isinstance(answers, StoreError):
                away[refs[places[0]].queue] = answers
                continue
            if has_posted(answers):
                posted.add(refs[places[0]].queue)
            for place, answer in zip(places, answers, strict=True):
                verdicts[place] = CancelVerdict(answer.decode())
        await bring(self._access, posted)
        raise_away(away)
        return verdicts

    async def send_event(self, event: NewEvent, queues: Sequence[str]) -> EventSent:
        return await send(self._access, event, queues)

    async def add_figures(self, figures: Sequence[Figures]) -> None:
        await self.inspect.history.add(figures)

    # rule:14 all waiters for results share one connection
    async def wait_results(
        self, refs: Sequence[JobRef], timeout_s: float | None
    ) -> list[JobRecord | None]:
        if not refs:
            return []
        try:
            records = await self.get(refs)
            if any(record is None or record.state.is_final for record in records):
                return records
        except StoreUnavailable as error:
            logger.debug("waiting for results through an outage: %s", error)
        board = self._board
        if board is None:
            link = self._new_link("results")
            board = self._board = ResultBoard(link, self._keys, self._look)
        # One task for each job: the first end answers the whole question.
        waits = [hide(asyncio.create_task(board.wait(ref, timeout_s))) for ref in refs]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if len(refs) == 1 and (record := await waits[0]) is not None:
                # The announcement had the outcome, so no further look is needed.
                return [record]
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return await self.get(refs)

    async def _look(
        self, refs: Sequence[JobRef]
    ) -> tuple[list[JobRecord | None], Mapping[str, StoreError]]:
        # This also marks the queues as awaited, so that settlements announce outcomes there.
        return await self._records(refs, b"await")

    def _pinned(self) -> bytes:
        if self._now_ms is None:
            return b""
        return b"%d" % self._now_ms()

    def _new_link(self, label: str) -> Link:
        return Link(
            self._address,
            label=label,
            connect_timeout_s=self._settings.connect_timeout_s,
            timeout_s=self._settings.command_timeout_s,
        )
