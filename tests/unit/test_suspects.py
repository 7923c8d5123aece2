"""Each death narrows the company of a suspect, until it runs alone; then one more is its end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.options.app import AppSettings
from asyncjobs.policy.suspects import NARROWED_BY, WIDEST_AT_LEAST, SuspectBounds


@pytest.mark.parametrize(
    ("slots", "max_crashes", "bounds"),
    [
        (1000, 6, (250, 63, 16, 4, 1)),
        # A worker with few slots is narrowed sooner, and runs the rest alone.
        (100, 6, (32, 8, 2, 1)),
        (1, 6, (32, 8, 2, 1)),
        # Few crashes: each narrows by more.
        (1000, 3, (32, 1)),
        (1000, 2, (1,)),
        (1000, 1, (1,)),
        (10_000, 6, (1585, 252, 40, 7, 1)),
        (1000, 10_000, (250, 63, 16, 4, 1)),
    ],
)
def test_bounds(slots: int, max_crashes: int, bounds: tuple[int, ...]) -> None:
    assert SuspectBounds(slots, max_crashes).by_crashes == bounds


@given(st.integers(1, 100_000), st.integers(1, 50))
def test_they_narrow_down_to_one_before_death(slots: int, max_crashes: int) -> None:
    bounds = SuspectBounds(slots, max_crashes).by_crashes
    assert bounds[-1] == 1
    assert len(bounds) <= max(max_crashes - 1, 1)
    for wider, narrower in itertools.pairwise(bounds):
        assert wider > narrower
    assert bounds[0] <= max(-(-slots // NARROWED_BY), WIDEST_AT_LEAST)


def test_by_default_a_thousand_are_narrowed_by_quarters() -> None:
    bounds = SuspectBounds(1000, AppSettings().max_crashes).by_crashes
    assert len(bounds) == AppSettings().max_crashes - 1
    assert NARROWED_BY ** len(bounds) >= 1000


@given(
    st.integers(1, 5000),
    st.integers(1, 12),
    st.lists(st.integers(1, 15), max_size=60),
)
def test_nobody_runs_beside_more_than_it_may(
    slots: int, max_crashes: int, waiting: list[int]
) -> None:
    """Suspects are taken one by one, as there is room."""
    bounds = SuspectBounds(slots, max_crashes)
    running: list[int] = []
    for crashes in waiting:
        room = bounds.room(running)
        if room[min(crashes, len(room)) - 1] > 0:
            running.append(crashes)
    for crashes in running:
        own = bounds.by_crashes[min(crashes, len(bounds.by_crashes)) - 1]
        assert len(running) <= own
        if crashes >= max_crashes - 1:
            assert len(running) == 1
    # Where nobody runs, whoever comes first may.
    assert bool(running) == bool(waiting)
