"""What processes report to their parent, and what the parent makes of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from asyncjobs.host.health.fleet import FleetVitals
from asyncjobs.host.pulse import Pulse
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.link import VARIABLE, ParentLink, link_text

REPORTING = """
import os
from asyncjobs.host.supervisor.link import ParentLink
link = ParentLink.take()
link.report({"lost": True})
link.say_ready({"banner": 1})
link.report({"live": [], "ready": ["away"]})
os.read(link._life, 1)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(autouse=True)
def _no_blocking_on_the_loop() -> None:
    """Not here: a parent starts programs from its loop on purpose."""


@pytest.mark.anyio
async def test_reports_come_after_ready(pipe: tuple[int, int]) -> None:
    child = Child([sys.executable, "-c", REPORTING], 1, pipe[0], reports=True)
    with anyio.fail_after(20):
        assert await child.ready == {"banner": 1}
        while not child.report[0]:
            await anyio.sleep(0.01)
        assert child.report[0] == {"live": [], "ready": ["away"]}
        child.kill()
        await child.ended


def test_a_parent_that_does_not_read_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    parents_end, ready = os.pipe()
    life = os.dup(pipe[0])
    monkeypatch.setenv(VARIABLE, link_text(1, ready, life, reports=True))
    link = ParentLink.take()
    assert link is not None
    link.say_ready({})
    for _ in range(10_000):
        link.report({"ready": ["x" * 100]})
    os.close(parents_end)
    link.report({"ready": []})  # nor does one that is gone
    os.close(ready)
    os.close(life)


def child(*, ready: bool = True, alive: bool = True, age_s: float = 0.0, says: Any = None) -> Child:
    fake = SimpleNamespace(
        pid=1, is_alive=alive, was_ready=ready, report=(says or {}, time.monotonic() - age_s)
    )
    return cast("Child", fake)


class Processes:
    """What a Supervisor would show."""

    size = 2

    def __init__(self, *children: Child, is_stopping: bool = False) -> None:
        self.is_stopping = is_stopping
        self._children = dict(enumerate(children, 1))

    def children(self) -> dict[int, Child]:
        return self._children


def fleet(*children: Child, is_stopping: bool = False) -> FleetVitals:
    return FleetVitals(Pulse(1.0), Processes(*children, is_stopping=is_stopping), "all", 10.0)


@pytest.mark.anyio
async def test_all_well() -> None:
    seen = fleet(child(), child()).look()
    assert (seen.live, seen.ready, seen.started, seen.stopping) == ((), (), (), False)


@pytest.mark.anyio
async def test_before_any_is_there_the_whole_is_live() -> None:
    seen = fleet(child(ready=False)).look()
    assert seen.live == ()
    assert seen.ready == ("process 1 is starting", "process 2 is not there; a new one starts")
    assert len(seen.started) == 2


@pytest.mark.anyio
async def test_one_blocked_is_not_the_whole_but_all_are() -> None:
    blocked = {"live": ["blocked"], "ready": ["blocked"]}
    seen = fleet(child(says=blocked), child()).look()
    assert (seen.live, seen.ready) == ((), ("process 1: blocked",))
    assert fleet(child(says=blocked), child(age_s=11)).look().live == ("no worker process is live",)
    assert fleet(child(says=blocked), child(alive=False)).look().live == (
        "no worker process is live",
    )


@pytest.mark.anyio
async def test_what_was_ready_once_has_started() -> None:
    processes = Processes(child(), child())
    whole = FleetVitals(Pulse(1.0), processes, "all", 10.0)
    assert whole.look().started == ()
    processes.children()[2] = child(ready=False)
    assert (whole.look().started, len(whole.look().ready)) == ((), 1)


@pytest.mark.anyio
async def test_the_parents_own_loop_counts() -> None:
    pulse = Pulse(1.0)
    whole = FleetVitals(pulse, Processes(child(), child()), "all", 10.0)
    pulse.mark_s -= 11
    assert "the parent's event loop is blocked" in whole.look().live[0]


@pytest.mark.anyio
async def test_a_stop_is_said_first() -> None:
    seen = fleet(child(), child(), is_stopping=True).look()
    assert (seen.stopping, seen.ready, seen.live) == (True, ("the worker is stopping",), ())
