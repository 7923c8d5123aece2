"""Jobs with steps whose workers are killed at random points: what the store has confirmed is not
done again."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from asyncjobs.model.clock import new_id
from asyncjobs.testing.servers import Server
from tests.cli.process import Process
from tests.guarantees import stepping
from tests.guarantees.kit import LIMIT_S, until

pytestmark = pytest.mark.anyio

RUN_S = 0.3
"""The longest time from the first piece of a worker to its kill."""


class Victims:
    """Workers that run the jobs one after the other, and the ledger of all of them."""

    def __init__(self, server: Server, folder: Path, stack: ExitStack, prefix: str) -> None:
        self._server = server
        self._folder = folder
        self._stack = stack
        self._prefix = prefix
        self._ledger = folder / "ledger"
        self.chance = Random(prefix)
        self._started = 0

    def start(self) -> Process:
        self._started += 1
        return self._stack.enter_context(
            Process(
                self._folder,
                *("worker", "--factory", "tests.guarantees.stepping:make", "--lease", "1s"),
                *("--name", f"w{self._started}", "--queues", "default"),
                env={
                    "ASYNCJOBS_URL": self._server.url,
                    "PREFIX": self._prefix,
                    "LEDGER": str(self._ledger),
                },
            )
        )

    def lines(self) -> list[tuple[str, str, str, int]]:
        """What was written: the word, the job, the step, the piece."""
        if not self._ledger.exists():
            return []
        split = (line.split() for line in self._ledger.read_text().splitlines())
        return [(word, job, step, int(piece)) for word, job, step, piece in split]


def check(lines: list[tuple[str, str, str, int]]) -> int:
    """No step begins again once it is confirmed, and no piece before the last checkpoint. Returns
    how often a piece was begun again, which a kill in its midst allows."""
    confirmed: set[tuple[str, str]] = set()
    cursors: dict[tuple[str, str], int] = {}
    begun: set[tuple[str, str, int]] = set()
    again = 0
    for word, job, step, piece in lines:
        if word == "confirmed":
            confirmed.add((job, step))
        elif word == "checkpoint":
            cursors[job, step] = piece
        else:
            assert (job, step) not in confirmed, f"{step} of {job} ran again"
            assert piece >= cursors.get((job, step), 0), f"{step} of {job} went back to {piece}"
            again += (job, step, piece) in begun
            begun.add((job, step, piece))
    return again


async def run(server: Server, folder: Path, *, jobs: int, kills: int, rounds: int) -> None:
    prefix = f"test-{new_id()}"
    app = stepping.make(server.url, prefix)
    job = app.registry.find("stepwise")
    assert job is not None
    with ExitStack() as stack:
        victims = Victims(server, folder, stack, prefix)
        async with app:
            handles = [await job.enqueue(rounds) for _ in range(jobs)]
            # The next one waits beside it, so that a kill costs no start of a program.
            present, following = victims.start(), victims.start()
            for _ in range(kills):
                known = len(victims.lines())
                await until(lambda known=known: len(victims.lines()) > known)  # type: ignore[misc]
                await asyncio.sleep(RUN_S * victims.chance.random())
                present.process.kill()
                present, following = following, victims.start()
            found = [await handle.result(LIMIT_S) for handle in handles]
        lines = victims.lines()
        assert found == [sum(range(rounds))] * jobs, prefix
        again = check(lines)
        # Or nothing was killed at all.
        assert again > 0, prefix
        for handle in handles:
            done = {step for word, id, step, _ in lines if (word, id) == ("confirmed", handle.id)}
            assert len(done) == 3 * rounds
    if ours := [key for key in server.command("KEYS", "*") if prefix.encode() in key]:
        server.command("DEL", *ours)


async def test_a_few_kills(server: Server, tmp_path: Path) -> None:
    await run(server, tmp_path, jobs=8, kills=3, rounds=6)


@pytest.mark.long
async def test_twenty_kills(server: Server, tmp_path: Path) -> None:
    await run(server, tmp_path, jobs=1, kills=20, rounds=35)
