"""Watches the event loop from a thread. Names the job that blocks it, and ends the process when a
job blocks it for too long.

A blocked loop keeps its lease, because another thread renews it. So nobody else would ever notice.
A call in C that holds the interpreter's lock stops all threads, the watchdog too: it is reported
when it is over.

Only code on the loop can block it. When other threads leave the loop no turn, that is logged
instead: no job is blamed or charged, and the process goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import ExitCode, exit_now
from asyncjobs.host.pulse import Pulse, Standstill
from asyncjobs.model import events
from asyncjobs.model.events import Events
from asyncjobs.worker.engine.running import Running
from asyncjobs.worker.lease.farewell import FAREWELL_S, say_farewell, within
from asyncjobs.worker.lease.session import Session
from asyncjobs.worker.watch.blame import Blocker, describe_threads, find_blocker
from asyncjobs.worker.watch.starving import Evidence, used_now

__all__ = ["Watchdog", "pulse_interval_s"]

logger = GuardedLog("asyncjobs.worker")

LOG_S: Final = 1.0
"""How long a line of the log may take. The log itself may be what blocks the loop."""
HELD_S: Final = 1.0
"""A look that is late by less than that proves nothing about the interpreter's lock."""
STARVED_AGAIN_S: Final = 60.0
"""The shortest time between two warnings that threads leave the loop no turn."""


def pulse_interval_s(*limits_s: float | None) -> float:
    """The interval of the pulse for these limits: short enough to notice in time."""
    return min([1.0, *(limit_s / 5 for limit_s in limits_s if limit_s is not None)])


class _Block:
    """What has been done about one block of the loop."""

    __slots__ = ("is_spared", "is_starved_told", "is_told")

    def __init__(self) -> None:
        self.is_told = False
        """Whether its warning was given."""
        self.is_starved_told = False
        """Whether it was said that threads leave the loop no turn."""
        self.is_spared = False
        """Whether the process was not ended because of a debugger."""


