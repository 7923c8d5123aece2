"""What a worker says of the answer to an exchange."""

from __future__ import annotations

import logging

import pytest

from asyncjobs import events
from asyncjobs.events import Events
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import Exchange
from asyncjobs.worker.engine.announce import announce_exchange


def taken(envelope: bytes) -> TakenJob:
    return TakenJob("mail", "a", 2, b"1-0", envelope, 0, 1, "lease")


@pytest.mark.parametrize(
    ("envelope", "name", "attempt"),
    [
        (Envelope("shop.send", [], {}, 0, attempt=3).encode(), "shop.send", 3),
        (b"no envelope", "", 1),
    ],
)
def test_a_retry_that_was_cancelled_is_told_of(
    caplog: pytest.LogCaptureFixture, envelope: bytes, name: str, attempt: int
) -> None:
    hub, heard = Events(), list[events.Event]()
    hub.on(events.JobCancelled, heard.append)
    settlement = Settlement.reschedule(taken(envelope), b"again", 10)
    answer = Exchange([], [], (), [], frozenset(), {}, None, 0, cancelled=[settlement])
    assert answer.has_news
    with caplog.at_level(logging.INFO, "asyncjobs.worker"):
        announce_exchange(hub, answer)
    assert heard == [events.JobCancelled(settlement.job.ref, name, attempt, 0.0, was_queued=True)]
    assert [record.getMessage() for record in caplog.records] == [
        f"{settlement.job.ref}: cancelled, not run again"
    ]
