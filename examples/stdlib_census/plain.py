"""What a plain loop over the same files would take, to hold the worker against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks import count

SAMPLE: Final = 60
"""So many files, spread over all, are counted to estimate the rest by their size."""


@dataclass(frozen=True, slots=True)
class PlainLoop:
    """`seconds` for all files, by `counted` of them."""

    seconds: float
    counted: int


def plain_loop(files: Sequence[Path]) -> PlainLoop:
    """Count some of the files here, one after the other, without a worker."""
    sample = files[:: max(len(files) // SAMPLE, 1)]
    began_s = time.perf_counter()
    for path in sample:
        # Those that do not parse are in the worker's time, too.
        with suppress(SyntaxError, ValueError):
            count(path.read_bytes(), str(path))
    took_s = time.perf_counter() - began_s
    size, whole = _bytes(sample), _bytes(files)
    return PlainLoop(took_s * whole / size if size else took_s, len(sample))


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)
