"""Dead letters on a store that is full, and with entries that somebody else wrote."""

from __future__ import annotations

from asyncjobs.errors import StoreFull
from asyncjobs.model.job import NewJob, Priority
from asyncjobs.model.outcome import revived
from asyncjobs.store.letters import LetterQuery, Revival, Revived
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury, left, on_store


def test_a_full_store_takes_dead_jobs_back(server: Server) -> None:
    """Revived and purged they free memory, so neither is refused."""
    bury(server.url, *(Corpse(f"job-{n:02}", args=["x" * 20_000]) for n in range(40)))
    server.command("CONFIG", "SET", "maxmemory", "1mb")

    async def act(store: RedisBackend) -> None:
        batch = EnqueueBatch("token", [NewJob("default", "new", 2, b"x")])
        assert isinstance((await store.enqueue(batch)).refused["default"], StoreFull)
        page = await store.dead.page(LetterQuery("default", oldest_first=True))
        assert len(page.letters) == 40
        revivals = [Revival(each.key, revived(each.letter, 1)) for each in page.letters[:20]]
        assert await store.dead.revive(revivals) == [Revived.READY] * 20
        assert await store.dead.purge([each.key for each in page.letters[20:39]]) == [True] * 19
        (counts,) = await store.inspect.queues.counts(["default"])
        assert (counts.ready[2], counts.dead) == (20, 1)

    on_store(server.url, act)
    assert left(server.url) == ["job-39"]
    server.command("CONFIG", "SET", "maxmemory", "0")


def test_letters_that_somebody_else_wrote(server: Server) -> None:
    """Without a priority, and without anything stored: both can be seen, revived and purged."""
    bury(server.url, Corpse("a"), Corpse("b"), Corpse("c"))
    base = "{asyncjobs:default}:dead"
    server.command("HSET", f"{base}:data", "a", "9letter")
    server.command("HDEL", f"{base}:data", "b", "c")

    async def act(store: RedisBackend) -> None:
        letters = (await store.dead.page(LetterQuery("default", oldest_first=True))).letters
        assert [(each.priority, each.letter, each.size) for each in letters] == [
            (Priority.NORMAL, b"letter", 6),
            (Priority.NORMAL, b"", 0),
            (Priority.NORMAL, b"", 0),
        ]
        revivals = [Revival(each.key, b"x") for each in letters[:2]]
        assert await store.dead.revive(revivals) == [Revived.READY] * 2
        assert await store.dead.purge([letters[2].key]) == [True]
        (counts,) = await store.inspect.queues.counts(["default"])
        assert (counts.ready, counts.dead) == ((0, 0, 2, 0), 0)

    on_store(server.url, act)
    assert server.command("EXISTS", f"{base}:bytes") == 0
