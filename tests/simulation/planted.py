"""Bugs to be found: each takes one rule out of the product, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.model.terms import Barrier, FlowNode, LimitKind, OnFailure
from asyncjobs.store.answers import CancelVerdict, Placed
from asyncjobs.store.flows import NodeRecord
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.barriers import Barriers
from asyncjobs.store.memory.crossing import Crossing
from asyncjobs.store.memory.entries import Entries, Held
from asyncjobs.store.memory.flow_book import Flow
from asyncjobs.store.memory.gates import Gates
from asyncjobs.store.memory.lineup import Lane, Lineup
from asyncjobs.store.memory.operating import MemoryQueueControl
from asyncjobs.store.memory.pauses import Pauses
from asyncjobs.store.memory.permits import LimitKey, LimitKeys, Use
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import ReadyList
from asyncjobs.store.memory.unique import Lock, Locks
from asyncjobs.store.memory.upkeep import Upkeep
from asyncjobs.store.memory.waiting import Waiting
from asyncjobs.store.memory.wakes import Wakes
from asyncjobs.worker.engine.appetite import Appetite
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.doubt import InDoubt, Unanswered
from asyncjobs.worker.engine.offer import StandingOffer
from asyncjobs.worker.engine.settling import Settler
from asyncjobs.worker.lease.session import Session

__all__ = ["PLANTED", "planted"]

PLANTED: dict[str, list[tuple[type[Any], str, Callable[..., Any]]]] = {}
"""By name: each class, its method, and what stands in its place."""

_settle, _enqueue, _renew = Queue.settle, Queue.enqueue, Upkeep.renew
_cancel, _drop_lock = Queue.cancel, Locks._drop
_release_leaving = Entries.release_leaving
_retry, _check_sequence = Settler._retry, Entries.check_sequence
_pull_back, _touch = Entries._pull_back, Entries.touch
_opens_ms, _gates_give_back = LimitKeys.opens_ms, Gates.give_back
_arrive, _end = Barriers.arrive, Barriers.end


def _plant(
    owner: type[Any], method: str, *others: tuple[type[Any], str, Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def plant(bug: Callable[..., Any]) -> Callable[..., Any]:
        PLANTED[bug.__name__] = [(owner, method, bug), *others]
        return bug

    return plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with this bug."""
    right = [(owner, method, getattr(owner, method)) for owner, method, _ in PLANTED[name]]
    for owner, method, bug in PLANTED[name]:
        setattr(owner, method, bug)
    try:
        yield
    finally:
        for owner, method, before in right:
            setattr(owner, method, before)


def _stands(leases: Entries, lease: LeaseSpec) -> bool:
    return lease.entry(leases._queue) in leases._held


@_plant(Entries, "check_sequence")
def late_exchange_takes_effect(
    leases: Entries, lease: LeaseSpec, sequence: int, *, is_parked: bool
) -> bool:
    """A request that arrives after the resync takes jobs that nobody will hear of."""
    return _stands(leases, lease)


@_plant(Entries, "check_sequence")
def late_parked_exchange_takes_effect(
    leases: Entries, lease: LeaseSpec, sequence: int, *, is_parked: bool
) -> bool:
    """One that was sent behind a wait takes jobs that nobody will hear of, after a resync."""
    if is_parked:
        return _stands(leases, lease)
    return _check_sequence(leases, lease, sequence, is_parked=is_parked)


@_plant(StandingOffer, "withdraw")
def an_offer_outlives_a_resync(offer: StandingOffer) -> None:
    """What it has brought is started twice: the resync has told of it, too."""


def _let_in(leases: Entries, lease: LeaseSpec, sequence: int, *, is_parked: bool) -> bool:
    entry = lease.entry(leases._queue)
    leases._held.setdefault(entry, Held(entry))
    return True


@_plant(Queue, "settle", (Entries, "check_sequence", _let_in))
def anybody_settles(queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int) -> bool:
    """A worker that has lost its lease records the outcome of a job that another one runs."""
    job = queue._jobs.get(settlement.job.id)
    if job is None or queue.leases.get(job.holder) is None:
        return False
    holder = LeaseSpec(job.holder or "", "", (), 0)
    taken = settlement.job._replace(receipt=job.receipt)
    return _settle(queue, holder, settlement._replace(job=taken), now)


@_plant(Queue, "settle")
def releases_count_as_crashes(
    queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int
) -> bool:
    """A job that is given back at each deploy ends dead, as if it killed its workers."""
    is_right = _settle(queue, lease, settlement, now)
    if is_right and settlement.kind is SettlementKind.RELEASE:
        queue._jobs[settlement.job.id].crashes += 1
    return is_right


@_plant(Held, "taken_jobs")
def nothing_is_missing(held: Held, queue: str) -> list[TakenJob]:
    """Jobs whose reply was lost are held, and never started."""
    return []


@_plant(Upkeep, "renew")
def renewals_do_not_count(upkeep: Upkeep, lease: LeaseSpec, now: int, **options: Any) -> bool:
    """Every lease ends; what its worker still runs is given to others."""
    return _stands(upkeep._leases, lease)


