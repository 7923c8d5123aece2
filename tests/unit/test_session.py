"""Numbers of exchanges, and asking again after a failure, with a store that a test plays."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import cast

import pytest

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.model.job import TakenJob
from asyncjobs.store.answers import Resync, StaleSequence
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Backend, StoreSettings
from asyncjobs.worker.lease.session import Session

pytestmark = pytest.mark.anyio
SPEC = LeaseSpec("lease", "worker", ("a", "b"), 15_000)
ANSWER = Resync({"a": 1}, [], ())


class AnsweringLease:
    """Answers resyncs as told; remembers what it was asked."""

    def __init__(self, *answers: Resync | Exception) -> None:
        self._answers = list(answers)
        self.spec = SPEC
        self.sequences: list[int] = []

    async def resync(
        self,
        sequence: int,
        holding: Collection[TakenJob],
        queues: Collection[str] | None = None,
    ) -> Resync:
        self.sequences.append(sequence)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def session_on(lease: AnsweringLease) -> Session:
    return Session(cast(Backend, None), cast(Lease, lease))


def nothing() -> list[TakenJob]:
    return []


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.lease.session.BACKOFF_MOST_S", 0.002)


async def test_an_outage_is_told_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = StoreUnavailable("nobody there")
    lease = AnsweringLease(away, away, away, ANSWER)
    session = session_on(lease)
    assert await session.resync(away, nothing) is ANSWER
    assert lease.sequences == [1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "the store is away, running jobs go on: nobody there",
        "the store is back",
    ]
    assert not session.away


async def test_a_refused_exchange_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    session = session_on(AnsweringLease(ANSWER))
    await session.resync(StoreError("bad settlement"), nothing)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "bad settlement" in record.getMessage()


async def test_numbers_only_rise(caplog: pytest.LogCaptureFixture) -> None:
    lease = AnsweringLease(StaleSequence("a: 7"), StaleSequence("a: 7"), ANSWER)
    session = session_on(lease)
    assert [session.next_sequence() for _ in range(3)] == [1, 2, 3]
    await session.resync(StaleSequence("a: 7"), nothing)
    assert lease.sequences == sorted(set(lease.sequences))
    assert lease.sequences[0] > 3
    assert session.next_sequence() > lease.sequences[-1]


async def test_what_is_held_is_asked_for_at_each_try() -> None:
    asked: list[int] = []

    def holding() -> list[TakenJob]:
        asked.append(1)
        return []

    session = session_on(AnsweringLease(StoreUnavailable("x"), ANSWER))
    await session.resync(StoreUnavailable("x"), holding)
    assert len(asked) == 2


async def test_rejoining_takes_a_new_name_in_the_lost_queues_only() -> None:
    store = MemoryBackend(StoreSettings())
    session = await Session.begin(store, SPEC)
    assert await session.rejoin(["b"]) == {}
    assert session.spec.id == SPEC.id
    assert session.spec.entry("a") == SPEC.entry("a")
    assert session.spec.entry("b") != SPEC.entry("b")
    entries = await store.inspect.workers(["a", "b"])
    assert {entry.lease for entry in entries if entry.queue == "a"} == {SPEC.id}
    assert {entry.lease for entry in entries if entry.queue == "b"} == {
        SPEC.id,
        session.spec.entry("b"),
    }
    assert session.losses == 1


def test_a_lease_is_confirmed_for_its_duration_from_when_it_was_asked_for() -> None:
    session = session_on(AnsweringLease())
    now_s = time.monotonic()
    assert not session.is_confirmed(now_s)
    session.confirmed_s = now_s
    assert session.is_confirmed(now_s + 14.9)
    assert not session.is_confirmed(now_s + 15)
