"""repid with its Redis Streams server: 10 entries a read, its default, which was faster here
than 100 and 1,000; acknowledged after the run (its default, which loses no job), orjson. It
keeps no results."""

from __future__ import annotations

from typing import Any

import orjson
from repid import RedisServer, Repid, Router

from benchmarks.peers import kit

CHANNEL = "jobs"


class Peer:
    async def open(self, url: str) -> None:
        router = Router()
        for job in (kit.noop, kit.sleep, kit.pickup):
            router.actor(job, channel=CHANNEL)
        self._app = Repid(default_serializer=orjson.dumps)
        server = RedisServer(url)
        self._app.servers.register_server("default", server, is_default=True)
        self._app.include_router(router)
        await server.connect()

    async def enqueue(self, name: str, *args: Any) -> object:
        payload = {"number": args[0], "text": args[1]}
        return await self._app.send_message_json(
            channel=CHANNEL, payload=payload, headers={"topic": name}
        )

    async def work(self, concurrency: int) -> None:
        await self._app.run_worker(tasks_limit=concurrency)


if __name__ == "__main__":
    kit.main(Peer)
