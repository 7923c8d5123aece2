"""When a duty wants to be called again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

import pytest

from asyncjobs.backends.base import Backend, Lease, Reclaimed
from asyncjobs.events import Events, JobsReclaimed
from asyncjobs.worker.session import Session
from asyncjobs.worker.upkeep import Reclaim

pytestmark = pytest.mark.anyio

LEASE = Lease("lease", "worker", ("one", "two"), 15_000)


class Store:
    """Answers each reclaim with the next answer, and keeps what was asked."""

    def __init__(self, *answers: Reclaimed) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def reclaim(self, *asked: Any) -> Reclaimed:
        self.asked.append(asked)
        return self.answers.pop(0)


def reclaim_on(
    store: Store, hub: Events, call: Callable[[Collection[str]], None] = lambda queues: None
) -> Reclaim:
    backend = cast(Backend, store)
    return Reclaim(backend, Session(backend, LEASE), hub, call)


@pytest.mark.parametrize(
    ("again_ms", "seconds"), [(1, 0.001), (4200, 4.2), (0, 0), (None, 15), (3_600_000, 15)]
)
async def test_a_reclaim_comes_back_when_the_next_lease_ends(
    again_ms: int | None, seconds: float
) -> None:
    store = Store(Reclaimed(0, 0, again_ms, 1))
    # At most a lease away: one that is entered meanwhile may end that soon.
    assert await reclaim_on(store, Events()).run() == seconds
    assert store.asked == [(("one", "two"), 5000, 1000)]


async def test_reclaimed_jobs_are_told() -> None:
    hub, heard, called = Events(), list[JobsReclaimed](), list[Collection[str]]()
    hub.on(JobsReclaimed, heard.append)
    answers = (Reclaimed(3, 1, None, 1), Reclaimed(0, 0, None, 1))
    duty = reclaim_on(Store(*answers), hub, called.append)
    for _ in answers:
        await duty.run()
        # Who has given them back looks for them: the store's call may reach a dead worker.
        assert (heard, called) == ([JobsReclaimed(3, 1)], [("one", "two")])
