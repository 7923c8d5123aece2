"""Probes of a worker process, and a socket that listens as systemd does."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cli.process import Process
from tests.kit.environment import LIMIT_S, ROOT
from tests.kit.waiting import ticks

QUICK = """
from asyncjobs.host.health import condition, reporter
condition.LIVE_S = 1.0
reporter.REPORT_S = 0.1
"""
"""Put into sitecustomize.py: the limits, short enough for a test."""


HELD_JOBS = """


@app.job
async def block_until(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)  # the point of this job: a mistake that blocks the loop


@app.job
async def wait_for_file(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)
"""
"""Jobs of `tasks.py` that last until the test says otherwise, by a file."""


def quick(folder: Path) -> dict[str, str]:
    """The environment of a worker with short limits."""
    (folder / "sitecustomize.py").write_text(QUICK)
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


def wait_port(process: Process) -> int:
    """The port that the log names."""
    match = None
    for _ in ticks():
        if match := re.search(r"health is served at http://\S+?:(\d+)/livez\b", process.text):
            return int(match[1])
    raise AssertionError(process.text)


def probe(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def wait_probe(
    port: int, path: str, status: int, holds: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """The body, when the answer is such."""
    seen: Any = None
    for _ in ticks():
        seen = probe(port, path)
        if seen[0] == status and holds(seen[1]):
            body: dict[str, Any] = seen[1]
            return body
    raise AssertionError(seen)


class Listener:
    """Owns a datagram socket. What comes is read by the test, so nothing gets lost."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(LIMIT_S)
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def wait_for(self, line: str) -> None:
        """Until this line has come."""
        while line not in self.lines:
            self.lines += self._socket.recv(65536).decode().split("\n")

    def wait_next(self, line: str) -> None:
        """Until this line comes once more."""
        found: list[str] = []
        while line not in found:
            found = self._socket.recv(65536).decode().split("\n")
            self.lines += found
