"""A step back of the store's clock is told once, and nothing else is taken for one."""

from __future__ import annotations

import logging

import pytest

from asyncjobs.worker.lease.store_clock import StoreClock


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        # (store's time in ms, sent, heard)
        ([(10_000, 0.0, 0.1), (14_000, 4.0, 4.1), (18_000, 8.0, 8.1)], 0),
        ([(10_000, 0.0, 0.1), (3_614_000, 4.0, 4.1), (18_000, 8.0, 8.1), (22_000, 12, 12.1)], 1),
        ([(10_000, 0.0, 0.1), (13_200, 4.0, 4.1)], 0),
        # An answer that was long on its way: the time in it is that of its beginning.
        ([(10_000, 0.0, 9.0), (19_000, 9.1, 9.2)], 0),
        # The process stood still between the answer and its reading.
        ([(10_000, 0.0, 0.1), (14_000, 4.0, 60.0), (70_100, 60.1, 60.2)], 0),
    ],
)
def test_steps_back_are_told(
    caplog: pytest.LogCaptureFixture, answers: list[tuple[int, float, float]], told: int
) -> None:
    clock = StoreClock()
    with caplog.at_level(logging.WARNING, "asyncjobs.worker"):
        for answer in answers:
            clock.watch(*answer)
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "the store's clock was set back by 3600 s; jobs tha"
    ] * told
