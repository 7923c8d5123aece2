"""One exchange as a plan: from settlements and demand to commands, from replies to values.

Synchronous, and does no I/O. So when the trip in between is cancelled, nothing is half done here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.demand import Demand
from asyncjobs.model.ends import ENDS
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.store.answers import NONE_AWAY, Exchange, StaleSequence
from asyncjobs.store.checks import check_effects
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.gates import GATED
from asyncjobs.store.redis.keys import QueueKeys, StoreKeys
from asyncjobs.store.redis.layout import CAPABILITIES
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.placing import effect_args, raise_args
from asyncjobs.store.redis.ring import told_of
from asyncjobs.store.redis.scripts import Script

__all__ = [
    "ExchangePlan",
    "OfferPlan",
    "crashes_in",
    "taken_job",
]

# The first argument of each settlement, made once: see lua/exchange.lua.
_FINISH: Final = {
    (state, p): f"f{p}{end.code}".encode() for state, end in ENDS.items() for p in range(4)
}
_WITH_OUTCOME: Final = {
    (state, p): f"o{p}{end.code}".encode() for state, end in ENDS.items() for p in range(4)
}
_DEAD: Final = tuple(f"d{p}".encode() for p in range(4))
_RESCHEDULE: Final = tuple(f"r{p}".encode() for p in range(4))
_WAIT: Final = tuple(f"r{p}w".encode() for p in range(4))
_CLOSE: Final = tuple(f"r{p}c".encode() for p in range(4))
_RELEASE: Final = tuple(f"b{p}".encode() for p in range(4))

_AGAIN: Final = {
    SettlementKind.RESCHEDULE: _RESCHEDULE,
    SettlementKind.WAIT: _WAIT,
    SettlementKind.CLOSE: _CLOSE,
}

_new: Final = tuple.__new__
_FINISHED: Final = SettlementKind.FINISH
MOST_CRASHES: Final = 16
"""As lua/shared.lua counts them."""
_NO_DEMAND: Final = Demand(0)
POSTED: Final = 4
"""What an exchange adds when it has noted something for other queues."""


class ExchangePlan:
    """The calls of one exchange, one for each queue that it covers."""

    __slots__ = ("_foreign", "_full", "_holders", "_settled", "causes_jobs", "commands", "queues")

    def __init__(
        self,
        script: Script,
        keys: StoreKeys,
        lease: LeaseSpec,
        pinned: bytes,
        id_ttl_ms: int,
        sequence: int,
        settlements: Sequence[Settlement],
        demand: Mapping[str, Demand],
        history: int = 0,
    ) -> None:
        """`history`: how many jobs that have ended each queue keeps."""
        self._foreign: list[Settlement] = []
        self._full: Sequence[Settlement] = ()
        self.causes_jobs = False
        """Whether some of the settlements have effects."""
        self._settled = self._by_queue(lease, settlements, demand)
        self._holders = {queue: lease.entry(queue) for queue in self._settled}
        self.queues = tuple(self._settled)
        self.commands = tuple(
            self._command(
                script,
                keys.queue(queue),
                [
                    pinned,
                    self._holders[queue],
                    sequence,
                    id_ttl_ms,
                    *demand.get(queue, _NO_DEMAND)[:3],
                    _rooms(demand[queue].suspects) if queue in demand else b"",
                    len(settled),
                    history,
                    told_of(lease.worker, settled) if history and settled else b"",
                ],
                settled,
            )
            for queue, settled in self._settled.items()
        )

    def _by_queue(
        self, lease: LeaseSpec, settlements: Sequence[Settlement], demand: Mapping[str, Demand]
    ) -> dict[str, list[Settlement]]:
        settled: dict[str, list[Settlement]] = {queue: [] for queue in demand}
        queue = entry = None
        ours: list[Settlement] = []
        for settlement in settlements:
            job = settlement.job
            # Settlements of one queue mostly follow each other: look its entry up once.
            if job.queue != queue:
                queue = job.queue
                entry = lease.entry(queue)
                ours = settled.setdefault(queue, [])
            # rule:5 what was taken under another entry is not settled
            if job.holder == entry:
                ours.append(settlement)
            else:
                # It was taken under an entry that was lost. The script would not notice: XACK
                # accepts an entry whoever holds it.
                self._foreign.append(settlement)
        return settled

    def _command(
        self,
        script: Script,
        keys: QueueKeys,
        head: list[bytes | str | int],
        settled: list[Settlement],
    ) -> tuple[bytes | str | int, ...]:
        results: list[bytes] = []
        args = [*head]
        causes_jobs = False
        for settlement in settled:
            job = settlement.job
            if (
                settlement.kind is _FINISHED
                and settlement.outcome is None
                and settlement.dead_letter is None
                and settlement.effects is None
            ):
                # Most of all settlements: calling `_add` and `id_bytes` for each would double
                # their cost.
                word = _FINISH[settlement.state, job.priority]
                args += (word, job.receipt, job.id.encode("utf-8", "surrogateescape"))
            else:
                _add(settlement, args, results, keys)
                causes_jobs |= settlement.effects is not None
        if causes_jobs:
            self.causes_jobs = True
            _add_effects(settled, args, results, keys)
        return script.command(keys, *args, more_keys=tuple(results))

    def by(self, script: Script) -> tuple[Command, ...]:
        """The same calls of another script, which has the same keys."""
        return tuple((name, script.digest, *rest) for name, _, *rest in self.commands)

    def leave_out(self, full: Collection[str], instead: ExchangePlan) -> None:
        """These queues have refused their calls, for the store is full. They were called once more
        by the plan `instead`, without the settlements that have effects."""
        settled = [each for queue in full for each in self._settled[queue]]
        self._full = [each for each in settled if each.effects is not None]
        self._settled |= instead._settled

    def read(self, replies: Iterable[Any]) -> Exchange:
        """The answer. An error in place of a reply concerns its queue alone. Raises StaleSequence
        when any queue has refused the sequence."""
        jobs: list[TakenJob] = []
        not_yours, cancelled = list(self._foreign), list[Settlement]()
        cancels, left = list[JobRef](), list[str]()
        promoted, lease_ends = list[tuple[str, int]](), list[int]()
        paused, relay = list[str](), list[str]()
        suspects: dict[str, int] = {}
        next_due: dict[str, int | None] = {}
        answers, lost, now_ms, away = self._answers(replies)
        for queue, reply in answers:
            _, now_ms, due, lease_end, ready, foreign, stopped, marked, taken, moved, fewest = reply
            # The scripts answer -1 where there is no time.
            next_due[queue] = due if due >= 0 else None
            lease_ends.append(lease_end)
            if moved:
                promoted.append((queue, moved))
            if ready:
                _note_ready(queue, ready, left, paused, relay)
            if fewest:
                suspects[queue] = fewest
            # Lua counts places from 1.
            not_yours += [self._settled[queue][place - 1] for place in foreign]
            cancelled += [self._settled[queue][place - 1] for place in stopped]
            cancels += [JobRef(queue, id_text(name)) for name in marked]
            _read_taken(queue, self._holders[queue], taken, jobs)
        return Exchange(
            jobs,
            not_yours,
            tuple(lost),
            cancels,
            frozenset(left),
            next_due,
            min((end for end in lease_ends if end >= 0), default=None),
            now_ms,
            tuple(promoted),
            cancelled,
            suspects,
            away,
            frozenset(paused),
            frozenset(relay),
            self._full,
        )

    def _answers(
        self, replies: Iterable[Any]
    ) -> tuple[list[tuple[str, list[Any]]], list[str], int, Mapping[str, StoreError]]:
        """The replies that are answers, the queues without the lease, the time there, and the
        queues that have not answered."""
        answers: list[tuple[str, list[Any]]] = []
        lost: list[str] = []
        away: dict[str, StoreError] = {}
        now_ms = 0
        for queue, reply in zip(self.queues, replies, strict=True):
            if type(reply) is not list:
                away[queue] = reply
            elif reply[0] == b"ok":
                answers.append((queue, reply))
            else:
                now_ms = _time_of_loss(queue, reply)
                lost.append(queue)
        return answers, lost, now_ms, away or NONE_AWAY


class OfferPlan:
    """The calls of an offer, one for each queue. They are sent behind the wait for a signal."""

    __slots__ = ("_holders", "commands")

    def __init__(
        self,
        script: Script,
        keys: StoreKeys,
        lease: LeaseSpec,
        pinned: bytes,
        sequence: int,
        demand: Mapping[str, Demand],
    ) -> None:
        self._holders = {queue: lease.entry(queue) for queue in demand}
        self.commands = tuple(
            script.command(keys.queue(queue), pinned, holder, sequence, demand[queue].slots)
            for queue, holder in self._holders.items()
        )

    def read(self, replies: Iterable[list[Any]]) -> Exchange:
        """The answer. Raises StaleSequence when any queue has refused the sequence."""
        jobs: list[TakenJob] = []
        lost, left = list[str](), list[str]()
        paused: list[str] = []
        next_due: dict[str, int | None] = {}
        now_ms = 0
        for (queue, holder), reply in zip(self._holders.items(), replies, strict=True):
            if reply[0] != b"ok":
                now_ms = _time_of_loss(queue, reply)
                lost.append(queue)
                continue
            now_ms, due, ready = reply[1:4]
            next_due[queue] = due if due >= 0 else None
            if ready:
                _note_ready(queue, ready, left, paused, [])
            for at in range(4, len(reply), 4):
                priority, receipt, id, envelope = reply[at : at + 4]
                jobs.append(taken_job(queue, holder, priority, [receipt, [id, envelope]], 0))
        return Exchange(
            jobs,
            [],
            tuple(lost),
            [],
            frozenset(left),
            next_due,
            None,
            now_ms,
            paused=frozenset(paused),
        )


def _note_ready(
    queue: str, ready: int, left: list[str], paused: list[str], relay: list[str]
) -> None:
    """Note what a script says of the ready jobs of a queue: 1, some are left; 2, it is paused. 4
    more: its outbox has got something."""
    if ready >= POSTED:
        relay.append(queue)
    if ready % POSTED == 1:
        left.append(queue)
    elif ready % POSTED == 2:
        paused.append(queue)


def _time_of_loss(queue: str, reply: list[Any]) -> int:
    """The store's time, from the reply to an exchange that found no lease. Raises StaleSequence
    for one that was refused."""
    if reply[0] == b"stale":
        raise StaleSequence(f"{queue}: last applied was {reply[1]}")
    now_ms: int = reply[1]
    return now_ms


# Workers ask with the same few tuples again and again.
@lru_cache(maxsize=1024)
def _rooms(suspects: tuple[int, ...]) -> bytes:
    """The room for suspects, as lua/exchange.lua reads it."""
    return b" ".join(b"%d" % room for room in suspects)


def _add(
    settlement: Settlement, args: list[bytes | str | int], results: list[bytes], keys: QueueKeys
) -> None:
    job = settlement.job
    priority = job.priority
    name = id_bytes(job.id)
    words = _AGAIN.get(settlement.kind)
    if words is not None:
        args += (words[priority], job.receipt, name, settlement.delay_ms)
        args.append(settlement.envelope)
        return
    if settlement.kind is SettlementKind.RELEASE:
        args += (_RELEASE[priority], job.receipt, name)
        return
    outcome = settlement.outcome if settlement.result_ttl_ms > 0 else None
    if outcome is not None:
        results.append(keys.result(job.id))
    if settlement.dead_letter is not None:
        ttl_ms = settlement.result_ttl_ms if outcome is not None else 0
        args += (_DEAD[priority], job.receipt, name, ttl_ms, outcome or b"")
        args.append(settlement.dead_letter)
    elif outcome is not None:
        word = _WITH_OUTCOME[settlement.state, priority]
        args += (word, job.receipt, name, settlement.result_ttl_ms, outcome)
    else:
        args += (_FINISH[settlement.state, priority], job.receipt, name)


def _add_effects(
    settled: list[Settlement],
    args: list[bytes | str | int],
    results: list[bytes],
    keys: QueueKeys,
) -> None:
    """The jobs that successes store, behind all settlements: most exchanges have none."""
    for place, settlement in enumerate(settled, start=1):
        check_effects(settlement, CAPABILITIES)
        if settlement.effects is None:
            continue
        # In front of the jobs that are behind them.
        for barrier in settlement.effects.barriers:
            args += raise_args(place, barrier, settlement.job.queue)
        # Those for one queue follow each other, so a relay brings them there in one trip.
        for job in sorted(settlement.effects.jobs, key=attrgetter("queue")):
            args += effect_args(place, job, settlement.job.queue)
            if not job.has_new_id and job.queue == settlement.job.queue:
                results.append(keys.result(job.id))


def _read_taken(queue: str, holder: str, taken: list[list[Any]], jobs: list[TakenJob]) -> None:
    for part in taken:
        _read_part(queue, holder, part, jobs)


def _read_part(queue: str, holder: str, part: list[Any], jobs: list[TakenJob]) -> None:
    priority, entries = part[0], part[1]
    if len(part) == 2:
        # `taken_job` and `id_text` for each, without the calls: on the way of every job.
        jobs += [
            _new(
                TakenJob,
                (
                    queue,
                    fields[0].decode("utf-8", "surrogateescape"),
                    priority,
                    receipt,
                    fields[1],
                    0,
                    int(receipt[:13]) if receipt[13:14] == b"-" else _ms_of(receipt),
                    holder,
                ),
            )
            for receipt, fields in entries
        ]
        return
    if priority == GATED:
        jobs += [
            taken_job(queue, holder, own, entry, 0)._replace(ready_ms=since)
            for entry, own, since in zip(entries, part[3], part[4], strict=True)
        ]
        # Suspects only have any.
        if part[2]:
            first = len(jobs) - len(entries)
            for place, crashes in enumerate(part[2], start=first):
                jobs[place] = jobs[place]._replace(crashes=crashes_in(crashes))
        return
    jobs += [
        taken_job(queue, holder, priority, entry, crashes_in(crashes))
        for entry, crashes in zip(entries, part[2], strict=True)
    ]


def crashes_in(stored: bytes | int | None) -> int:
    """How many workers died with a job. What is no number comes from a foreign writer, and counts
    as very many: as 0 it would let a job that kills its workers start over."""
    if stored is None:
        return 0
    text = b"%d" % stored if isinstance(stored, int) else stored
    return int(text) if text.isdigit() and len(text) < 10 else MOST_CRASHES


def _ms_of(receipt: bytes) -> int:
    """The time in a stream entry's id."""
    return int(receipt.partition(b"-")[0])


def taken_job(queue: str, holder: str, priority: int, entry: list[Any], crashes: int) -> TakenJob:
    """A stream entry `[entry id, [job id, envelope]]` as the worker sees it."""
    receipt, fields = entry
    return TakenJob(
        queue,
        id_text(fields[0]),
        priority,
        receipt,
        fields[1],
        crashes,
        _ms_of(receipt),
        holder,
    )
