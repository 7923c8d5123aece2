"""When a duty wants to be called again."""

from __future__ import annotations

import gc
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.events import Events, JobsReclaimed
from asyncjobs.store.answers import Heartbeat, Reclaimed
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Backend, StoreSettings
from asyncjobs.worker import duties
from asyncjobs.worker.duties.reclaim import Reclaim
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.upkeep import Upkeep

pytestmark = pytest.mark.anyio

LEASE = LeaseSpec("lease", "worker", ("one", "two"), 15_000)


class Store:
    """Answers each reclaim with the next answer, and keeps what was asked."""

    def __init__(self, *answers: Reclaimed | StoreUnavailable) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def reclaim(self, *asked: Any) -> Reclaimed:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer


def reclaim_on(
    store: Store, hub: Events, call: Callable[[Collection[str]], None] = lambda queues: None
) -> Reclaim:
    backend = cast(Backend, store)
    return Reclaim(
        backend, Session(backend, MemoryBackend(StoreSettings()).attach(LEASE)), hub, call
    )


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time by which upkeep goes; a test moves it."""
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(
        "asyncjobs.worker.duties.reclaim.time", SimpleNamespace(monotonic=lambda: clock.s)
    )
    return clock


def beat(next_end_in_ms: int | None) -> Heartbeat:
    end_ms = None if next_end_in_ms is None else 1_000_000 + next_end_in_ms
    return Heartbeat((), [], end_ms, 1_000_000, ())


async def looks(duty: Reclaim, store: Store, now: SimpleNamespace, until_s: float) -> list[float]:
    """When it has asked the store, in seconds from now on."""
    start_s, found = now.s, list[float]()
    while now.s - start_s <= until_s:
        asked = len(store.asked)
        left_s = await duty.run()
        if len(store.asked) > asked:
            found.append(round(now.s - start_s, 3))
        now.s += max(left_s, 0.001)
    return found


@pytest.mark.parametrize(
    ("again_ms", "expected"), [(1, [0, 0.001]), (4200, [0, 4.2]), (0, [0, 0.001]), (None, [0])]
)
async def test_a_reclaim_comes_back_when_the_next_lease_ends(
    now: SimpleNamespace, again_ms: int | None, expected: list[float]
) -> None:
    store = Store(Reclaimed(0, 0, again_ms, 1), Reclaimed(0, 0, None, 1))
    assert await looks(reclaim_on(store, Events()), store, now, 100) == expected
    assert set(store.asked) == {(("one", "two"), 6000, 1000)}


async def test_while_all_others_renew_nothing_is_asked(now: SimpleNamespace) -> None:
    store = Store(Reclaimed(0, 0, 14_000, 1))
    duty = reclaim_on(store, Events())
    assert await looks(duty, store, now, 4) == [0]
    for others_end_ms in [12_000, 11_000, None, None, 12_000]:
        duty.hear_beat(beat(others_end_ms))
        assert await looks(duty, store, now, 4) == []


@pytest.mark.parametrize(("end_ms", "seconds"), [(9_000, 9.001), (0, 0.001), (-5, 0)])
async def test_a_lease_that_nobody_renews_is_looked_for_at_its_end(
    now: SimpleNamespace, end_ms: int, seconds: float
) -> None:
    store = Store(Reclaimed(0, 0, None, 1), Reclaimed(1, 1, None, 1))
    duty = reclaim_on(store, Events())
    assert await looks(duty, store, now, 4) == [0]
    duty.hear_beat(beat(end_ms))
    assert await looks(duty, store, now, 20) == [seconds]


async def test_a_look_that_fails_is_due_again(now: SimpleNamespace) -> None:
    store = Store(StoreUnavailable("away"), Reclaimed(0, 0, None, 1))
    duty = reclaim_on(store, Events())
    with pytest.raises(StoreUnavailable):
        await duty.run()
    assert await looks(duty, store, now, 4) == [0]


async def test_reclaimed_jobs_are_told() -> None:
    hub, heard, called = Events(), list[JobsReclaimed](), list[Collection[str]]()
    hub.on(JobsReclaimed, heard.append)
    answers = (Reclaimed(3, 1, 0, 1), Reclaimed(0, 0, None, 1))
    duty = reclaim_on(Store(*answers), hub, called.append)
    for _ in answers:
        await duty.run()
        # Who has given them back looks for them: the store's call may reach a dead worker.
        assert (heard, called) == ([JobsReclaimed(3, 1)], [("one", "two")])


async def test_what_a_heartbeat_says_during_a_reclaim_is_not_forgotten(
    now: SimpleNamespace,
) -> None:
    class Busy(Store):
        async def reclaim(self, *asked: Any) -> Reclaimed:
            duty.hear_beat(beat(0))
            return await super().reclaim(*asked)

    store = Busy(Reclaimed(0, 0, 15_000, 1_000_000))
    duty = reclaim_on(store, Events())
    await duty.run()
    now.s += 0.01
    store.answers = [Reclaimed(0, 0, 15_000, 1_000_000)]
    await duty.run()
    assert len(store.asked) == 2


async def test_a_refused_duty_is_told_once_and_tried_after_pauses_that_grow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Moody(duties.Duty):
        is_refused = True

        @classmethod
        def of(cls, site: duties.Site) -> Self:
            return cls()

        async def run(self) -> float:
            if self.is_refused:
                raise StoreError("no right to do this")
            return 7.0

    duty = Moody()
    upkeep = Upkeep([duty])
    for most_s in (2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert most_s / 2 <= await upkeep._once(duty) <= most_s
    assert caplog.messages == ["Moody is refused, tried again: no right to do this"]
    duty.is_refused = False
    assert await upkeep._once(duty) == 7.0
    duty.is_refused = True
    assert 1.0 <= await upkeep._once(duty) <= 2.0
    assert len(caplog.messages) == 2


def test_each_module_of_the_folder_has_one_duty_and_all_are_found() -> None:
    """There is no list: adding a duty is one file."""
    files = sorted(module.name for module in pkgutil.iter_modules(duties.__path__))
    found = sorted(duty.__module__.rpartition(".")[2] for duty in duties.every_duty())
    assert found == [name for name in files if name != "duty"]


def test_a_duty_of_somebody_else_is_none_of_the_worker() -> None:
    class Foreign(duties.Duty):
        @classmethod
        def of(cls, site: duties.Site) -> Self | None:
            return None

        async def run(self) -> float:
            return 1.0

    assert Foreign not in duties.every_duty()


def test_a_duty_derived_from_another_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sooner(Reclaim):
        """As if it stood in a file of the folder."""

    Sooner.__module__ = f"{duties.__name__}.sooner"
    found = duties.every_duty()
    assert Reclaim in found
    assert Sooner in found
    assert len(set(found)) == len(found)
    # Nobody else shall find it.
    Sooner.__module__ = __name__
    del Sooner, found
    gc.collect()


PACKED = """
import asyncio, pkgutil
every = pkgutil.iter_modules
# The modules of this folder that an import names, as a tool that freezes programs finds them.
pkgutil.iter_modules = lambda path=None, prefix="": [
    module for module in every(path, prefix)
    if not (path and str(list(path)[0]).endswith("duties")) or module.name in ("duty", "prune")
]
from asyncjobs import AsyncJobs, ConfigError, Worker

async def main():
    async with AsyncJobs("memory:") as app:
        try:
            await Worker(app, queues=["default"]).run(burst=True)
        except ConfigError as error:
            print(error)
        (counts,) = await app.backend.inspect.queues.counts(["default"])
        print("workers left:", counts.workers)

asyncio.run(main())
"""


def test_without_reclaim_no_worker_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PACKED], check=True, capture_output=True, text=True, timeout=60
    )
    told, left = done.stdout.splitlines()
    assert "jobs of workers that died would never run again" in told
    assert "--collect-submodules asyncjobs.worker.duties" in told
    assert left == "workers left: 0"
