"""What a lone enqueue is made of: `python -m benchmarks.parts`.

Trips of one connection, one after the other, and what the server says of its commands:
microseconds of a PING, of the floor's script, and of an enqueue; then for the enqueue the
time of its script, of the commands that it calls, and how many these are.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from asyncjobs import AsyncJobs
from asyncjobs.testing.servers import Server, start_server
from benchmarks import _rounds, fleet, floor

TRIPS: Final = 3_000
ROUNDS: Final = 5


async def _trip_us(trip: Callable[[int], Awaitable[object]]) -> float:
    """The best of some rounds: the rest is what else the machine did."""
    best = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for number in range(TRIPS):
            await trip(number)
        best = min(best, time.perf_counter() - started_s)
    return best / TRIPS * 1e6


def _commandstats(server: Server) -> dict[str, tuple[int, int]]:
    """Calls and microseconds of each command."""
    text = server.command("INFO", "commandstats")
    found = {}
    for line in (text.decode() if isinstance(text, bytes) else str(text)).splitlines():
        name, _, values = line.partition(":")
        if name.startswith("cmdstat_"):
            fields = dict(part.split("=") for part in values.split(","))
            found[name.removeprefix("cmdstat_")] = int(fields["calls"]), int(fields["usec"])
    return found


async def measure(server: Server) -> None:
    """Print two small tables."""
    link = floor.Link(server.url)
    digest = await link.load(floor.ENQUEUE)
    app = AsyncJobs(server.url)
    job = app.job(queue="bench", name="noop")(fleet.noop.function)
    async with app:
        await job.enqueue(0, "x")
        trips = {
            "PING, by the driver's stream": await _trip_us(lambda _: link.call(b"PING")),
            "the floor's script": await _trip_us(
                lambda n: link.call(b"EVALSHA", digest, 1, floor.STREAM, floor.filler(n))
            ),
            "an enqueue": await _trip_us(lambda n: job.enqueue(n, floor.filler(n))),
        }
        server.command("CONFIG", "RESETSTAT")
        for number in range(TRIPS):
            await job.enqueue(number, floor.filler(number))
    await link.close()
    print("| trip | µs |\n|---|---:|")
    for name, cost in trips.items():
        print(f"| {name} | {cost:.0f} |")
    print("\n| command of an enqueue | calls | µs |\n|---|---:|---:|")
    for name, (calls, cost) in sorted(_commandstats(server).items(), key=lambda item: -item[1][1]):
        if calls >= TRIPS // 2:
            print(f"| {name} | {calls / TRIPS:.1f} | {cost / TRIPS:.1f} |")


def main() -> None:
    """Start a server, measure, and say on what."""
    with start_server("valkey") as server:
        floor.run_on_fastest_loop(_timed(server))
        print(f"\n- {_rounds.machine()}\n- valkey {server.version}, no persistence")


async def _timed(server: Server) -> float:
    await measure(server)
    return 0.0


if __name__ == "__main__":
    main()
