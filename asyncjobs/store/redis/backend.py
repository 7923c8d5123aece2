"""The seam, spoken to Redis or Valkey. Decides nothing; every effect is one script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import hide
from asyncjobs.model.job import JobRecord, JobRef, NewJob
from asyncjobs.store.answers import CancelVerdict, Enqueued, Placed, Reclaimed
from asyncjobs.store.checks import check_batch
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.exchange import job_args
from asyncjobs.store.redis.inspection import RedisInspection
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.layout import CAPABILITIES
from asyncjobs.store.redis.leases import LeaseLinks, RedisLease
from asyncjobs.store.redis.letters import RedisDeadLetters
from asyncjobs.store.redis.link import Command, Link
from asyncjobs.store.redis.listing import QueueNames
from asyncjobs.store.redis.lookups import in_steps, read_record
from asyncjobs.store.redis.results import ResultBoard
from asyncjobs.store.redis.scripts import (
    Script,
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

__all__ = ["RedisBackend"]

logger = GuardedLog("asyncjobs.redis")

LARGE = 32_768
"""Bytes of an envelope above which workers have to know of it: see lua/shared.lua."""
ONE_NEW = Enqueued((None,))
REPLICA_WAIT_MS = 1_000
"""How long one try of an enqueue waits for replicas; the client tries again."""


class RedisBackend:
    """See `Backend`. Owns a connection for calls and one for results; see RedisLease for a
    worker's."""

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
        self._lease_links: set[LeaseLinks] = set()
        self._board: ResultBoard | None = None
        self._names = QueueNames(self._keys.queues)

    @property
    def address(self) -> str:
        return self._address.text

    def for_thread(self) -> RedisBackend:
        return RedisBackend(self._address, self._settings, now_ms=self._now_ms, label="lease")

    async def open(self) -> StoreInfo:
        info = await check_server(self._link, self._keys, self.address)
        return info._replace(warnings=(*info.warnings, *self._address.warnings))

    async def close(self) -> None:
        board, self._board = self._board, None
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
            await lease.close()
            raise
        return lease

    def attach(self, spec: LeaseSpec) -> RedisLease:
        return RedisLease(self._access, spec, self._lease_links)

    async def enqueue(self, batch: EnqueueBatch) -> Enqueued:
        jobs = batch.jobs
        token_ttl_ms = batch.token_ttl_ms or self._settings.token_ttl_ms
        if len(jobs) == 1 and jobs[0].is_plain and len(jobs[0].envelope) <= LARGE:
            return await self._enqueue_plain(jobs[0], batch.token, token_ttl_ms)
        check_batch(batch, self.capabilities)
        parts: dict[str, tuple[list[int], list[bytes | str | int], list[bytes]]] = {}
        for place, job in enumerate(jobs):
            places, args, results = parts.setdefault(job.queue, ([], [], []))
            places.append(place)
            args += job_args(job)
            if not job.has_new_id:
                results.append(self._keys.result(job.ref))
        store = script("enqueue")
        commands = []
        head = (self._pinned(), token_ttl_ms)
        for queue, (_, args, results) in parts.items():
            keys = self._keys.queue(queue)
            more_keys = (keys.batch(batch.token), *results)
            commands.append(store.command(keys, *head, *args, more_keys=more_keys))
        answers = await self._confirmed(store, tuple(commands), tuple(parts))
        if len(answers) == 1 and type(answers[0]) is bytes and b"0" not in answers[0]:
            return Enqueued([None] * len(jobs))
        found: list[Placed | None] = [None] * len(jobs)
        refused: dict[str, StoreError] = {}
        for (queue, (places, _, _)), answer in zip(parts.items(), answers, strict=True):
            if isinstance(answer, StoreError):
                refused[queue] = _refusal(queue, answer)
                continue
            for place, letter in zip(places, answer, strict=True):
                if letter != ord("1"):
                    found[place] = Placed(jobs[place].ref, "there")
        return Enqueued(found, refused)

    async def _enqueue_plain(self, job: NewJob, token: str, token_ttl_ms: int) -> Enqueued:
        """One job that is ready at once, under an id that nobody has: most of all calls."""
        store, keys = script("enqueue_new"), self._keys.queue(job.queue)
        more_keys = (keys.ready[job.priority], keys.batch(token))
        args = (self._pinned(), token_ttl_ms, job.id, b"%d" % job.priority, job.envelope)
        command = store.command(keys, *args, more_keys=more_keys)
        (answer,) = await self._confirmed(store, (command,), (job.queue,))
        if isinstance(answer, StoreError):
            return Enqueued((None,), {job.queue: _refusal(job.queue, answer)})
        return ONE_NEW

    async def _confirmed(
        self, store: Script, commands: tuple[Command, ...], queues: tuple[str, ...]
    ) -> list[Any]:
        """The answers of `store` for each of these queues, refusals among them, once as many
        replicas have them as the settings say."""
        wanted = self._settings.wait_replicas
        unsaid = self._names.due(queues)
        if not wanted and not unsaid:
            return await run_each(self._link, store, commands, keeps_cancelled=True)
        last: list[Command] = [self._names.command(unsaid)] if unsaid else []
        if wanted:
            # In one go: on a connection made anew, WAIT would not know of these writes.
            last.append((b"WAIT", wanted, REPLICA_WAIT_MS))
        sent_s = time.monotonic()
        replies = await run_each(
            self._link, store, commands, last=tuple(last), keeps_cancelled=not wanted
        )
        answers, behind = replies[: len(commands)], replies[len(commands) :]
        if unsaid:
            new = {q for q, answer in zip(queues, answers, strict=True) if _has_new(answer)}
            self._names.note([queue for queue in unsaid if queue in new], sent_s, behind[0])
        if wanted:
            self._check_copies(answers, behind[-1])
        return answers

    def _check_copies(self, answers: list[Any], copies: Any) -> None:
        """Raises StoreUnavailable when fewer replicas have confirmed than the settings say."""
        if isinstance(copies, StoreError):
            raise copies
        wanted = self._settings.wait_replicas
        has_stored = not all(isinstance(answer, StoreError) for answer in answers)
        if copies < wanted and has_stored:
            raise StoreUnavailable(
                f"the store at {self.address} has the jobs, but {copies} of wait_replicas="
                f"{wanted} replicas confirmed them within {REPLICA_WAIT_MS} ms; check its "
                "replication, or lower wait_replicas"
            )

    async def reclaim(self, queues: Sequence[str], grace_ms: int, limit: int) -> Reclaimed:
        end = script("reclaim")
        commands = tuple(
            end.command(self._keys.queue(queue), self._pinned(), grace_ms, limit)
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
        return sum(answers.values())

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
            # Looking has no effect, and after a restart each connection fails once.
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
        ttl_ms = result_ttl_ms if outcome is not None else 0

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            results = tuple(keys.result(job_id) for job_id in ids)
            head = (self._pinned(), self._settings.id_ttl_ms, ttl_ms, outcome or b"")
            return stop.command(keys, *head, *ids, more_keys=results)

        steps, commands = in_steps(refs, command)
        verdicts = [CancelVerdict.UNKNOWN] * len(refs)
        away: dict[str, StoreError] = {}
        for places, answers in zip(steps, await run_each(self._link, stop, commands), strict=True):
            if isinstance(answers, StoreError):
                away[refs[places[0]].queue] = answers
                continue
            for place, answer in zip(places, answers, strict=True):
                verdicts[place] = CancelVerdict(answer.decode())
        raise_away(away)
        return verdicts

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
        waits = [hide(asyncio.create_task(board.wait(ref, timeout_s))) for ref in refs]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if len(refs) == 1 and (record := await waits[0]) is not None:
                return [record]
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return await self.get(refs)

    async def _look(
        self, refs: Sequence[JobRef]
    ) -> tuple[list[JobRecord | None], Mapping[str, StoreError]]:
        return await self._records(refs, b"await")

    def _pinned(self) -> bytes:
        return b"" if self._now_ms is None else str(self._now_ms()).encode()

    def _new_link(self, label: str) -> Link:
        return Link(
            self._address,
            label=label,
            connect_timeout_s=self._settings.connect_timeout_s,
            timeout_s=self._settings.command_timeout_s,
        )


def _has_new(answer: Any) -> bool:
    """Whether an enqueue has stored a job."""
    return isinstance(answer, bytes) and b"1" in answer


def _refusal(queue: str, error: StoreError) -> StoreError:
    """Why a queue has taken no jobs, for those who wanted to put some there."""
    if isinstance(error, StoreFull):
        return error
    return type(error)(f"queue {queue!r}: {error}; some of the jobs may be stored all the same")
