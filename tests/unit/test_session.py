"""Numbers of exchanges, and asking again after a failure, with a store that a test plays."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import cast

import pytest

from asyncjobs.backends.base import Backend, LeaseSpec, Registered, Resync, StaleSequence
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.job import TakenJob
from asyncjobs.worker.session import Session

pytestmark = pytest.mark.anyio
LEASE = LeaseSpec("lease", "worker", ("a", "b"), 15_000)
ANSWER = Resync({"a": 1}, [], ())


class AnsweringStore:
    """Answers resyncs as told; remembers what it was asked."""

    def __init__(self, *answers: Resync | Exception) -> None:
        self._answers = list(answers)
        self.sequences: list[int] = []
        self.registered: list[tuple[LeaseSpec, Sequence[str] | None]] = []

    async def resync(
        self, lease: LeaseSpec, sequence: int, holding: Collection[TakenJob]
    ) -> Resync:
        self.sequences.append(sequence)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def register(self, lease: LeaseSpec, queues: Sequence[str] | None = None) -> Registered:
        self.registered.append((lease, queues))
        return Registered(0)


def session_on(store: AnsweringStore) -> Session:
    return Session(cast(Backend, store), LEASE)


def nothing() -> list[TakenJob]:
    return []


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.worker.session.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("asyncjobs.worker.session.BACKOFF_MOST_S", 0.002)


async def test_an_outage_is_told_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = StoreUnavailable("nobody there")
    store = AnsweringStore(away, away, away, ANSWER)
    session = session_on(store)
    assert await session.resync(away, nothing) is ANSWER
    assert store.sequences == [1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "the store is away, running jobs go on: nobody there",
        "the store is back",
    ]
    assert not session.away


async def test_a_refused_exchange_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    session = session_on(AnsweringStore(ANSWER))
    await session.resync(StoreError("bad settlement"), nothing)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "bad settlement" in record.getMessage()


async def test_numbers_only_rise(caplog: pytest.LogCaptureFixture) -> None:
    store = AnsweringStore(StaleSequence("a: 7"), StaleSequence("a: 7"), ANSWER)
    session = session_on(store)
    assert [session.next_sequence() for _ in range(3)] == [1, 2, 3]
    await session.resync(StaleSequence("a: 7"), nothing)
    assert store.sequences == sorted(set(store.sequences))
    assert store.sequences[0] > 3
    assert session.next_sequence() > store.sequences[-1]


async def test_what_is_held_is_asked_for_at_each_try() -> None:
    asked: list[int] = []

    def holding() -> list[TakenJob]:
        asked.append(1)
        return []

    session = session_on(AnsweringStore(StoreUnavailable("x"), ANSWER))
    await session.resync(StoreUnavailable("x"), holding)
    assert len(asked) == 2


async def test_rejoining_takes_a_new_name_in_the_lost_queues_only() -> None:
    store = AnsweringStore()
    session = session_on(store)
    await session.rejoin(["b"])
    lease = session.lease
    assert lease.id == LEASE.id
    assert lease.entry("a") == LEASE.entry("a")
    assert lease.entry("b") != LEASE.entry("b")
    assert store.registered == [(lease, ("b",))]


def test_a_lease_is_confirmed_for_its_duration_from_when_it_was_asked_for() -> None:
    session = session_on(AnsweringStore())
    now_s = time.monotonic()
    assert not session.is_confirmed(now_s)
    session.confirmed_s = now_s
    assert session.is_confirmed(now_s + 14.9)
    assert not session.is_confirmed(now_s + 15)
