"""systemd's notify protocol: datagrams of `NAME=value` lines to a socket that systemd names."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Final, Self

from asyncjobs.host.health.condition import Condition

__all__ = ["Systemd"]

SEND_S: Final = 1.0
"""How long systemd may take until it has room for a datagram."""
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Systemd:
    """Sends systemd READY once, STATUS when it changes, STOPPING once, and WATCHDOG while live.
    `watchdog_s`: how often systemd wants a WATCHDOG; None: never."""

    def __init__(self, address: str, watchdog_s: float | None) -> None:
        self.watchdog_s = watchdog_s
        # An address in the abstract namespace begins with a zero byte, which is written as @.
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SEND_S)
        self._status = ""
        self._has_started = False
        self._is_stopping = False

    @classmethod
    def take(cls, environment: MutableMapping[str, str], pid: int) -> Self | None:
        """What systemd has asked for, taken out of the environment: programs that a job starts must
        not speak for the worker. None without systemd, and for a socket of another machine."""
        address, usec, main_pid = (environment.pop(name, "") for name in _VARIABLES)
        if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            return None
        is_watched = usec.isdecimal() and int(usec) > 0 and main_pid in ("", str(pid))
        watchdog_s = None
        if is_watched:
            watchdog_s = int(usec) / 1e6
        return cls(address, watchdog_s)

    def tell(self, condition: Condition) -> None:
        lines: list[str] = []
        status = _status(condition)
        starts = not (condition.started or self._has_started)
        stops = condition.stopping and not self._is_stopping
        if starts:
            lines.append("READY=1")
        if stops:
            lines.append("STOPPING=1")
        if status != self._status:
            lines.append(f"STATUS={status}")
        if self.watchdog_s is not None and not condition.live:
            lines.append("WATCHDOG=1")
        if lines:
            self._send(lines)
        # Noted only after the send: what could not be sent is sent again.
        self._status = status
        self._has_started |= starts
        self._is_stopping |= stops

    def close(self) -> None:
        try:
            if not self._is_stopping:
                self._send(["STOPPING=1"])
        finally:
            self._socket.close()

    def _send(self, lines: list[str]) -> None:
        self._socket.sendto("\n".join(lines).encode(), self._address)


def _status(condition: Condition) -> str:
    if condition.stopping:
        return "stopping"
    if not condition.ready:
        return "taking jobs"
    # Without the seconds, or the status would change with each report.
    if condition.live:
        return "the event loop is blocked"
    return "; ".join(condition.ready)
