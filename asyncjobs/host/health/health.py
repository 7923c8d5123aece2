"""Starts and stops the reports of a process's health that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import in_own_thread
from asyncjobs.host.health import condition, reporter
from asyncjobs.host.health.condition import Condition, Look
from asyncjobs.host.health.file import HealthFile
from asyncjobs.host.health.reporter import Reporter, Teller
from asyncjobs.host.health.server import Answer, ProbeServer, bind
from asyncjobs.host.health.systemd import Systemd
from asyncjobs.host.pulse import Pulse

__all__ = ["Health", "HealthOptions"]

logger = GuardedLog("asyncjobs.worker")

PULSES_A_LIMIT: Final = 5
"""How often the loop marks its pulse within the limit for a live loop."""


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """Which reports to start; none by default."""

    port: int | None = None
    host: str = "127.0.0.1"
    file: Path | None = None


class Health:
    """Owns the threads and the timer. Made on the event loop; use `async with`, once.

    new_look: makes the look from a pulse of this loop and the limit for it.
    others: more ways to report, beside those of the options.
    """

    def __init__(
        self,
        options: HealthOptions,
        new_look: Callable[[Pulse, float], Look],
        *,
        systemd: Systemd | None = None,
        others: Sequence[Teller] = (),
    ) -> None:
        self._options = options
        self._look_by = new_look
        self._systemd = systemd
        self._others = others
        self._pulse: Pulse | None = None
        self._reporter: Reporter | None = None
        self._server: ProbeServer | None = None

    async def __aenter__(self) -> Self:
        """Raises ConfigError, or AsyncJobsError if the port is in use. Then nothing was started."""
        options = self._options
        tellers: list[Teller] = list(self._others)
        if self._systemd:
            tellers.append(self._systemd)
        # Nobody asks: no thread, no timer and no pulse for a health that nobody sees.
        if options.port is None and options.file is None and not tellers:
            return self
        live_s = condition.LIVE_S
        pulse = Pulse(live_s / PULSES_A_LIMIT)
        look = self._look_by(pulse, live_s)
        listener = None
        if options.port is not None:
            listen = partial(bind, options.host, options.port, flag="--health-port")
            listener = await in_own_thread(listen)
        try:
            if options.file is not None:
                tellers.append(await in_own_thread(HealthFile, options.file))
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        # Only now: whatever fails above has started nothing that would have to be stopped.
        self._pulse = pulse
        pulse.start()
        if listener is not None:
            server = self._server = ProbeServer(listener, _routes(look))
            server.start()
            host = options.host
            if ":" in host:
                # An IPv6 address has colons of its own, so a URL has brackets around it.
                host = f"[{host}]"
            logger.info("health is served at http://%s:%d/livez", host, server.port)
        if tellers:
            self._reporter = Reporter(look, tellers, self._interval_s())
            self._reporter.start()
        return self

    def _interval_s(self) -> float:
        if self._systemd is None or self._systemd.watchdog_s is None:
            return reporter.REPORT_S
        # Half of systemd's limit, as its manual advises: one late report must not end the service.
        return min(reporter.REPORT_S, self._systemd.watchdog_s / 2)

    def wake(self) -> None:
        """Report a change now, and not with the next report."""
        if self._reporter is not None:
            self._reporter.wake()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        for part in (self._server, self._reporter):
            if part is not None:
                # Each waits for its thread to end, which must not hold up the loop.
                await in_own_thread(part.stop)


def _routes(look: Look) -> dict[str, Callable[[], Answer]]:
    return {
        "/livez": lambda: _answer(seen := look(), seen.live),
        "/readyz": lambda: _answer(seen := look(), seen.ready),
        "/startupz": lambda: _answer(seen := look(), seen.started),
    }


def _answer(seen: Condition, reasons: tuple[str, ...]) -> Answer:
    status = HTTPStatus.OK
    if reasons:
        status = HTTPStatus.SERVICE_UNAVAILABLE
    body = orjson.dumps({"ok": not reasons, "reasons": reasons, **seen.facts})
    return Answer(status, body + b"\n", "application/json")
