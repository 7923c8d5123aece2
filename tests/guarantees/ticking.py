"""The program of workers with 200 schedules, on machines whose clocks are wrong.

asyncjobs worker --factory tests.guarantees.ticking:make
"""

from __future__ import annotations

import os
import time

from asyncjobs import INJECTED, AsyncJobs, JobContext
from asyncjobs.events import CronEnqueued

SCHEDULES = 200


async def tick(*, ctx: JobContext = INJECTED) -> None:
    """Writes down that it ran."""
    write("ran", ctx.id)


def write(word: str, id: str) -> None:
    """One line in the ledger; written by one call, so that none is torn."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{word} {id}\n".encode())
    finally:
        os.close(ledger)


def set_clock(ahead_s: float) -> None:
    """Let the wall clock of this process be wrong by so much."""
    now_ns = time.time_ns
    time.time_ns = lambda: now_ns() + round(ahead_s * 1e9)
    time.time = lambda: time.time_ns() / 1e9


def make(url: str | None = None, prefix: str = "") -> AsyncJobs:
    """An app with all schedules; each fires every 3 to 7 seconds."""
    if "CLOCK_AHEAD_S" in os.environ:
        set_clock(float(os.environ["CLOCK_AHEAD_S"]))
    app = AsyncJobs(url, prefix=prefix or os.environ["PREFIX"])
    app.on(CronEnqueued, lambda event: write("enqueued", event.ref.id))
    job = app.job(tick, name="tick")
    for number in range(SCHEDULES):
        app.every(3 + number % 5, id=f"s{number}", catch_up="all")(job)
    return app
