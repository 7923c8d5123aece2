"""What a plain loop and threads would take for the same files, to hold the worker against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks import count

SAMPLE: Final = 60
"""So many files, spread over all, are counted to estimate the rest by their size."""


@dataclass(frozen=True, slots=True)
class PlainLoop:
    """`seconds` for all files one after the other, and `threaded` in threads, by `counted` of
    them."""

    seconds: float
    threaded: float
    counted: int


def plain_loop(files: Sequence[Path], threads: int = 1) -> PlainLoop:
    """Count some of the files here, without a worker: one after the other, then in threads."""
    sample = files[:: max(len(files) // SAMPLE, 1)]
    size, whole = _bytes(sample), _bytes(files)
    factor = whole / size if size else 1.0
    began_s = time.perf_counter()
    for path in sample:
        _count(path)
    took_s = time.perf_counter() - began_s
    with ThreadPoolExecutor(threads) as pool:
        began_s = time.perf_counter()
        list(pool.map(_count, sample))
        threaded_s = time.perf_counter() - began_s
    return PlainLoop(took_s * factor, threaded_s * factor, len(sample))


def _count(path: Path) -> None:
    # Those that do not parse are in the worker's time, too.
    with suppress(SyntaxError, ValueError):
        count(path.read_bytes(), str(path))


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)
