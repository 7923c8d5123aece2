"""Bugs to be found: each takes one rule out of the product, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import NewJob, Settlement, SettlementKind, TakenJob
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.queue import Queue
from asyncjobs.store.memory.stored import Held
from asyncjobs.store.memory.wakes import Wakes
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.doubt import InDoubt, Unanswered
from asyncjobs.worker.engine.offer import StandingOffer
from asyncjobs.worker.engine.settling import Settler
from asyncjobs.worker.lease.session import Session

__all__ = ["PLANTED", "planted"]

PLANTED: dict[str, list[tuple[type[Any], str, Callable[..., Any]]]] = {}
"""By name: each class, its method, and what stands in its place."""

_settle, _enqueue, _reclaim, _renew = Queue.settle, Queue.enqueue, Queue.reclaim, Queue.renew
_retry, _check_sequence = Settler._retry, Queue.check_sequence
_pull_back, _touch_upkeep = Queue._pull_back, Queue._touch_upkeep


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


@_plant(Queue, "check_sequence")
def late_exchange_takes_effect(
    queue: Queue, lease: LeaseSpec, sequence: int, is_parked: bool = False
) -> bool:
    """A request that arrives after the resync takes jobs that nobody will hear of."""
    return lease.entry(queue.name) in queue._leases


@_plant(Queue, "check_sequence")
def late_parked_exchange_takes_effect(
    queue: Queue, lease: LeaseSpec, sequence: int, is_parked: bool = False
) -> bool:
    """One that waited behind a call takes jobs that nobody will hear of, after a resync."""
    if is_parked:
        return lease.entry(queue.name) in queue._leases
    return _check_sequence(queue, lease, sequence)


@_plant(StandingOffer, "withdraw")
def an_offer_outlives_a_resync(offer: StandingOffer) -> None:
    """What it has brought is started twice: the resync has told of it, too."""


def _let_in(queue: Queue, lease: LeaseSpec, sequence: int, is_parked: bool = False) -> bool:
    queue._leases.setdefault(lease.entry(queue.name), Held(0))
    return True


@_plant(Queue, "settle", (Queue, "check_sequence", _let_in))
def anybody_settles(queue: Queue, lease: LeaseSpec, settlement: Settlement, now: int) -> bool:
    """A worker that has lost its lease records the outcome of a job that another one runs."""
    job = queue._jobs.get(settlement.job.id)
    if job is None or job.holder not in queue._leases:
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


@_plant(Queue, "resync")
def nothing_is_missing(queue: Queue, lease: LeaseSpec, sequence: int) -> tuple[int, list[TakenJob]]:
    """Jobs whose reply was lost are held, and never started."""
    held = queue._leases[lease.entry(queue.name)]
    held.fence = sequence
    return held.applied, []


@_plant(Queue, "renew")
def renewals_do_not_count(queue: Queue, lease: LeaseSpec, now: int, leaves: bool = False) -> bool:
    """Every lease ends; what its worker still runs is given to others."""
    return lease.entry(queue.name) in queue._leases


@_plant(Queue, "renew")
def lost_leases_come_back(queue: Queue, lease: LeaseSpec, now: int, leaves: bool = False) -> bool:
    """A worker never learns that its jobs were given to others."""
    if not _renew(queue, lease, now, leaves):
        queue.register(lease, now)
    return True


@_plant(Queue, "reclaim")
def reclaim_forgets_cancels(
    queue: Queue, grace_ms: int, limit: int, now: int
) -> tuple[int, int, int | None]:
    """A job that was cancelled while it ran on a worker that died runs again."""
    answer = _reclaim(queue, grace_ms, limit, now)
    for id in [id for id, job in queue._marked.items() if job.holder is None]:
        del queue._marked[id]
    return answer


@_plant(Queue, "enqueue")
def answers_are_not_kept(
    queue: Queue, token: str, jobs: Sequence[NewJob], token_ttl_ms: int, now: int
) -> list[bool]:
    """A batch that is sent again is told that its own jobs were there before."""
    queue._answers.pop(token)
    return _enqueue(queue, token, jobs, token_ttl_ms, now)


def _no_work(queue: Queue, now: int) -> bool:
    return False


@_plant(Wakes, "signal", (Queue, "has_work", _no_work))
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


@_plant(Queue, "_pull_back")
def holds_stay_ahead(queue: Queue, now: int, by_ms: int) -> None:
    """After a step back of the clock nothing is reclaimed for as long as the step."""


@_plant(Queue, "_pull_back")
def a_step_back_ends_holds(queue: Queue, now: int, by_ms: int) -> None:
    """Forward, and back by half: those who live have had no time to renew."""
    _pull_back(queue, now, by_ms)
    queue._holds = dict.fromkeys(queue._holds, 0)


@_plant(Queue, "_touch_upkeep")
def a_step_forward_costs_leases(queue: Queue, now: int, grace_ms: int) -> None:
    """The clock goes forward, and all leases are over at once."""
    _touch_upkeep(queue, now, grace_ms)
    queue._holds = dict.fromkeys(queue._holds, 0)
