"""The jobs of a sales report: one for each shop, one that merges, one that writes."""

from __future__ import annotations

from dataclasses import dataclass

from asyncjobs import INJECTED, AsyncJobs, JobContext, group

# ASYNCJOBS_URL says where jobs are kept; __main__.py takes a store in memory without it.
app = AsyncJobs()

SALES = {"north": [3, 5, 8], "south": [1, 1], "east": [13]}


@dataclass
class Total:
    """What one shop has sold."""

    shop: str
    items: int


@app.job
async def count(shop: str) -> Total:
    """Count the sales of a shop."""
    return Total(shop, sum(SALES[shop]))


@app.job(retry=False)
async def rank(totals: list[Total]) -> list[str]:
    """The shops, the best one first."""
    return [total.shop for total in sorted(totals, key=lambda each: -each.items)]


@app.job
async def write(ranking: list[str], title: str) -> str:
    """The report as text."""
    return f"{title}: {', '.join(ranking)}"


@app.job
async def greet(shop: str) -> None:
    """Send a shop its thanks."""


@app.job
async def thank(ranking: list[str], *, ctx: JobContext = INJECTED) -> int:
    """Thank each shop of the ranking, by nodes that are added while the flow runs."""
    assert ctx.flow is not None
    await ctx.flow.expand(group(greet.bind(shop) for shop in ranking))
    return len(ranking)
