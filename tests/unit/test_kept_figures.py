"""Figures in memory go after their time."""

from __future__ import annotations

from asyncjobs.model.figures import HOUR_MS, MINUTE_MS, Figures
from asyncjobs.store.history import KEPT_HOURS, KEPT_MINUTES
from asyncjobs.store.memory.finished import KeptFigures


def test_no_more_spans_are_kept_than_are_shown() -> None:
    kept = KeptFigures()
    for at_ms in range(0, (KEPT_HOURS + 50) * HOUR_MS, 20 * MINUTE_MS):
        kept.add([Figures("work", "send", at_ms, 1, 0, {}, {})])
    assert len(kept._kept[MINUTE_MS]) == KEPT_MINUTES // 20
    assert len(kept._kept[HOUR_MS]) == KEPT_HOURS
