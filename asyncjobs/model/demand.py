"""How many jobs of a queue an exchange may take."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Demand"]


class Demand(NamedTuple):
    """How much one queue may hand out in an exchange.

    Up to `slots` jobs, most urgent priority first, except that the first `guard` of them
    come from priority `guard_from`, then from the least urgent upwards: that keeps the
    others moving under load.

    A job that was running when a worker died is a suspect. `suspects` is the room for them,
    by the crashes they have been through: a number for one crash, for two and so on, the
    last one for all above; it falls. No more of them are handed out together than the one
    with the most crashes has room for. Those with the fewest come first.
    """

    slots: int
    guard: int = 0
    guard_from: int = 3
    suspects: tuple[int, ...] = ()
