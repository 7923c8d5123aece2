"""How long things took, in buckets. Histograms of all workers have the same ones, so they can be
added.

A bucket ends 19 % above the one before it, from 0.1 ms to more than a day. So a quantile is known
to within 10 % of itself. Only buckets with something in them are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

__all__ = ["ENDS_MS", "ENDS_S", "MOST_BUCKETS", "Histogram", "histogram_of", "merged", "quantile_s"]

Histogram: TypeAlias = Mapping[int, int]
"""How many values lie in each bucket."""

SHORTEST_S: Final = 0.0001
STEP: Final = 2**0.25
MOST_BUCKETS: Final = 124

ENDS_S: Final = tuple(SHORTEST_S * STEP**place for place in range(MOST_BUCKETS - 1))
"""The last value of each bucket. What is longer lies in the last one, which has no end."""
ENDS_MS: Final = tuple(1000 * end_s for end_s in ENDS_S)
"""The same in milliseconds."""


def histogram_of(values: list[float], ends: Sequence[float] = ENDS_S) -> dict[int, int]:
    """The histogram of these times. Sorts them. `ends`: ENDS_S for seconds, ENDS_MS for
    milliseconds.

    A list of numbers is sorted faster than the bucket of each is looked for.
    """
    values.sort()
    found: dict[int, int] = {}
    begin = 0
    while begin < len(values):
        bucket = bisect_left(ends, values[begin])
        end = len(values)
        if bucket < MOST_BUCKETS - 1:
            end = bisect_right(values, ends[bucket], begin)
        found[bucket] = end - begin
        begin = end
    return found


def merged(one: Histogram, other: Histogram) -> Histogram:
    """The two together."""
    both = dict(one)
    for bucket, number in other.items():
        both[bucket] = both.get(bucket, 0) + number
    return both


def quantile_s(histogram: Histogram, share: float) -> float | None:
    """The time that `share` of the values do not exceed, in seconds; None without any.

    It is the middle of a bucket, so it may be wrong by 10 % of itself. What takes less than 0.1 ms
    is told as that.
    """
    buckets = sorted(histogram)
    passed = [*accumulate(histogram[bucket] for bucket in buckets)]
    if not passed or passed[-1] <= 0:
        return None
    # Rounding may put the share behind the last value.
    bucket = buckets[min(bisect_left(passed, share * passed[-1]), len(buckets) - 1)]
    # The first one begins at zero, so it has no middle that would be near to all in it.
    if bucket == 0:
        return SHORTEST_S
    return float(ENDS_S[min(bucket, MOST_BUCKETS - 2)] / STEP**0.5)
