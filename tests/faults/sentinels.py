"""A master, its replica and three sentinels that watch them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import anyio

from asyncjobs.testing.servers import Server, ServerKind, start_server

SERVICE = "shop"
PATIENCE_S = 40.0
"""For what takes sentinels a few seconds; reached only when a test fails."""


class Watched:
    """Owns five servers. `passwords` are those of the store and of the sentinels."""

    def __init__(
        self, stack: ExitStack, kind: ServerKind, passwords: tuple[str, str] = ("", "")
    ) -> None:
        self._stack = stack
        self._kind = kind
        store, watch = passwords
        access = {"requirepass": store, "masterauth": store} if store else {}
        self.master = self._start(access)
        self.replica = self._start(
            access | {"replicaof": f"127.0.0.1 {self.master.port}", "repl-diskless-sync-delay": "0"}
        )
        config = {
            f"sentinel monitor {SERVICE}": f"127.0.0.1 {self.master.port} 2",
            f"sentinel down-after-milliseconds {SERVICE}": "500",
            f"sentinel failover-timeout {SERVICE}": "3000",
        }
        if store:
            config[f"sentinel auth-pass {SERVICE}"] = store
        if watch:
            config |= {"requirepass": watch, "sentinel sentinel-pass": watch}
        self.sentinels = [self._start(config, sentinel=True) for _ in range(3)]

    def _start(self, config: dict[str, str], *, sentinel: bool = False) -> Server:
        return self._stack.enter_context(start_server(self._kind, config=config, sentinel=sentinel))

    @property
    def places(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.places}/{SERVICE}"

    async def ready(self) -> None:
        """Until each sentinel knows the two others and the replica, which is in step."""

        async def known() -> bool:
            for sentinel in self.sentinels:
                told = await ask(sentinel, "SENTINEL", "MASTER", SERVICE)
                about = dict(zip(told[::2], told[1::2], strict=True))
                if (about[b"num-other-sentinels"], about[b"num-slaves"]) != (b"2", b"1"):
                    return False
            return True

        await patiently(known)
        await self.in_step()

    async def in_step(self) -> None:
        """Until the replica has every write that the master has confirmed so far."""
        goal = int((await ask(self.master, "ROLE"))[1])

        async def reached() -> bool:
            role = await ask(self.replica, "ROLE")
            return bool(role[3] == b"connected" and int(role[4]) >= goal)

        await patiently(reached)

    async def failed_over(self) -> None:
        """Until every sentinel names the former replica, and it is a master."""

        async def named() -> bool:
            for sentinel in self.sentinels:
                found = await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                if int(found[1]) != self.replica.port:
                    return False
            return bool((await ask(self.replica, "ROLE"))[0] == b"master")

        await patiently(named)


async def ask(server: Server, *command: str) -> Any:
    return await asyncio.to_thread(server.command, *command)


async def patiently(check: Any) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not await check():
            await anyio.sleep(0.05)
