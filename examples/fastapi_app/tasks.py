"""The jobs: the web process enqueues them, a worker runs them."""

from __future__ import annotations

import asyncio
from typing import Final, TypedDict

from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, constant

# A request should not wait longer for a store that is away than its client would.
app = AsyncJobs(connect_timeout=2, result_ttl=3600)

ROW_S: Final = 0.1


class UnknownCustomer(Exception):
    """There is nobody to write the report for."""


class Report(TypedDict):
    """What the job returns; results are stored as JSON."""

    customer: str
    rows: int
    total: int


@app.job(queue="reports", timeout=120, retry=RetryPolicy(max_attempts=2, backoff=constant(0.1)))
async def make_report(customer: str, rows: int, *, ctx: JobContext = INJECTED) -> Report:
    """Add up the rows of a customer, saying how far it is."""
    if customer == "nobody":
        raise UnknownCustomer(f"there is no customer {customer!r}")
    total = 0
    for row in range(1, rows + 1):
        await asyncio.sleep(ROW_S)  # stands for a query
        total += row
        ctx.progress(row, rows, f"row {row}")
    return {"customer": customer, "rows": rows, "total": total}
