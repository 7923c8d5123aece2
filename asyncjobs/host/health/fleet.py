"""The condition of a parent and its worker processes, as one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from asyncjobs.host.health.condition import Condition
from asyncjobs.host.pulse import Pulse
from asyncjobs.host.supervisor.child import Child

__all__ = ["FleetVitals"]


class Processes(Protocol):
    """What a Supervisor shows of itself. May be read from any thread."""

    @property
    def size(self) -> int: ...
    @property
    def is_stopping(self) -> bool: ...
    def children(self) -> Mapping[int, Child]: ...


class FleetVitals:
    """Looks at the processes of a parent, by the last report of each.

    Live while the parent's loop turns and at least one working process is not blocked. The parent
    replaces processes that die, and --hard-limit ends one that is blocked. A restart of the whole
    would stop the jobs of the others, too. Ready when the process of each number is ready.
    """

    def __init__(self, pulse: Pulse, processes: Processes, worker: str, live_s: float) -> None:
        self._pulse = pulse
        self._processes = processes
        self._worker = worker
        self._live_s = live_s
        self._were_ready: set[int] = set()

    def look(self) -> Condition:
        now_s = time.monotonic()
        children = self._processes.children()
        found = [
            self._look_at(number, children.get(number), now_s)
            for number in range(1, self._processes.size + 1)
        ]
        # Never taken back: a process that is replaced later does not undo the start of the whole.
        self._were_ready |= {number for number, child in children.items() if child.was_ready}
        live = self._live(found, now_s)
        ready = [*live, *(reason for one in found for reason in one["reasons"])]
        if self._processes.is_stopping:
            ready.insert(0, "the worker is stopping")
        missing = [one["number"] for one in found if one["number"] not in self._were_ready]
        return Condition(
            live=live,
            ready=tuple(ready),
            started=tuple(f"process {number} was not ready yet" for number in missing),
            stopping=self._processes.is_stopping,
            facts={"worker": self._worker, "processes": found},
        )

    def _live(self, found: list[dict[str, Any]], now_s: float) -> tuple[str, ...]:
        silent_s = now_s - self._pulse.mark_s
        if silent_s >= self._live_s:
            return (f"the parent's event loop is blocked, for {silent_s:.1f} s so far",)
        working = [one for one in found if one["live"] is not None]
        if working and not any(one["live"] for one in working):
            return ("no worker process is live",)
        return ()

    def _look_at(self, number: int, child: Child | None, now_s: float) -> dict[str, Any]:
        """The report about one process. `live` is None while it does not work."""
        name = f"process {number}"
        if child is None or not child.is_alive:
            return _entry(number, None, None, f"{name} is not there; a new one starts")
        report, reported_s = child.report
        if not child.was_ready:
            return _entry(number, child.pid, None, f"{name} is starting")
        if now_s - reported_s >= self._live_s:
            reason = f"{name} has said nothing for {now_s - reported_s:.1f} s"
            return _entry(number, child.pid, False, reason)
        reasons = [f"{name}: {reason}" for reason in report.get("ready", ())]
        # A report has the reasons against "live". Without any it is.
        return _entry(number, child.pid, not report.get("live"), *reasons)


def _entry(number: int, pid: int | None, live: bool | None, *reasons: str) -> dict[str, Any]:
    ready = not reasons
    return {"number": number, "pid": pid, "live": live, "ready": ready, "reasons": reasons}
