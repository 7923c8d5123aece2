"""The jobs of a run, and the client that enqueues, repeats and cancels them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from asyncjobs import INJECTED, AsyncJobs, Discard, JobContext, Retry, RetryPolicy, Snooze, constant
from asyncjobs.client import Client
from asyncjobs.errors import StoreUnavailable
from asyncjobs.events import Events
from asyncjobs.model.job import NewJob, Priority, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse, Terms, Unique, Until
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.seam import Backend
from tests.simulation.ledger import Ledger

__all__ = [
    "APP",
    "BUDGET",
    "FUNCTIONS",
    "Order",
    "bind",
    "draw_order",
    "enqueue_and_cancel",
    "set_ledger",
    "stock_up",
]

BUDGET = 3
RETRIES = RetryPolicy(BUDGET, constant(0.2))

APP = AsyncJobs(
    "memory:",
    history=10_000,
    connect_timeout=1,
    retry=RETRIES,
    max_crashes=1000,
    timeout=60,
    result_ttl=600,
    # No step of the store's clock is as long: it would forget ids.
    id_ttl=86_400,
)
"""Settings and job functions of all runs; never opened."""
NET_MS = 86_400_000
"""How long a key lasts at the most. No run is as long."""

_ledger: Ledger
_snoozed: set[str]


def set_ledger(ledger: Ledger) -> None:
    """The jobs write into this one from now on."""
    global _ledger, _snoozed
    _ledger, _snoozed = ledger, set()


class Failed(Exception):
    """What a job that fails raises."""


@APP.job
async def work(takes_s: float, fails: int, how: str, *, ctx: JobContext = INJECTED) -> str:
    """Take some time, fail the first `fails` attempts, then end as `how` says."""
    ref = ctx.ref
    ledger, taking = _ledger, _ledger.started(ref, ctx.attempt)
    ended = "stopped"
    try:
        if takes_s:
            await asyncio.sleep(takes_s)
        if how == "snooze" and ref.id not in _snoozed:
            _snoozed.add(ref.id)
            ended = "snoozed"
            raise Snooze(0.3)
        if ctx.attempt <= fails:
            ended = "failed"
            raise Retry(delay=0.1) if how == "retry" else Failed(ref.id)
        if how == "discard":
            ended = "discarded"
            raise Discard("as asked")
        ended = "returned"
        return ref.id
    finally:
        try:
            if how == "slow end" and ended == "stopped":
                await asyncio.sleep(0.2)
        finally:
            ledger.ended(ref, taking, ended)


chore = APP.job(work.function, name="chore")
"""The same under another name, so that one may be paused beside the other."""
FUNCTIONS = (work.name, chore.name)


@dataclass(frozen=True, slots=True)
class Order:
    """A job to enqueue `at_s` after the start, and what shall become of it."""

    job: NewJob
    at_s: float
    expected: State
    cancel_s: float | None
    again_s: float | None


def stock_up(chance: Random, beside: Random, gates: Random, queues: tuple[str, ...]) -> list[Order]:
    """Between 20 and 23 jobs of all kinds, in the order in which they are enqueued.

    `beside`: the chance by which they share unique keys, in every second run. `gates`: that by
    which they have limits.
    """
    count = 20 + int(chance.random() * 4)
    times = sorted(2.5 * chance.random() for _ in range(count))
    orders = [draw_order(chance, f"j{number}", at_s, queues) for number, at_s in enumerate(times)]
    if beside.random() < 0.5:
        orders = [_share(beside, order) for order in orders]
    if gates.random() < 0.5:
        orders = [bind(gates, order) for order in orders]
    return orders


def bind(chance: Random, order: Order) -> Order:
    """Mostly the same job, else with limits that others have, too."""
    if chance.random() < 0.4:
        return order
    number = 1 + int(chance.random() * 2)
    few = LimitUse("few", f"k{number}", LimitRule(LimitKind.CONCURRENCY, number), is_own=True)
    uses = (few,)
    if chance.random() < 0.5:
        uses += (LimitUse("rate", "all", LimitRule(LimitKind.RATE, 3, 1_000, 2)),)
    gate = Gate(uses, turn=str(int(chance.random() * 3)))
    terms = (order.job.terms or Terms())._replace(gate=gate)
    return replace(order, job=order.job._replace(terms=terms))


def _share(chance: Random, order: Order) -> Order:
    """Mostly the same job, else with a key that others have, too."""
    # One that is enqueued again would be a new job when another has stood in its place before.
    if chance.random() < 0.5 or order.again_s is not None:
        return order
    number = int(chance.random() * 3)
    until: Until = "finished" if number else "started"
    mode = chance.random()
    key = f"{order.job.queue} {number}".encode()
    unique = Unique(key, until, NET_MS, replace=mode < 0.3, hold=mode > 0.5 and number > 0)
    return replace(order, job=order.job._replace(terms=Terms(unique=unique)))


def draw_order(chance: Random, id: str, at_s: float, queues: tuple[str, ...]) -> Order:
    """A job of some kind. There is a number in its id behind one letter."""
    kind = KINDS[int(chance.random() * len(KINDS))]
    takes_s, fails, how, expected = 0.0, 0, "", State.SUCCEEDED
    options: dict[str, Any] = {}
    cancel_s = again_s = None
    if chance.random() < 0.6:
        takes_s = 0.3 * chance.random()
    if kind == "long":
        takes_s = 1 + 2 * chance.random()
    elif kind == "fails":
        fails = 1 + int(chance.random() * (BUDGET - 1))
        how = "retry" if chance.random() < 0.3 else ""
    elif kind == "dies":
        fails, expected = BUDGET, State.DEAD
    elif kind == "late":
        options["delay"] = 2 * chance.random()
    elif kind == "snoozes":
        how = "snooze"
    elif kind == "discards":
        how, expected = "discard", State.DISCARDED
    elif kind == "cancelled":
        takes_s = 3 * chance.random()
        how = "slow end" if chance.random() < 0.4 else ""
        cancel_s = 2.5 * chance.random() ** 2
    elif kind == "again":
        again_s = 4 * chance.random() ** 2
    elif kind == "times out":
        takes_s, expected = 30.0, State.DEAD
        options["timeout"] = 0.2
    priority = Priority(int(chance.random() * 4))
    queue = queues[int(chance.random() * len(queues))]
    # By its number, too: so each seed stays the run that it was.
    function = chore if int(id[1:]) % 4 == 1 else work
    function = function.options(id=id, queue=queue, priority=priority, **options)
    job = function.new_job((takes_s, fails, how), {})
    # Every third job holds a key of its own, which must be free at the end. By its number and not
    # by chance, so each seed stays the run that it was.
    if int(id[1:]) % 3 == 0:
        until: Until = "started" if int(id[1:]) % 2 else "finished"
        job = job._replace(terms=Terms(unique=Unique(id.encode(), until, NET_MS)))
    return Order(job, at_s, expected, cancel_s, again_s)


KINDS = (
    "plain",
    "plain",
    "plain",
    "long",
    "long",
    "fails",
    "fails",
    "dies",
    "late",
    "snoozes",
    "discards",
    "cancelled",
    "cancelled",
    "cancelled",
    "again",
    "times out",
)


async def enqueue_and_cancel(backend: Backend, ledger: Ledger, orders: list[Order]) -> None:
    """What the client process does: each order in its time, until all are accepted."""
    client = Client(backend, APP.settings, Events())
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    tasks = []
    for order in orders:
        ledger.expect(order.job, order.expected, BUDGET)
        if (wait_s := start_s + order.at_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        tasks.append(loop.create_task(_place(client, ledger, order), name=order.job.id))
    for task in tasks:
        await task
    await client.close()


async def _place(client: Client, ledger: Ledger, order: Order) -> None:
    await _enqueue(client, ledger, order.job)
    if order.again_s is not None:
        await asyncio.sleep(order.again_s)
        if await _enqueue(client, ledger, order.job):
            ledger.violated(order.job.ref, "was stored a second time under its id")
    if order.cancel_s is not None:
        await asyncio.sleep(order.cancel_s)
        if ledger.stories[order.job.ref].stands_for is None:
            await _cancel(client.backend, ledger, order.job.ref)


async def _enqueue(client: Client, ledger: Ledger, job: NewJob) -> bool:
    """Until the store has it; True when it said, without any doubt, that it is new."""
    story, is_first, doubts = ledger.stories[job.ref], True, 0
    is_first = not story.is_accepted
    while True:
        try:
            place = await client.enqueue(job, work.name)
        except StoreUnavailable:
            doubts += 1
            await asyncio.sleep(0.1)
        else:
            break
    story.is_accepted = True
    is_new = place is None or place.is_new
    if story.stands_for is not None:
        return is_new
    if is_first and not doubts and not is_new:
        ledger.violated(job.ref, "was enqueued for the first time and is said to be old")
    return is_new


async def _cancel(backend: Backend, ledger: Ledger, ref: JobRef) -> None:
    ledger.stories[ref].is_cancelled = True
    while True:
        try:
            verdict = (await backend.cancel([ref], None, 0))[0]
        except StoreUnavailable:
            await asyncio.sleep(0.1)
        else:
            break
    if verdict is CancelVerdict.UNKNOWN:
        ledger.violated(ref, "was enqueued and is not known")
