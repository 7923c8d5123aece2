"""Keeps children warm: has the fork server fork a child before one is needed."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from asyncjobs.errors import ProcessDied
from asyncjobs.guard.own import hide
from asyncjobs.worker.engine.processes.child_line import Child, Ended
from asyncjobs.worker.engine.processes.origin import Origin
from asyncjobs.worker.engine.processes.server_line import ServerLine

__all__ = ["Pool"]


class Pool:
    """Owns the fork server and all its children. Starts it when it is first needed, and again if it
    has died.

    `warm`: how many children wait for attempts.
    """

    def __init__(self, origin: Origin, warm: int) -> None:
        self._warm = warm
        self._loop = asyncio.get_running_loop()
        self._server = ServerLine(origin, self._hear, self._drop)
        self._starting: asyncio.Task[None] | None = None
        self._children: dict[int, Child] = {}
        self._idle: deque[Child] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._numbers = 0

    async def ready(self) -> None:
        """Start the fork server, unless it runs. Raises ConfigError if it cannot start."""
        if self._server.is_open:
            return
        if self._starting is None:
            self._starting = hide(self._loop.create_task(self._server.start()))
            self._starting.add_done_callback(self._started)
        # Shared: an attempt that is cancelled meanwhile must not end the start for the others.
        await asyncio.shield(self._starting)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        # Whoever waits has the error, too.
        if not task.cancelled() and task.exception() is None:
            self._fill()

    async def take(self) -> Child:
        """A warm child. Raises ProcessDied if none can be started, and ConfigError."""
        while True:
            await self.ready()
            if self._idle:
                # The oldest first: its pages have been idle for longest, and none stays for ever.
                child = self._idle.popleft()
                self._fill()
                return child
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            self._fill()
            try:
                await waiter
            except BaseException:
                self._pass_on(waiter)
                raise

    def give_back(self, child: Child) -> None:
        """Take back a child that was not needed."""
        if child.ended.done():
            child.close()
            return
        self._idle.appendleft(child)
        self._wake_one()

    def signal(self, child: Child, number: int) -> None:
        """Signal a child and what it has started, unless it has ended."""
        # Never by `os.kill` from here: the fork server alone knows whose number it still is.
        if child.number in self._children and self._server.is_open:
            self._server.say({"do": "signal", "child": child.number, "signal": int(number)})

    def _pass_on(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and self._idle:
            self._wake_one()

    def _wake_one(self, error: BaseException | None = None) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
            return

    def _fill(self) -> None:
        # Those that are being forked count, or each attempt of a burst would order one more.
        coming = sum(1 for each in self._children.values() if not each.pid)
        for _ in range(self._warm - len(self._idle) - coming):
            self._fork()

    def _fork(self) -> None:
        ours, its = socket.socketpair()
        ours.setblocking(False)
        self._numbers += 1
        self._children[self._numbers] = Child(self._numbers, ours, self._loop)
        self._server.say({"do": "fork", "child": self._numbers}, its.detach())

    def _hear(self, said: dict[str, Any]) -> None:
        child = self._children.get(said["child"])
        if child is None:
            return
        if "pid" in said:
            child.pid = said["pid"]
            self._idle.append(child)
            self._wake_one()
            return
        del self._children[child.number]
        if child in self._idle:
            # It was ended from outside while it waited.
            self._idle.remove(child)
            child.close()
        if "refused" in said:
            child.close()
            self._wake_one(ProcessDied(f"no process could be started: {said['refused']}"))
            return
        child.end(Ended(said["status"], said["peak"]))

    def _drop(self) -> None:
        """The fork server is gone, and its children with it. Whoever needs one starts it again."""
        children, self._children = self._children, {}
        for child in self._idle:
            child.close()
        self._idle.clear()
        for child in children.values():
            if not child.pid:
                child.close()
            child.end(Ended(None))
        while self._waiters:
            self._wake_one()

    async def close(self) -> None:
        """End all children and the fork server."""
        if self._starting is not None:
            starting = self._starting
            starting.cancel()
            await asyncio.wait({starting})
        self._server.cut()
        self._drop()
        await self._server.close()
