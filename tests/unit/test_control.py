"""Who of several workers is meant, and what happens while nobody can be heard."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from asyncjobs.errors import StoreUnavailable
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelCall, QueueChanged, ReclaimDue, Signal
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory.lease import MemoryLease
from asyncjobs.worker.lease.cancels import CancelListener
from asyncjobs.worker.lease.session import Session
from tests.hooked import HookedStore

pytestmark = pytest.mark.anyio

LIMIT_S = 10.0


class Calls(HookedStore):
    """Says what the test wants to be said, and then nothing."""

    def __init__(self, *answers: Collection[Signal] | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.silent = asyncio.Event()

    async def listen(self, lease: MemoryLease, timeout_s: float) -> Collection[Signal]:
        if not self.answers:
            self.silent.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def heard(lease: LeaseSpec, *answers: Collection[Signal] | Exception) -> list[JobRef]:
    store, found = Calls(*answers), list[JobRef]()
    control = CancelListener(
        Session(store, store.attach(lease)), found.extend, lambda: None, str, list
    )
    task = asyncio.create_task(control.run())
    async with asyncio.timeout(LIMIT_S):
        await store.silent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


def call(holder: str, id: str, queue: str = "one") -> CancelCall:
    return CancelCall(holder, JobRef(queue, id))


async def test_only_calls_for_this_lease_are_passed_on() -> None:
    lease = LeaseSpec("mine", "w", ("one", "two"), 1000).renew(["two"], "again")
    again = lease.entry("two")
    assert again != "mine"
    found = await heard(
        lease,
        [call("mine", "a"), call("theirs", "b"), call(again, "c")],
        [call("mine", "d", "two"), call(again, "e", "two")],
    )
    assert found == [JobRef("one", "a"), JobRef("two", "e")]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a fault of ours")])
async def test_it_listens_again_after_an_error(error: Exception) -> None:
    lease = LeaseSpec("mine", "w", ("one",), 1000)
    assert await heard(lease, error, [call("mine", "a")], error, [call("mine", "b")]) == [
        JobRef("one", "a"),
        JobRef("one", "b"),
    ]


async def test_a_reclaim_that_is_due_and_a_change_of_a_queue_are_passed_on() -> None:
    store = Calls([QueueChanged("one"), ReclaimDue("one")], [QueueChanged("two")])
    due, cancelled = list[str](), list[JobRef]()
    session = Session(store, store.attach(LeaseSpec("mine", "w", ("one", "two"), 1000)))
    control = CancelListener(
        session, cancelled.extend, lambda: due.append("reclaim"), due.append, list
    )
    task = asyncio.create_task(control.run())
    async with asyncio.timeout(LIMIT_S):
        await store.silent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (due, cancelled) == (["one", "reclaim", "two"], [])
