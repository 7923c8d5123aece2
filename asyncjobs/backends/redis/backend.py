"""The seam, spoken to Redis or Valkey. Decides nothing; every effect is one script."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence

from asyncjobs.backends.base import (
    CancelVerdict,
    Capabilities,
    Clock,
    Demand,
    EnqueueBatch,
    Exchange,
    Finding,
    Heartbeat,
    Lease,
    QueueCounts,
    QueueFlow,
    Reclaimed,
    Resync,
    StaleSequence,
    StoreInfo,
    StoreSettings,
    WorkerEntry,
)
from asyncjobs.backends.redis.address import Address
from asyncjobs.backends.redis.exchange import ExchangePlan, due_of, id_of, taken_job
from asyncjobs.backends.redis.inspection import Inspection
from asyncjobs.backends.redis.keys import StoreKeys
from asyncjobs.backends.redis.link import Command, Link
from asyncjobs.backends.redis.lookups import STEP, in_steps, read_record
from asyncjobs.backends.redis.results import ResultBoard
from asyncjobs.backends.redis.scripts import run, run_all, script
from asyncjobs.backends.redis.server import check_server
from asyncjobs.errors import StoreUnavailable
from asyncjobs.job import JobRecord, JobRef, Settlement, TakenJob

__all__ = ["RedisBackend"]

logger = logging.getLogger("asyncjobs.redis")

RESYNC_LIMIT = 100_000
ANNOUNCE_S = 60.0


class _LeaseLinks:
    """The two connections of one registration: one exchanges, one waits."""

    __slots__ = ("exchange", "wait")

    def __init__(self, exchange: Link, wait: Link) -> None:
        self.exchange = exchange
        self.wait = wait


class RedisBackend:
    """Owns the connections: one for calls, one for results, two for each lease."""

    capabilities = Capabilities(durable=True, shared=True, threaded_heartbeat=True)

    def __init__(
        self,
        url: str | Address,
        settings: StoreSettings | None = None,
        *,
        now_ms: Clock | None = None,
    ) -> None:
        self._address = url if isinstance(url, Address) else Address.parse(url)
        self._settings = settings or StoreSettings()
        self._now_ms = now_ms
        self._keys = StoreKeys(self._settings.prefix)
        self._link = self._new_link("client")
        self._inspection = Inspection(self._link, self._keys, self._pinned)
        self._leases: dict[str, _LeaseLinks] = {}
        self._board: ResultBoard | None = None
        self._announced: dict[str, float] = {}

    @property
    def address(self) -> str:
        return self._address.text

    def for_thread(self) -> RedisBackend:
        return RedisBackend(self._address, self._settings, now_ms=self._now_ms)

    async def open(self) -> StoreInfo:
        return await check_server(self._link, self._keys, self.address)

    async def close(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            await board.close()
        for links in self._leases.values():
            await links.exchange.close()
            await links.wait.close()
        self._leases.clear()
        await self._link.close()

    async def enqueue(self, batch: EnqueueBatch) -> list[bool]:
        by_queue: dict[str, list[int]] = {}
        for place, job in enumerate(batch.jobs):
            by_queue.setdefault(job.queue, []).append(place)
        now_s = time.monotonic()
        if any(now_s - self._announced.get(queue, -ANNOUNCE_S) >= ANNOUNCE_S for queue in by_queue):
            await self._announce(by_queue)
        store = script("enqueue")
        commands = []
        for queue, places in by_queue.items():
            keys = self._keys.queue(queue)
            args: list[bytes | str | int] = [self._pinned(), self._settings.token_ttl_ms]
            for place in places:
                job = batch.jobs[place]
                args += (job.id, b"%d" % job.priority, due_of(job), job.envelope)
            commands.append(store.command(keys, *args, more_keys=(keys.batch(batch.token),)))
        answers = await run_all(self._link, store, tuple(commands))
        is_new = [False] * len(batch.jobs)
        for places, answer in zip(by_queue.values(), answers, strict=True):
            for place, letter in zip(places, answer, strict=True):
                is_new[place] = letter == ord("1")
        return is_new

    async def register(self, lease: Lease, queues: Sequence[str] | None = None) -> int:
        await self._announce(lease.queues)
        links = self._lease_links(lease)
        enter = script("register")
        about = (lease.duration_ms, lease.info)
        commands = tuple(
            enter.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), *about)
            for queue in (lease.queues if queues is None else queues)
        )
        times: list[int] = await run_all(links.exchange, enter, commands)
        return max(times)

    async def deregister(self, lease: Lease) -> None:
        leave = script("deregister")
        try:
            for queue in lease.queues:
                name = lease.entry(queue)
                command = leave.command(self._keys.queue(queue), self._pinned(), name, 1000)
                while not await run(self._link, leave, command):
                    pass  # 1,000 jobs a call, so that the server stays free in between
        finally:
            links = self._leases.pop(lease.id, None)
            if links is not None:
                await links.exchange.close()
                await links.wait.close()

    async def heartbeat(self, lease: Lease) -> Heartbeat:
        beat, duration_ms = script("heartbeat"), lease.duration_ms
        commands = tuple(
            beat.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), duration_ms)
            for queue in lease.queues
        )
        lost: list[str] = []
        cancels: list[JobRef] = []
        ends: list[int] = []
        replies = await run_all(self._link, beat, commands)
        for queue, (held, _, end, marked) in zip(lease.queues, replies, strict=True):
            if not held:
                lost.append(queue)
            if end >= 0:
                ends.append(end)
            cancels += [JobRef(queue, id_of(name)) for name in marked]
        now_ms = max(now for _, now, _, _ in replies)
        return Heartbeat(tuple(lost), cancels, min(ends, default=None), now_ms)

    async def exchange(
        self,
        lease: Lease,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
    ) -> Exchange:
        trade = script("exchange")
        plan = ExchangePlan(
            trade,
            self._keys,
            lease,
            self._pinned(),
            self._settings.id_ttl_ms,
            sequence,
            settlements,
            demand,
        )
        replies = await run_all(self._lease_links(lease).exchange, trade, plan.commands)
        return plan.read(replies)

    async def resync(self, lease: Lease, sequence: int, holding: Collection[TakenJob]) -> Resync:
        ask = script("resync")
        link = self._lease_links(lease).exchange
        numbers = (sequence, RESYNC_LIMIT)
        commands = tuple(
            ask.command(self._keys.queue(queue), self._pinned(), lease.entry(queue), *numbers)
            for queue in lease.queues
        )
        # A run left over from a lost entry is not the job that was taken again since.
        known = {
            (job.queue, job.priority, job.receipt)
            for job in holding
            if job.holder == lease.entry(job.queue)
        }
        applied: dict[str, int] = {}
        missing: list[TakenJob] = []
        lost: list[str] = []
        for queue, reply in zip(lease.queues, await run_all(link, ask, commands), strict=True):
            if reply[0] == b"lost":
                lost.append(queue)
                continue
            if reply[0] == b"stale":
                raise StaleSequence(f"{queue}: last applied was {reply[1]}")
            applied[queue] = reply[1]
            for priority, entries in enumerate(reply[2]):
                unknown = [entry for entry in entries if (queue, priority, entry) not in known]
                missing += await self._held(link, lease, queue, priority, unknown)
        return Resync(applied, missing, tuple(lost))

    async def _held(
        self, link: Link, lease: Lease, queue: str, priority: int, entries: list[bytes]
    ) -> list[TakenJob]:
        fetch, holder = script("held"), lease.entry(queue)
        jobs: list[TakenJob] = []
        # Few at a time: an envelope may be as large as max_payload allows.
        for first in range(0, len(entries), 32):
            step = entries[first : first + 32]
            command = fetch.command(self._keys.queue(queue), self._pinned(), priority, *step)
            for entry, crashes in await run(link, fetch, command):
                jobs.append(taken_job(queue, holder, priority, entry, int(crashes or 0)))
        return jobs

    async def wait(self, lease: Lease, timeout_s: float) -> Collection[str]:
        wakes = {self._keys.queue(queue).wake: queue for queue in lease.queues}
        (reply,) = await self._lease_links(lease).wait.calls(
            ((b"BLPOP", *wakes, f"{max(timeout_s, 0.001):.3f}"),),  # 0 would be for ever
            # A half-open connection never answers: give the server a margin, no more.
            timeout_s=timeout_s + 5,
        )
        if isinstance(reply, Exception):
            raise reply
        return () if reply is None else (wakes[reply[0]],)

    async def reclaim(self, queues: Sequence[str], grace_ms: int, limit: int) -> Reclaimed:
        end = script("reclaim")
        commands = tuple(
            end.command(self._keys.queue(queue), self._pinned(), grace_ms, limit)
            for queue in queues
        )
        replies = await run_all(self._link, end, commands)
        waits = [again for _, _, again, _ in replies if again >= 0]
        return Reclaimed(
            sum(returned for returned, _, _, _ in replies),
            sum(leases for _, leases, _, _ in replies),
            min(waits, default=None),
            max(now for _, _, _, now in replies),
        )

    async def prune(self, queues: Sequence[str], limit: int) -> int:
        drop = script("prune")
        age, count = self._settings.dead_max_age_ms, self._settings.dead_max_count
        commands = tuple(
            drop.command(self._keys.queue(queue), self._pinned(), age, count, limit)
            for queue in queues
        )
        return sum(await run_all(self._link, drop, commands))

    async def get(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        return await self._records(refs, b"full")

    async def _records(self, refs: Sequence[JobRef], mode: bytes) -> list[JobRecord | None]:
        look = script("get")

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            results = tuple(keys.result(job_id) for job_id in ids)
            return look.command(keys, self._pinned(), mode, *ids, more_keys=results)

        steps, commands = in_steps(refs, command)
        try:
            replies = await run_all(self._link, look, commands)
        except StoreUnavailable:
            # Looking has no effect, and after a restart each connection fails once.
            replies = await run_all(self._link, look, commands)
        records: list[JobRecord | None] = [None] * len(refs)
        for places, answers in zip(steps, replies, strict=True):
            for place, answer in zip(places, answers, strict=True):
                records[place] = read_record(refs[place], answer)
        return records

    async def cancel(
        self, refs: Sequence[JobRef], outcome: bytes | None, result_ttl_ms: int
    ) -> list[CancelVerdict]:
        stop = script("cancel")
        ttl_ms = result_ttl_ms if outcome is not None else 0

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            results = tuple(keys.result(job_id) for job_id in ids)
            head = (self._pinned(), self._settings.id_ttl_ms, ttl_ms, outcome or b"")
            return stop.command(keys, *head, *ids, more_keys=results)

        steps, commands = in_steps(refs, command)
        verdicts = [CancelVerdict.UNKNOWN] * len(refs)
        for places, answers in zip(steps, await run_all(self._link, stop, commands), strict=True):
            for place, answer in zip(places, answers, strict=True):
                verdicts[place] = CancelVerdict(answer.decode())
        return verdicts

    async def progress(self, lease: Lease, updates: Sequence[tuple[TakenJob, bytes]]) -> None:
        note = script("progress")
        by_queue: dict[str, list[tuple[TakenJob, bytes]]] = {}
        for job, text in updates:
            if job.holder != lease.entry(job.queue):
                continue
            by_queue.setdefault(job.queue, []).append((job, text))
        commands = []
        for queue, notes in by_queue.items():
            for first in range(0, len(notes), STEP):
                args: list[bytes | str | int] = [self._pinned(), lease.entry(queue)]
                for job, text in notes[first : first + STEP]:
                    args += (job.id, b"%d:%s" % (job.priority, job.receipt), text)
                commands.append(note.command(self._keys.queue(queue), *args))
        if commands:
            await run_all(self._link, note, tuple(commands))

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
        waits = [asyncio.create_task(board.wait(ref, timeout_s)) for ref in refs]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if len(refs) == 1 and (record := await waits[0]) is not None:
                return [record]
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return await self.get(refs)

    async def _look(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        return await self._records(refs, b"await")

    async def queues(self) -> list[str]:
        return await self._inspection.queues()

    async def counts(self, queues: Sequence[str]) -> list[QueueCounts]:
        return await self._inspection.counts(queues)

    async def flow(self, queues: Sequence[str]) -> list[QueueFlow]:
        return await self._inspection.flow(queues)

    async def workers(self, queues: Sequence[str]) -> list[WorkerEntry]:
        return await self._inspection.workers(queues)

    async def diagnose(self) -> list[Finding]:
        return await self._inspection.diagnose()

    async def _announce(self, queues: Collection[str]) -> None:
        """Enter queues into the list of all queues; again now and then, for a store may
        have lost its data."""
        note = script("announce")
        head: tuple[bytes | int, ...] = (b"EVALSHA", note.digest, 1, self._keys.queues, b"")
        command = (*head, *queues)
        await run(self._link, note, command)
        self._announced.update(dict.fromkeys(queues, time.monotonic()))

    def _lease_links(self, lease: Lease) -> _LeaseLinks:
        links = self._leases.get(lease.id)
        if links is None:
            links = _LeaseLinks(self._new_link("exchange"), self._new_link("wait"))
            self._leases[lease.id] = links
        return links

    def _pinned(self) -> bytes:
        return b"" if self._now_ms is None else str(self._now_ms()).encode()

    def _new_link(self, label: str) -> Link:
        return Link(
            self._address,
            label=label,
            connect_timeout_s=self._settings.connect_timeout_s,
            timeout_s=self._settings.command_timeout_s,
        )
