"""What the server says of itself, asked beside the connections that are measured."""

from __future__ import annotations

from typing import Any, cast

import redis

from asyncjobs import AsyncJobs

__all__ = ["Asking"]


class Asking:
    """A connection of its own to the server under measurement, and its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = redis.Redis.from_url(url, protocol=2)

    def number(self, section: str, field: str) -> float:
        """One figure of INFO."""
        return float(self._info(section)[field])

    def cpu_s(self) -> float:
        """CPU time that the server has used, its own and the kernel's for it."""
        fields = self._info("cpu")
        return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])

    def client_commands(self) -> int:
        """Commands that clients have sent. Those which scripts call are not counted: in
        `total_commands_processed` they are, so sum what only a client can have sent. Left out is
        what both send: a worker's SMEMBERS, every 20 to 40 s."""
        stats = self._info("commandstats")
        sent = (
            "evalsha",
            "eval",
            "blpop",
            "subscribe",
            "unsubscribe",
            "ping",
            "script|load",
            "hello",
        )
        return sum(
            int(stats[f"cmdstat_{name}"]["calls"]) for name in sent if f"cmdstat_{name}" in stats
        )

    def flush(self) -> None:
        """Empty the server, and wait for it: what it frees in the background would be counted
        to whatever is measured next."""
        self._client.execute_command("FLUSHALL", "SYNC")

    async def unfinished(self, app: AsyncJobs, queue: str) -> int:
        """Jobs that are ready or running."""
        (counts,) = await app.backend.inspect.queues.counts([queue])
        return sum(counts.ready) + counts.running

    def _info(self, section: str) -> dict[str, Any]:
        return cast(dict[str, Any], self._client.info(section))
