"""The program of workers that are killed while they run jobs with steps.

    asyncjobs worker --factory tests.guarantees.stepping:make

A job writes into the ledger before each piece, and after the store has confirmed it.
"""

from __future__ import annotations

import asyncio
import os

from asyncjobs import INJECTED, AsyncJobs, JobContext

PIECE_S = 0.01
PIECES = 10
"""Of each step with a cursor."""


def write(word: str, ctx: JobContext, step: str, piece: int = 0) -> None:
    """One line in the ledger; written by one call, so that none is torn."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{word} {ctx.id} {step} {piece}\n".encode())
    finally:
        os.close(ledger)


async def stepwise(rounds: int, *, ctx: JobContext = INJECTED) -> int:
    """In each round a call, a block with a cursor, and one more block."""
    total = 0
    for number in range(rounds):
        total += await ctx.step(f"call-{number}", called, ctx, number)
        write("confirmed", ctx, f"call-{number}")
        async for step in ctx.step(f"loop-{number}", start=0):
            for piece in range(step.cursor, PIECES):
                write("began", ctx, step.name, piece)
                await asyncio.sleep(PIECE_S)
                await step.checkpoint(piece + 1)
                write("checkpoint", ctx, step.name, piece + 1)
        write("confirmed", ctx, f"loop-{number}")
        async for step in ctx.step(f"block-{number}"):
            write("began", ctx, step.name)
            await asyncio.sleep(PIECE_S)
        write("confirmed", ctx, f"block-{number}")
    return total


async def called(ctx: JobContext, number: int) -> int:
    write("began", ctx, f"call-{number}")
    await asyncio.sleep(PIECE_S)
    return number


def make(url: str | None = None, prefix: str = "") -> AsyncJobs:
    # Twenty kills are the test, and no fault of the jobs.
    app = AsyncJobs(url, prefix=prefix or os.environ["PREFIX"], max_crashes=1_000)
    app.job(stepwise, name="stepwise", retry=False)
    return app
