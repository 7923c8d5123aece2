"""Job functions of the tests of flows, and how they are run."""

from __future__ import annotations

from typing import Any

from asyncjobs import AsyncJobs, Discard
from tests.worker import jobs
from tests.worker.kit import register

ran: list[Any] = []
"""What the jobs of a test have been called with, in their order."""
broken: set[Any] = set()
"""With these values `fragile` fails."""


async def number(n: int) -> int:
    ran.append(("number", n))
    return n


async def double(n: int) -> int:
    ran.append(("double", n))
    return 2 * n


async def add(a: int, b: int = 1) -> int:
    ran.append(("add", a, b))
    return a + b


async def total(found: list[int]) -> int:
    ran.append(("total", len(found)))
    return sum(found)


async def seen(value: Any) -> Any:
    ran.append(("seen", value))
    return value


async def fragile(n: int) -> int:
    ran.append(("fragile", n))
    if n in broken:
        raise ValueError(f"{n} is broken")
    return n


async def gives_up(n: int) -> int:
    raise Discard("not wanted")


async def nothing() -> None:
    ran.append(("nothing",))


async def waits(gate: str) -> str:
    ran.append(("waits", gate))
    await jobs.stage.gate(gate).wait()
    return gate


def in_thread(n: int, deep: dict[str, Any]) -> int:
    ran.append(("in_thread", n, deep))
    return n


class FlowJobs:
    """These functions as job functions of one app."""

    def __init__(self, app: AsyncJobs) -> None:
        ran.clear()
        broken.clear()
        self.number = register(app, number)
        self.double = register(app, double)
        self.add = register(app, add)
        self.total = register(app, total)
        self.seen = register(app, seen)
        self.fragile = register(app, fragile, retry=False)
        self.gives_up = register(app, gives_up)
        self.nothing = register(app, nothing)
        self.in_thread = register(app, in_thread)
        self.waits = register(app, waits)


def calls(name: str) -> list[Any]:
    """What the job function of this name was called with, without its name."""
    return [each[1:] for each in ran if each[0] == name]
