"""What proofs with real workers are written with: processes, their signals, their ledger."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from asyncjobs import AsyncJobs, JobFunction, JobHandle
from asyncjobs.model.clock import new_id
from asyncjobs.testing.servers import Server
from tests.cli.process import Process
from tests.guarantees import program

LIMIT_S = 30.0
"""How long a test waits for what must happen; reached only when it fails."""


class Line(NamedTuple):
    """What an execution wrote down; `at_s` is the monotonic clock of the machine."""

    word: str
    id: str
    name: str
    attempt: int
    crashes: int
    worker: str
    pid: int
    at_s: float


class Scene:
    """The workers of one test on one server, their ledger and gates, and a client beside.

    Owns a key prefix of the server and every process that it has started.
    """

    def __init__(self, server: Server, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.prefix = f"test-{new_id()}"
        self.app: AsyncJobs = program.make(knows_fresh=True, url=server.url, prefix=self.prefix)
        self._folder = folder
        self._gates = folder / "gates"
        self._gates.mkdir()
        self._ledger = folder / "ledger"
        self._stack = stack

    # -- jobs ---------------------------------------------------------------------------

    def job(self, function: Callable[..., Any]) -> JobFunction[..., Any]:
        """The job function of the program, in the client's app."""
        name = f"{function.__module__}.{function.__qualname__}"
        found = self.app.registry.find(name)
        assert found is not None, name
        return found

    async def hold(
        self, number: int, gate: str, *args: Any, **options: Any
    ) -> list[JobHandle[Any]]:
        """Enqueue so many jobs that wait at one gate."""
        job = self.job(program.held).options(**options)
        return await self.app.enqueue_many([job.bind(gate, *args) for _ in range(number)])

    def open(self, gate: str, worker: str = "") -> None:
        """Open a gate, for all workers or for one of them."""
        (self._gates / (f"{gate}@{worker}" if worker else gate)).touch()

    # -- workers ------------------------------------------------------------------------

    async def start(
        self, name: str, *flags: str, lease: str = "1s", version: str = "both", url: str = ""
    ) -> Process:
        """A worker of this name that has started."""
        process = self._stack.enter_context(
            Process(
                self._folder,
                *("worker", "--factory", f"tests.guarantees.program:{version}"),
                *("--name", name, "--lease", lease, *flags),
                env={
                    "ASYNCJOBS_URL": url or self.server.url,
                    "PREFIX": self.prefix,
                    "LEDGER": str(self._ledger),
                    "GATES": str(self._gates),
                    "WORKER": name,
                },
            )
        )
        await asyncio.to_thread(process.wait_started)
        return process

    async def stop(self, process: Process) -> int:
        """Stop a worker as an operator would; its exit code."""
        process.send(signal.SIGTERM)
        return await asyncio.to_thread(process.end)

    # -- facts --------------------------------------------------------------------------

    def lines(self, word: str, **fields: Any) -> list[Line]:
        """The lines of the ledger with this word and these fields, in their order."""
        wanted = {"word": word, **fields}.items()
        return [line for line in self.ledger() if wanted <= line._asdict().items()]

    def ledger(self) -> list[Line]:
        """All lines, in their order."""
        if not self._ledger.exists():
            return []
        return [Line(**orjson.loads(line)) for line in self._ledger.read_bytes().splitlines()]

    def lines_of(self, function: Callable[..., Any]) -> list[Line]:
        """All lines that a job function of the program has written, in their order."""
        name = self.job(function).name
        return [line for line in self.ledger() if line.name == name]

    def ids(self, word: str, **fields: Any) -> list[str]:
        return sorted(line.id for line in self.lines(word, **fields))

    async def noted(self, word: str, number: int, **fields: Any) -> list[Line]:
        """When there are so many lines like this."""
        await until(
            lambda: len(self.lines(word, **fields)) >= number,
            lambda: f"{len(self.lines(word, **fields))} of {number} lines {word} {fields}",
        )
        return self.lines(word, **fields)

    async def results(self, handles: list[JobHandle[Any]]) -> list[Any]:
        """How all of them ended; raises what the first failure raises."""
        return list(await asyncio.gather(*(handle.result(LIMIT_S) for handle in handles)))

    def key(self, name: str, queue: str = "default") -> str:
        return f"{{{self.prefix}:{queue}}}:{name}"

    def command(self, *args: str | float) -> Any:
        """The server's raw reply."""
        return self.server.command(*args)

    def lease_ends_ms(self) -> dict[str, float]:
        """The end of each lease by its entry, in the store's time."""
        flat = self.command("ZRANGE", self.key("workers"), 0, -1, "WITHSCORES")
        return {flat[at].decode(): float(flat[at + 1]) for at in range(0, len(flat), 2)}

    def entries_of(self, worker: str) -> list[str]:
        """The entries under which a worker holds leases; none between two of them."""
        flat = self.command("HGETALL", self.key("workers:info"))
        found = {flat[at].decode(): orjson.loads(flat[at + 1]) for at in range(0, len(flat), 2)}
        return [entry for entry, info in found.items() if info["worker"] == worker]

    def entry_of(self, worker: str) -> str:
        """The entry of a worker that has one."""
        (entry,) = self.entries_of(worker)
        return entry

    def store_ms(self) -> int:
        seconds, micros = self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


@contextmanager
def scene_on(server: Server, folder: Path) -> Iterator[Scene]:
    """A scene whose processes are gone at the end, and the keys with them."""
    with ExitStack() as stack:
        scene = Scene(server, folder, stack)
        yield scene
    if ours := [key for key in server.command("KEYS", "*") if scene.prefix.encode() in key]:
        server.command("DEL", *ours)


async def until(check: Callable[[], bool], say: Callable[[], str] | None = None) -> None:
    """Wait until a fact holds."""

    async def ask() -> bool:
        return check()

    await eventually(ask, say)


async def eventually(
    check: Callable[[], Awaitable[bool]], say: Callable[[], str] | None = None
) -> None:
    """Wait until the answer is yes; `say` tells what there was instead."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await check():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(say() if say else "it has not come true") from None


async def wait_for(process: Process, text: str) -> str:
    """When a process has written this; all that it has written."""
    return await asyncio.to_thread(process.wait_for, text)


def freeze(pid: int) -> None:
    """SIGSTOP: nothing in it moves, its connections stay open."""
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of these spans of time overlap, at the most."""
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def spans_of(scene: Scene, killed: dict[str, float]) -> dict[str, list[tuple[float, float]]]:
    """When each job ran. A span that nobody has ended has ended with its worker."""
    ends: dict[tuple[str, int, int], list[Line]] = {}
    for line in scene.lines("ended"):
        ends.setdefault((line.id, line.pid, line.attempt), []).append(line)
    spans: dict[str, list[tuple[float, float]]] = {}
    for line in scene.lines("began"):
        own = ends.get((line.id, line.pid, line.attempt), [])
        end_s = own.pop(0).at_s if own else killed[line.worker]
        spans.setdefault(line.id, []).append((line.at_s, end_s))
    return spans
