"""Sells one thing: a span of the shop's own, and a job within it."""

from __future__ import annotations

import asyncio

from tasks import app, charge, tracer


async def main() -> None:
    async with app:
        with tracer.start_as_current_span("checkout"):
            await charge.enqueue(42)


if __name__ == "__main__":
    asyncio.run(main())
