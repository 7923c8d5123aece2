"""How a lease waits for signals of its queues: blocked on their `wake` lists, taking no job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.store.redis.faults import NoScript, is_of_queue
from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Command, Link
from asyncjobs.store.redis.scripts import Script, by_queue, run_all

__all__ = ["Wakes"]

logger = GuardedLog("asyncjobs.redis")

MARGIN_S: Final = 5
"""A half-open connection never answers: so much longer than a wait the server may take."""


class Wakes:
    """Owns the connection on which a lease is parked: nothing else could be answered there."""

    __slots__ = ("_keys", "_link", "_silent")

    def __init__(self, link: Link, keys: StoreKeys) -> None:
        self._link = link
        self._keys = keys
        self._silent: frozenset[str] = frozenset()
        """Queues that could not be waited for when that was last looked into."""

    async def wait(self, queues: Sequence[str], timeout_s: float) -> Collection[str]:
        """The queue that signals work within the time. Others are waited for when the signals of
        one cannot be read."""
        try:
            return await self._wait(queues, timeout_s)
        except StoreError as error:
            if not is_of_queue(error):
                raise
            sound = await self._sound(queues)
            # One key of a wrong type fails the whole command.
            # rule:1 a queue that wakes nobody keeps no other one from waking
            if not sound or len(sound) == len(queues):
                raise
            return await self._wait(sound, timeout_s)

    async def _wait(self, queues: Collection[str], timeout_s: float) -> Collection[str]:
        command = self._blpop(queues, timeout_s)
        (reply,) = await self._link.calls((command,), timeout_s=timeout_s + MARGIN_S)
        return self._signalled(queues, reply)

    async def wait_and_run(
        self,
        queues: Collection[str],
        timeout_s: float,
        which: Script,
        commands: tuple[Command, ...],
    ) -> tuple[Collection[str], list[Any]]:
        """The queue that signals work within the time, and the replies of a script that was sent
        behind the wait.

        The server keeps what a connection has sent behind a blocking command, and executes it
        as soon as that one is answered. So the script needs no trip of its own.
        """
        sent = (self._blpop(queues, timeout_s), *commands)
        reply, *replies = await self._link.calls(sent, timeout_s=timeout_s + MARGIN_S)
        signalled = self._signalled(queues, reply)
        if any(isinstance(reply, NoScript) for reply in replies):
            return signalled, await run_all(self._link, which, commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return signalled, replies

    def _blpop(self, queues: Collection[str], timeout_s: float) -> Command:
        keys = self._keys
        wakes = [keys.queue(queue).wake for queue in queues]
        return (b"BLPOP", *wakes, f"{max(timeout_s, 0.001):.3f}")  # 0 would be for ever

    def _signalled(self, queues: Collection[str], reply: Any) -> Collection[str]:
        """The queue whose list was popped, or none. Raises what stands in place of a reply."""
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            return ()
        return tuple(queue for queue in queues if self._keys.queue(queue).wake == reply[0])

    async def _sound(self, queues: Sequence[str]) -> list[str]:
        """The queues that can be waited for. The others are logged once."""
        # LLEN fails on the same keys as BLPOP, and takes no token.
        commands = [(b"LLEN", self._keys.queue(queue).wake) for queue in queues]
        answers, away = by_queue(queues, await self._link.calls(commands))
        for queue in away.keys() - self._silent:
            logger.error("queue %r wakes nobody, the others do: %s", queue, away[queue])
        self._silent = frozenset(away)
        return list(answers)

    async def close(self) -> None:
        await self._link.close()
