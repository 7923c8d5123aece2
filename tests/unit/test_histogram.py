"""Buckets of times: how they are added, and how wrong a quantile may be."""

from __future__ import annotations

import random

import pytest

from asyncjobs.model.histogram import (
    ENDS_MS,
    MOST_BUCKETS,
    histogram_of,
    merged,
    quantile_s,
)


@pytest.mark.parametrize("seconds", [0.00011, 0.004, 0.25, 1, 59.9, 3600, 86_000])
def test_a_quantile_is_right_to_within_ten_per_cent(seconds: float) -> None:
    histogram = histogram_of([seconds])
    assert quantile_s(histogram, 0.5) == pytest.approx(seconds, rel=0.1)
    assert histogram_of([seconds * 1000], ENDS_MS) == histogram


def test_times_that_no_bucket_fits() -> None:
    assert histogram_of([-5, 0.0001, 0]) == {0: 3}
    assert histogram_of([]) == {}
    assert quantile_s({0: 3}, 0.99) == 0.0001
    assert histogram_of([10**9, 10**10]) == {MOST_BUCKETS - 1: 2}
    last = quantile_s({MOST_BUCKETS - 1: 1}, 0.5)
    assert last is not None
    assert last > 60_000
    assert quantile_s({}, 0.5) is None
    assert quantile_s({3: 0}, 0.5) is None


def test_quantiles_of_many_values() -> None:
    rng = random.Random(7)
    values = sorted(rng.lognormvariate(-3, 1.5) for _ in range(10_000))
    histogram = histogram_of(list(values))
    for share in (0.01, 0.5, 0.95, 0.99):
        found = quantile_s(histogram, share)
        assert found == pytest.approx(values[int(share * 10_000) - 1], rel=0.1)
    assert quantile_s(histogram, 1) == pytest.approx(values[-1], rel=0.1)


def test_histograms_are_added() -> None:
    one = {3: 2, 5: 1}
    assert merged(one, {5: 4, 9: 1}) == {3: 2, 5: 5, 9: 1}
    assert one == {3: 2, 5: 1}