@_plant(Upkeep, "renew")
def lost_leases_come_back(upkeep: Upkeep, lease: LeaseSpec, now: int, **options: Any) -> bool:
    """A worker never learns that its jobs were given to others."""
    if not _renew(upkeep, lease, now, **options):
        upkeep.register(lease, now)
    return True


@_plant(Entries, "release_leaving")
def reclaim_forgets_cancels(leases: Entries, limit: int) -> list[StoredJob]:
    """A job that was cancelled while it ran on a worker that died runs again."""
    released = _release_leaving(leases, limit)
    for job in released:
        job.is_marked = False
    return released


@_plant(Queue, "enqueue")
def answers_are_not_kept(
    queue: Queue,
    token: str,
    jobs: Sequence[NewJob],
    barriers: Sequence[Barrier],
    token_ttl_ms: int,
    now: int,
) -> list[Placed | None]:
    """A batch that is sent again is told that its own jobs were there before."""
    queue._answers.pop(token)
    return _enqueue(queue, token, jobs, barriers, token_ttl_ms, now)


def _no_work(waiting: Waiting, now: int) -> bool:
    return False


@_plant(Wakes, "signal", (Waiting, "has_work", _no_work))
def calls_are_swallowed(wakes: Wakes, queue: str) -> None:
    """Idle workers sleep on while jobs are ready; heartbeats do not tell them either."""


@_plant(Settler, "_retry")
def retries_are_free(settler: Settler, attempt: Attempt, *details: Any) -> Settlement:
    """A failing job runs for ever."""
    settlement = _retry(settler, attempt, *details)
    envelope = Envelope.decode(settlement.envelope)
    envelope.attempt -= 1
    return settlement._replace(envelope=envelope.encode())


def _none(doubt: InDoubt) -> Iterator[TakenJob]:
    return iter(())


@_plant(Unanswered, "to_send_again", (InDoubt, "sent_jobs", _none))
def settlements_are_not_sent_again(
    exchange: Unanswered, applied: Mapping[str, int]
) -> list[Settlement]:
    """A settlement whose request was lost is forgotten; the store gives the job back."""
    return []


@_plant(Session, "is_confirmed")
def a_lease_is_believed_in(session: Session, now_s: float) -> bool:
    """A worker that was stopped for long starts what others have been given meanwhile."""
    return True


@_plant(Entries, "_pull_back")
def holds_stay_ahead(leases: Entries, now: int) -> None:
    """After a step back of the clock nothing is reclaimed for as long as the step."""


@_plant(Entries, "_pull_back")
def a_step_back_ends_holds(leases: Entries, now: int) -> None:
    """Forward, and back by half: those who live have had no time to renew."""
    _pull_back(leases, now)
    leases._holds = dict.fromkeys(leases._holds, 0)


@_plant(Entries, "touch")
def a_step_forward_costs_leases(leases: Entries, now: int, grace_ms: int) -> int:
    """The clock goes forward, and all leases are over at once."""
    back_ms = _touch(leases, now, grace_ms)
    leases._holds = dict.fromkeys(leases._holds, 0)
    return back_ms


# ── what operators order ───────────────────────────────────────────────────────────────


PLANTED["a_paused_queue_hands_out"] = [(Pauses, "is_whole", property(lambda pauses: False))]  # type: ignore[list-item]


@_plant(Pauses, "paused_function")
def a_paused_function_is_handed_out(pauses: Pauses, envelope: bytes) -> str | None:
    """Its jobs go on as before."""
    return None


@_plant(ReadyList, "set_aside")
def a_pause_loses_jobs(ready: ReadyList[StoredJob], job: StoredJob, function: str) -> None:
    """A job that was met while its function was paused is never seen again."""


@_plant(ReadyList, "bring_back")
def a_resume_loses_the_order(ready: ReadyList[StoredJob], function: str) -> None:
    """Jobs of a function that is resumed stand behind those that came later."""
    for job in ready._aside.pop(function, ()):
        ready.append(job)


@_plant(MemoryQueueControl, "resume", (Waiting, "has_work", _no_work))
async def a_resume_wakes_nobody(
    control: MemoryQueueControl, queues: Sequence[str], function: str | None
) -> list[bool]:
    """Idle workers sleep on after a resume; heartbeats do not tell them either."""
    for queue in control._reach(queues):
        queue.pauses.resume(function)
        queue.waiting.bring_back(function)
    return [True for _ in queues]


@_plant(Appetite, "rest")
def a_quiet_worker_takes_jobs(appetite: Appetite, *, is_on: bool) -> None:
    """The order is heard, and nothing comes of it."""


# ── unique keys ────────────────────────────────────────────────────────────────────────


@_plant(Queue, "cancel")
def a_cancel_keeps_the_key(queue: Queue, id: str, *details: Any) -> tuple[CancelVerdict, Any]:
    """Whoever waits for the key of a job that was cancelled waits for ever."""
    key = queue.locks._of.get(id)
    if key is not None and queue.waits(id):
        del queue.locks._of[id]
    return _cancel(queue, id, *details)


