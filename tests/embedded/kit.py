"""User processes of an embedded store, driven line by line, and facts about the store."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from redis import Redis
from redis.exceptions import ConnectionError as NotConnected

from asyncjobs.store.embedded import guardian
from asyncjobs.store.embedded.locks import FileLock
from tests.audit import audit
from tests.kit.environment import LIMIT_S, environment
from tests.kit.waiting import until

USER = """
import asyncio, os, sys, time, warnings
from asyncjobs import AsyncJobs, StoreUnavailable

app = AsyncJobs(sys.argv[1] if len(sys.argv) > 1 else None)


@app.job(name="job")
async def job(number: int) -> None: ...


def fork():
    with warnings.catch_warnings(action="ignore"):  # of other threads
        child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    return child


async def count():
    while True:
        try:
            (counts,) = await app.backend.inspect.queues.counts(["default"])
            return sum(counts.ready)
        except StoreUnavailable:  # the connection of before the server's restart
            await asyncio.sleep(0.02)


async def main():
    async with app:
        print(app.store_info.address, flush=True)
        while (words := (await asyncio.to_thread(sys.stdin.readline)).split()):
            if words[0] == "enqueue":
                await app.enqueue_many([job.bind(n) for n in range(int(words[1]))])
                print("stored", flush=True)
            elif words[0] == "ready":
                print(await count(), flush=True)
            elif words[0] == "fork":
                print(fork(), flush=True)


asyncio.run(main())
"""


class Record(NamedTuple):
    """What the guardian says of the running server."""

    socket: str
    guardian: int
    server: int


def record(folder: Path) -> Record:
    """Of a store that somebody uses."""
    return Record(**json.loads((folder / guardian.RECORD).read_bytes()))


def is_free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        return lock.take()
    finally:
        lock.close()


def is_stopped(folder: Path) -> bool:
    """True when neither guardian nor server of the folder lives."""
    return is_free(folder / guardian.GUARDIAN) and is_free(folder / "data.lock")


class User:
    """A process that has the store open until it is told to leave."""

    def __init__(self, *urls: str, cwd: Path, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, *urls],
            cwd=cwd,
            env=environment({"TMPDIR": str(temporary)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        end = time.monotonic() + LIMIT_S
        while b"\n" not in self._said:
            left = end - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            piece = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert piece, f"says nothing:\n{self.fault()}"
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def fault(self) -> str:
        """What it wrote on stderr; ends it."""
        self.process.kill()
        return self.process.communicate()[1].decode()

    def ask(self, words: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())
        self.process.stdin.flush()
        return self.hear()

    def ready(self) -> int:
        """How many jobs are ready."""
        return int(self.ask("ready"))

    def leave(self) -> None:
        """By closing the app."""
        _, errors = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, errors.decode()
        assert errors == b""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)

    def interrupt_group(self) -> None:
        """What Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)
        # Its thread that reads our lines ends with the pipe only.
        self.process.communicate(timeout=LIMIT_S)


class Store:
    """One folder, its users, and its private temporary folder for sockets."""

    def __init__(self, folder: Path, temporary: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.temporary = temporary
        self._stack = stack

    @property
    def url(self) -> str:
        return f"embedded:{self.folder}"

    @property
    def record(self) -> Record:
        return record(self.folder)

    @property
    def socket_url(self) -> str:
        return f"unix://{self.record.socket}"

    def audit(self) -> list[str]:
        """What is wrong with its keys; nothing when nobody has it open."""
        try:
            return audit(self, "asyncjobs")
        except (FileNotFoundError, NotConnected):
            return []

    def start_user(self, *, url: str | None = None, cwd: Path | None = None) -> User:
        """A user that is on its way in."""
        urls = [self.url if url is None else url]
        user = User(*urls, cwd=cwd or self.folder.parent, temporary=self.temporary)
        return self._stack.enter_context(user)

    def user(self, *, url: str | None = None) -> User:
        """A user that has the store open."""
        user = self.start_user(url=url)
        assert user.hear() == self.url
        return user

    def until_written(self) -> None:
        """Until the server has handed to the kernel all that it has confirmed.

        While the disk is slow it confirms a write before that, and a `kill -9` loses the write.
        """
        with Redis.from_url(self.socket_url) as client:
            until(lambda: client.info("persistence")["aof_buffer_length"] == 0)

    def until_stopped(self) -> None:
        until(lambda: is_stopped(self.folder))


@contextmanager
def new_store(folder: Path, temporary: Path) -> Iterator[Store]:
    """A store that is gone at the end of the test, and has left nothing running."""
    with ExitStack() as stack:
        store = Store(folder, temporary, stack)
        yield store
        assert store.audit() == []
    if folder.exists():
        store.until_stopped()
    until(lambda: list(temporary.iterdir()) == [])
