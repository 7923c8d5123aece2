"""What one remembered id costs the server: `python -m benchmarks.known_ids`.

A finished id stays known for between one and two times `id_ttl`;
docs/explanation/decisions/0002 says why. Prints bytes an id, for each server that is there.
"""

from __future__ import annotations

import re

from asyncjobs.model.clock import new_id
from asyncjobs.testing.servers import available_servers, start_server

IDS = 200_000
STEP = 1_000


def measure(command: object) -> float:
    """Bytes that each of IDS fields costs in a hash like `known:0`."""
    assert callable(command)
    before = _used(command)
    for _ in range(IDS // STEP):
        fields: list[str] = []
        for _ in range(STEP):
            fields += (new_id(), "s")
        command("HSET", "known", *fields)
    return (_used(command) - before) / IDS


def _used(command: object) -> int:
    assert callable(command)
    found = re.search(rb"used_memory:(\d+)", command("INFO", "memory"))
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    for kind in available_servers():
        with start_server(kind) as server:
            print(f"{kind} {server.version}: {measure(server.command):.0f} B an id")