@_plant(Queue, "settle")
def a_discard_keeps_the_key(
    queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int
) -> State | None:
    """One way to end was forgotten."""
    if settlement.state is State.DISCARDED and queue.leases.held(lease, settlement.job):
        queue.locks._of.pop(settlement.job.id, None)
    return _settle(queue, lease, settlement, now)


@_plant(Queue, "settle")
def a_retry_frees_the_key(
    queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int
) -> State | None:
    """While a job waits for its next attempt, another one runs with its key."""
    state = _settle(queue, lease, settlement, now)
    if state is State.SCHEDULED:
        queue.locks.end(settlement.job.id, now)
        queue.signal_news()
    return state


@_plant(Locks, "_drop")
def who_is_held_stays_held(locks: Locks, lock: Lock, now: int) -> bool:
    """The end of a job frees its key, and nobody tells the job behind it."""
    locks._next.pop(lock.key, None)
    return _drop_lock(locks, lock, now)


PLANTED["what_has_started_is_replaced"] = [
    (StoredJob, "has_started", property(lambda job: False))  # type: ignore[list-item]
]


@_plant(LimitKeys, "opens_ms")
def one_permit_too_many(self: LimitKeys, use: Use, now: int) -> int | None:
    rule = self.rule(use.key.name)
    if rule.kind is LimitKind.CONCURRENCY and use.key.running == rule.number:
        return use.key.closed_ms
    return _opens_ms(self, use, now)


@_plant(Lineup, "pass_on")
def room_is_not_passed_on(self: Lineup, lane: Lane, now: int) -> None:
    pass


@_plant(Gates, "give_back")
def a_job_that_is_given_back_keeps_its_permits(self: Gates, job: StoredJob, now: int) -> None:
    gated = job.gated
    assert gated is not None
    permits, gated.permits = gated.permits, ()
    _gates_give_back(self, job, now)
    gated.permits = permits


@_plant(LimitKeys, "take")
def starts_are_not_counted(self: LimitKeys, use: Use, now: int) -> bool:
    return self.rule(use.key.name).kind is LimitKind.CONCURRENCY


@_plant(Lineup, "let_in")
def a_permit_that_comes_back_lets_nobody_in(
    self: Lineup, key: LimitKey, now: int, most: int
) -> None:
    pass


# ── barriers and flows ─────────────────────────────────────────────────────────────────


@_plant(Barriers, "arrive")
def one_arrival_counts_as_two(
    self: Barriers, barrier: str, failure: OnFailure | None, now: int
) -> None:
    """What is behind goes on before all in front have ended."""
    standing = self._standing.get(barrier)
    if standing is not None and standing.left == 2:
        standing.left = 1
    _arrive(self, barrier, failure, now)


@_plant(Barriers, "arrive")
def the_last_failure_decides(
    self: Barriers, barrier: str, failure: OnFailure | None, now: int
) -> None:
    """Not the strongest one."""
    if failure is not None and barrier in self._standing:
        self._standing[barrier].failure = None
    _arrive(self, barrier, failure, now)


@_plant(Barriers, "end")
def what_is_skipped_counts_as_failed(
    self: Barriers, id: str, state: State, now: int, *, is_skipped: bool = False
) -> None:
    """The jobs behind a skipped one are cancelled."""
    _end(self, id, state, now)


@_plant(Queue, "settle")
def a_retry_counts_as_an_end(
    queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int
) -> State | None:
    """What is behind goes on while the job waits for its next attempt."""
    state = _settle(queue, lease, settlement, now)
    if state is State.SCHEDULED:
        queue.barriers.end(settlement.job.id, State.DEAD, now)
    return state


@_plant(Queue, "enqueue")
def a_repeated_batch_raises_its_barriers(
    queue: Queue,
    token: str,
    jobs: Sequence[NewJob],
    barriers: Sequence[Barrier],
    token_ttl_ms: int,
    now: int,
) -> list[Placed | None]:
    """Some of them wait for arrivals that nobody owes."""
    if queue._answers.after(token, now) is not None:
        queue.barriers.lift(barriers)
    return _enqueue(queue, token, jobs, barriers, token_ttl_ms, now)


@_plant(Crossing, "record")
def an_allowed_failure_fails_the_flow(
    self: Crossing, node: FlowNode, job: JobRef, state: State, now: int, *, may_succeed: bool
) -> None:
    """Though all that is behind it goes on."""
    is_good = state is State.SUCCEEDED
    book = self._find(node.queue).barriers.flows
    book.record(node, job, state, now, may_succeed=may_succeed and is_good)


@_plant(Flow, "put")
def nodes_that_come_late_undo_ends(self: Flow, node: NodeRecord) -> None:
    """A second call that enters the nodes, after some have ended."""
    self.nodes[node.node] = node._replace(state=None)
    self.bad.discard(node.node)
