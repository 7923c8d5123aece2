"""Limits that both type checkers let pass."""

from __future__ import annotations

from asyncjobs import AsyncJobs, Concurrency, Fair, RateLimit

app = AsyncJobs()

partner = Concurrency(50, name="partner", strategy="cancel_new")


@app.job(limits=Concurrency(5, by="tenant"))
async def one(tenant: str) -> None: ...


@app.job(
    limits=[
        Concurrency(lambda tenant, amount: 5, by=("tenant", "amount")),
        RateLimit("100/minute", burst=20, by=lambda tenant, amount: tenant, weight=2),
        RateLimit(lambda tenant, amount: "5/s", weight=lambda tenant, amount: 1, name="own"),
        Fair(by="tenant", weight=lambda tenant, amount: 3),
        partner,
    ]
)
async def many(tenant: str, amount: int) -> None: ...


@app.job(limits=(partner, Fair("tenant")))
def sync(tenant: str) -> None: ...
