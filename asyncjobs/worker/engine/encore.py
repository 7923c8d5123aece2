"""The end of a burst that may not be the last one: a test moves its clock and goes on."""

from __future__ import annotations

from asyncjobs.worker.engine.intake import Intake

__all__ = ["goes_on"]


async def goes_on(intake: Intake) -> bool:
    """Whether a worker that has come to its end looks once more; see `Burst.encore`."""
    appetite = intake.appetite
    encore = appetite.burst.encore
    if encore is None or appetite.burst.is_reached(intake.holdings.taken):
        return False
    if not await encore():
        return False
    # A stop may have come meanwhile, and it stays.
    if appetite.burst.encore is None:
        return False
    appetite.begin_again()
    return True
