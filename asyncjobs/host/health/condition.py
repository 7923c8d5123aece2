"""The condition of a worker process: live, ready, started; or the reasons why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from asyncjobs.host.pulse import Pulse

__all__ = ["LIVE_S", "Condition", "Look", "Vitals"]

LIVE_S: Final = 10.0
"""A loop that has not turned for this long is not live."""


@dataclass(frozen=True, slots=True)
class Condition:
    """For each question the reasons for a no. Without a reason the answer is yes.

    live: is the process worth keeping? ready: does it take jobs? started: was it ready once?
    stopping: it was told to end, and will. facts: what else a reader may want to know.
    """

    live: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    stopping: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


Look = Callable[[], Condition]
"""Called from any thread. Must neither block nor ask the store."""


class Vitals:
    """Looks at the worker of this process. Changed on its loop, read from any thread.

    unready: why the worker takes no jobs, None when it does.
    is_stopping: whether it was told to end.
    """

    def __init__(
        self,
        pulse: Pulse,
        worker: str,
        unready: Callable[[], str | None],
        is_stopping: Callable[[], bool],
        live_s: float,
    ) -> None:
        self._pulse = pulse
        self._worker = worker
        self._unready = unready
        self._is_stopping = is_stopping
        self._live_s = live_s
        self.has_started = False

    def look(self) -> Condition:
        """The condition now."""
        silent_s = time.monotonic() - self._pulse.mark_s
        live: tuple[str, ...] = ()
        if silent_s >= self._live_s:
            live = (f"the event loop is blocked, for {silent_s:.1f} s so far",)
        # A worker whose loop is blocked takes no jobs, even with a valid lease.
        ready = live
        if (reason := self._unready()) is not None:
            ready = (*live, reason)
        started: tuple[str, ...] = ()
        if not self.has_started:
            started = ("the worker has not registered yet",)
        return Condition(
            live=live,
            ready=ready,
            started=started,
            stopping=self._is_stopping(),
            facts={"worker": self._worker},
        )
