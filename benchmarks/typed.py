"""What typed arguments cost: `python -m benchmarks.typed`.

Five arguments of one call, without a store: made into a job, and made into values again before the
call. The same five as plain JSON stand beside them. Prints microseconds, the best of five rounds.
"""

from __future__ import annotations

import timeit
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncjobs import AsyncJobs
from asyncjobs.model.envelope import Envelope

__all__ = ["main"]

CALLS: Final = 5_000
ROUNDS: Final = 5

app = AsyncJobs("memory:")


@dataclass
class Line:
    """One line of an order."""

    article: str
    price: Decimal


@app.job
async def typed(id: UUID, at: datetime, day: date, price: Decimal, line: Line) -> None:
    """Five arguments that are converted."""


@app.job
async def plain(id: str, at: str, day: str, price: int, line: str) -> None:
    """Five arguments that are checked."""


@app.job
async def untyped(id: Any, at: Any, day: Any, price: Any, line: Any) -> None:
    """Five arguments that are neither."""


def main() -> None:
    """Print a row for each kind of function."""
    at = datetime(2026, 3, 29, 3, tzinfo=ZoneInfo("Europe/Berlin"))
    values = (UUID(int=7), at, at.date(), Decimal("3.50"), Line("tea", Decimal("3.50")))
    texts = (str(values[0]), at.isoformat(), at.date().isoformat(), 350, "tea")
    print("| five arguments | made into a job, µs | read before the call, µs |")
    print("|---|---:|---:|")
    for name, function, args in (
        ("typed", typed, values),
        ("plain", plain, texts),
        ("without types", untyped, texts),
    ):
        job = function.new_job(args, {})
        call = Envelope.decode(job.envelope)
        enqueue_us = _best_us(function.new_job, args, {})
        run_us = 0.0
        if function.binding.is_typed:
            run_us = _best_us(function.binding.loaded, call.args, call.kwargs)
        if function.binding.is_typed and not function.binding.converts:
            run_us = _best_us(_look, function.binding.are_plain, call.args)
        print(f"| {name} | {enqueue_us:.1f} | {run_us:.1f} |")


def _look(are_plain: Any, args: list[Any]) -> bool:
    looked: bool = are_plain(tuple(map(type, args)))
    return looked


def _best_us(function: Any, *args: Any) -> float:
    rounds = timeit.repeat(lambda: function(*args), number=CALLS, repeat=ROUNDS)
    return min(rounds) / CALLS * 1e6


if __name__ == "__main__":
    main()
