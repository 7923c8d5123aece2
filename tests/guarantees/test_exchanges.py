"""What was sent arrives late, or twice: no job runs twice, none waits for a worker's death."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import AsyncJobs, State
from asyncjobs.store.redis.scripts import script
from tests.faults.proxy import Proxy, Wire, proxy_to
from tests.guarantees import program
from tests.guarantees.kit import Scene, until
from tests.worker.kit import counts

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("kind", ["valkey", "redis"])
LATE = pytest.mark.parametrize("is_late", [True, False], ids=["late", "twice"])
"""late: the connection broke before the server had it. twice: the server has done it."""


class Copy:
    """The next request of one script that goes through a proxy, kept as it is."""

    def __init__(self, proxy: Proxy, name: str, label: str, *, is_late: bool) -> None:
        self._digest = script(name).digest
        self._label = label
        self._is_late = is_late
        self._kept = b""
        proxy.hear = self._hear

    def _hear(self, wire: Wire, data: bytes) -> bool:
        if self._kept or wire.label != self._label or self._digest not in data:
            return True
        self._kept = data
        return not self._is_late

    async def made(self) -> None:
        await until(lambda: bool(self._kept))

    async def arrive(self, scene: Scene) -> bytes:
        """It reaches the server now; the reply as it stands on the line."""
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
        writer.write(self._kept)
        reply = await reader.read(1 << 16)
        writer.close()
        await writer.wait_closed()
        return reply


@BOTH
@LATE
async def test_an_exchange(scene: Scene, is_late: bool) -> None:
    async with proxy_to(scene.server.port) as proxy, scene.app:
        a = await scene.start("a", "--concurrency", "5", lease="20s", url=proxy.url)
        first = await scene.hold(5, "first")
        await scene.noted("began", 5)
        # It settles these jobs and asks for five others.
        copy = Copy(proxy, "exchange", "exchange", is_late=is_late)
        scene.open("first")
        await copy.made()
        assert await scene.results(first) == ["a"] * 5
        second = await scene.hold(8, "second")
        await scene.noted("began", 10)

        assert b"stale" in await copy.arrive(scene)
        found = await counts(scene.app)
        assert (sum(found.ready), found.running, found.scheduled, found.dead) == (3, 5, 0, 0)
        scene.open("second")
        # Long before the lease could end: nobody holds a job that it does not know of.
        assert await scene.results(second) == ["a"] * 8
        assert await scene.stop(a) == 0
    ids = sorted(handle.id for handle in [*first, *second])
    assert scene.ids("began") == scene.ids("ended") == ids


@BOTH
@LATE
async def test_an_enqueue_whose_job_has_finished_meanwhile(scene: Scene, is_late: bool) -> None:
    async with proxy_to(scene.server.port) as proxy, scene.app:
        client: AsyncJobs = program.make(knows_fresh=True, url=proxy.url, prefix=scene.prefix)
        job = client.registry.find("tests.guarantees.program.held")
        assert job is not None
        a = await scene.start("a")
        scene.open("open")
        async with client:
            copy = Copy(proxy, "enqueue", "client", is_late=is_late)
            handles = await client.enqueue_many([job.bind("open") for _ in range(20)])
            assert {handle.is_new for handle in handles} == {True}
            assert await scene.results(handles) == ["a"] * 20

            # Its answer is repeated as it was given, one character a job.
            assert b"1" * 20 in await copy.arrive(scene)
            found = await counts(scene.app)
            assert (sum(found.ready), found.running, found.scheduled) == (0, 0, 0)
            assert {await handle.status() for handle in handles} == {State.SUCCEEDED}
        assert await scene.results(await scene.hold(1, "open")) == ["a"]
        assert await scene.stop(a) == 0
    assert len(scene.ids("began")) == len(set(scene.ids("began"))) == 21
