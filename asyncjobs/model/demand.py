"""How many jobs of a queue an exchange may take."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Demand"]


class Demand(NamedTuple):
    """How many jobs of one queue an exchange may hand out.

    It hands out up to `slots` jobs, the most urgent priority first. The first `guard` of them are
    an exception: they come from priority `guard_from` first, then from the least urgent upwards.
    Otherwise low priorities would never run under load.

    A job that was running when a worker died is a suspect. `suspects` is the room for suspects, by
    their number of crashes: the first entry is for one crash, the second for two and so on, and
    the last one for all above. The entries fall. The suspect with the most crashes decides how
    many are handed out together. Those with the fewest crashes come first.
    """

    slots: int
    guard: int = 0
    guard_from: int = 3
    suspects: tuple[int, ...] = ()