class Watchdog:
    """Owns the thread that watches one worker's loop. Changes things on the loop only by
    `call_soon_threadsafe`.

    warn_s: a block of this length is logged once, with job and stack; None: never.
    limit_s: after a block of this length the process ends. Only the job that blocks is charged
    with a crash. None: never.
    """

    def __init__(
        self,
        session: Session,
        running: Running,
        hub: Events,
        pulse: Pulse,
        *,
        warn_s: float | None,
        limit_s: float | None,
        end: Callable[[int], object] = exit_now,
    ) -> None:
        self._session = session
        self._running = running
        self._events = hub
        self._pulse = pulse
        self._warn_s = warn_s
        self._limit_s = limit_s
        self._end_process = end
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._native_id = threading.get_native_id()
        self._block = _Block()
        self._starved_told_s = float("-inf")

    def start(self) -> None:
        """Start the pulse and the thread. Does nothing if there is no limit to watch."""
        if self._warn_s is not None or self._limit_s is not None:
            self._pulse.start()
            self._thread = threading.Thread(
                target=self._watch, name="asyncjobs-watchdog", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """It does nothing from now on, and ends within a moment."""
        self._stop.set()
        self._pulse.stop()

    def _watch(self) -> None:
        pulse = self._pulse
        nap_s = pulse.interval_s
        still = Standstill(nap_s, time.monotonic(), pulse.mark_s)
        evidence = self._new_evidence()
        while not (self._stop.wait(nap_s) or self._loop.is_closed()):
            if not self._loop.is_running():
                # Its program has stopped the loop and may run it again. No job blocks it.
                still.excuse(time.monotonic(), pulse.mark_s)
                evidence = self._new_evidence()
                continue
            before_s = still.mark_s
            still_s = still.look(time.monotonic(), pulse.mark_s)
            has_turned = still.mark_s != before_s
            if has_turned:
                self._block = _Block()
            try:
                self._gather(evidence, has_turned=has_turned)
                self._judge(still.mark_s, still_s, evidence)
            except BaseException:
                # To read a stack is to ask the loaders of the user's modules for their source, and
                # these may raise anything.
                logger.exception("the watchdog failed to look at the event loop")

    def _new_evidence(self) -> Evidence:
        nap_s = self._pulse.interval_s
        return Evidence(nap_s, time.monotonic(), used_now(self._native_id))

    def _gather(self, evidence: Evidence, *, has_turned: bool) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        now_s = time.monotonic()
        evidence.look(now_s, used_now(self._native_id), frame, has_turned=has_turned)
        held_s = evidence.held_s
        if self._warn_s is None or held_s < max(self._warn_s, HELD_S) or self._block.is_told:
            return
        if evidence.is_held_by_loop:
            self._block.is_told = True
            self._say_held(self._look(), held_s)
        else:
            self._say_starved(now_s - held_s, held_s)

    def _judge(self, since_s: float, still_s: float, evidence: Evidence) -> None:
        limit_s = self._limit_s
        warn_s = self._warn_s
        if limit_s is not None and still_s >= limit_s and not self._block.is_spared:
            if not evidence.is_starved(limit_s):
                self._strike(since_s, still_s)
        elif warn_s is not None and still_s >= warn_s and not self._block.is_told:
            if not evidence.is_starved(warn_s):
                self._block.is_told = True
                self._warn(since_s, still_s)
            elif not self._block.is_starved_told:
                self._block.is_starved_told = True
                self._say_starved(since_s, still_s)

    def _look(self) -> Blocker:
        return find_blocker(self._loop_thread, self._loop, self._running)

    def _warn(self, since_s: float, still_s: float) -> None:
        blocker = self._look()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_free, blocker, since_s)
        within(
            LOG_S,
            lambda: logger.warning(
                "the event loop is blocked, for %.1f s so far, by %s: every other job waits; "
                "use asyncio's calls, or a def function, which runs in a thread; it is at:\n%s",
                still_s,
                blocker,
                blocker.stack,
                extra=blocker.label,
            ),
        )

    def _say_held(self, blocker: Blocker, held_s: float) -> None:
        """Code on the loop has kept all other threads from running, this one too."""
        since_s = time.monotonic() - held_s
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._on_free, blocker, since_s)
        within(
            LOG_S,
            lambda: logger.warning(
                "the event loop was blocked for %.1f s by %s, in a call that holds the "
                "interpreter's lock (GIL): every thread of the process waited; it is at:\n%s",
                held_s,
                blocker,
                blocker.stack,
                extra=blocker.label,
            ),
        )

    def _say_starved(self, since_s: float, still_s: float) -> None:
        """Warn, but not each time: under such a load it happens again and again."""
        now_s = time.monotonic()
        jobs, stack = describe_threads(self._running)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell_starved, since_s, stack)
        if now_s - self._starved_told_s < STARVED_AGAIN_S:
            return
        self._starved_told_s = now_s
        within(
            LOG_S,
            lambda: logger.warning(
                "the event loop gets no turn, for %.1f s so far: no job blocks it, other threads "
                "hold the interpreter's lock (GIL); sync jobs that have a thread: %s; use fewer "
                "--threads and more --processes; the busiest thread is at:\n%s",
                still_s,
                jobs,
                stack,
            ),
        )

    def _tell_starved(self, since_s: float, stack: str) -> None:
        """On the loop, as soon as it turns again."""
        if self._events.active and not self._stop.is_set():
            lease = self._session.spec
            blocked_s = time.monotonic() - since_s
            self._events.emit(
                events.LoopBlocked(
                    lease.worker, None, "", blocked_s, stack, tuple(lease.queues), is_starved=True
                )
            )

    def _on_free(self, blocker: Blocker, since_s: float) -> None:
        """On the loop, as soon as it turns again."""
        if self._stop.is_set():
            return
        blocked_s = time.monotonic() - since_s
        logger.info(
            "the event loop is free again after %.1f s; it was blocked by %s",
            blocked_s,
            blocker,
            extra=blocker.label,
        )
        if self._events.active:
            self._tell_blocked(blocker, blocked_s)

    def _tell_blocked(self, blocker: Blocker, blocked_s: float) -> None:
        lease = self._session.spec
        ref = None
        name = ""
        if blocker.context is not None:
            ref = blocker.context.ref
            name = blocker.context.name
        info = None
        if blocker.attempt is not None:
            info = blocker.attempt.info
        self._events.emit(
            events.LoopBlocked(
                lease.worker, ref, name, blocked_s, blocker.stack, tuple(lease.queues), info=info
            )
        )

    # -- the hard limit ------------------------------------------------------------------

    def _strike(self, since_s: float, still_s: float) -> None:
        blocker = self._look()
        if blocker.is_debugged:
            self._block.is_spared = True
            text = "the event loop is blocked for longer than hard_limit=%g s by %s, but a "
            text += "debugger is at work: the process goes on"
            within(LOG_S, lambda: logger.warning(text, self._limit_s, blocker))
            return
        if since_s != self._pulse.mark_s or self._stop.is_set():
            # The loop has turned since the look, so there is nothing to end.
            return
        within(
            LOG_S,
            lambda: logger.critical(
                "the event loop is blocked, for %.1f s, longer than hard_limit=%g s, by %s: the "
                "process ends with code %d, and what blocks it is charged with a crash; it is "
                "at:\n%s",
                still_s,
                self._limit_s,
                blocker,
                ExitCode.BLOCKED,
                blocker.stack,
                extra=blocker.label,
            ),
        )
        if since_s != self._pulse.mark_s or self._stop.is_set():
            # The loop was freed while the line was written. A job that it takes now must not be
            # charged.
            logger.warning("the event loop is free again at the last moment: the process goes on")
            return
        charged = []
        if blocker.attempt is not None:
            charged += self._running.blamed_with(blocker.attempt)
        within(FAREWELL_S + LOG_S, lambda: say_farewell(self._session, charged))
        self._end_process(ExitCode.BLOCKED)
