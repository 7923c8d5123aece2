"""A store that the release of layout 1 has written, and what it leaves in one of layout 2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, State
from asyncjobs.model.clock import new_id
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.layout import LAYOUT
from asyncjobs.store.seam import Backend, StoreSettings
from asyncjobs.testing.conformance.store import PinnedClock, Store, Worker, ids, ref
from asyncjobs.testing.servers import Server
from tests.audit import audit

pytestmark = pytest.mark.anyio

STORED = Path(__file__).with_name("layout_1.json")
"""The keys of a real store as commands: jobs of each state, some of them with progress."""
NOW_MS = 1_800_000_003_000
"""When it was left; `lease-first` holds `running` and `marked` for half a minute more."""
HALF = b'{"done":2,"total":8,"note":"half"}'


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, servers: Any) -> Server:
    server: Server = servers.get(request.param)
    return server


@pytest.fixture
async def own(server: Server, anyio_backend: str) -> AsyncIterator[Store]:
    """A store of layout 1, opened by this release."""
    settings, clock = StoreSettings(prefix=f"test-{new_id()}"), PinnedClock()
    clock.ms = NOW_MS
    for command in json.loads(STORED.read_text()):
        command[1:] = [word.replace("asyncjobs:", f"{settings.prefix}:") for word in command[1:]]
        server.command(*command)

    def make(settings: StoreSettings, now_ms: Any) -> Backend:
        return RedisBackend(server.url, settings, now_ms=now_ms)

    backend = make(settings, clock)
    await backend.open()
    yield Store(backend, clock, settings, make)
    await backend.close()
    keys = [key for key in server.command("KEYS", "*") if settings.prefix.encode() in key]
    server.command("DEL", *keys)


def key(own: Store, name: str) -> str:
    return f"{{{own.settings.prefix}:work}}:{name}"


async def take(worker: Worker) -> list[str]:
    return ids(await worker.take())


async def finish_all(own: Store) -> None:
    """Run what is left, also the jobs of the old worker, once it is gone."""
    worker = await own.worker("work")
    await own.end_leases(worker)
    await own.pass_time(60_000, worker)
    while jobs := await worker.take():
        await worker.exchange(*map(Settlement.succeeded, jobs))


async def test_it_is_opened_and_stays_what_it_is(own: Store, server: Server) -> None:
    assert server.command("GET", f"{own.settings.prefix}:layout") == b"1 0.1.0"
    assert audit(server, own.settings.prefix) == []


async def test_a_new_store_is_of_the_new_layout(server: Server, anyio_backend: str) -> None:
    prefix = f"test-{new_id()}"
    backend = RedisBackend(server.url, StoreSettings(prefix=prefix))
    try:
        await backend.open()
    finally:
        await backend.close()
    assert server.command("GET", f"{prefix}:layout").startswith(b"%d " % LAYOUT)
    server.command("DEL", f"{prefix}:layout")


async def test_all_that_is_in_it_is_read(own: Store) -> None:
    states = {
        "urgent": State.READY,
        "ready": State.READY,
        "returned": State.READY,
        "suspect": State.READY,
        "running": State.RUNNING,
        "marked": State.RUNNING,
        "later": State.SCHEDULED,
        "retry": State.SCHEDULED,
        "done": State.SUCCEEDED,
        "dead": State.DEAD,
    }
    assert {id: await own.state(id) for id in states} == states
    running = await own.look("running")
    assert (running.progress, running.holder) == (HALF, "lease-first")
    assert (await own.look("retry")).progress == b'{"done":1,"total":null,"note":""}'
    assert (await own.look("done")).outcome == b'{"s":"succeeded","r":"hello done"}'
    assert (await own.look("marked")).is_cancelled
    counts = await own.counts("work")
    assert (counts.ready, counts.running, counts.scheduled, counts.dead) == ((1, 0, 4, 0), 2, 2, 1)
    app = AsyncJobs(backend=own.backend)
    async with app:
        info = await app.handle("running", queue="work").info()
    assert info.progress is not None
    assert (info.name, info.progress.done, info.progress.note) == ("tasks.greet", 2, "half")


async def test_its_jobs_run_in_their_order(own: Store, server: Server) -> None:
    worker = await own.worker("work")
    jobs = await worker.take()
    assert [job.id for job in jobs][:4] == ["urgent", "returned", "suspect", "ready"]
    assert [job.crashes for job in jobs] == [0, 0, 1, 0, 0]
    await worker.exchange(*map(Settlement.succeeded, jobs))
    await finish_all(own)
    assert await own.state("running") is State.SUCCEEDED
    assert (await own.state("marked")).is_final
    # `retry` and `running` had progress by the old layout.
    await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, "progress"), key(own, "noted")) == 0
    assert audit(server, own.settings.prefix) == []


async def test_progress_becomes_a_note(own: Store, server: Server) -> None:
    await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, "progress")) == 0
    assert (await own.look("running")).progress == HALF
    worker = await own.worker("work")
    await own.end_leases(worker)
    jobs = {job.id: job for job in await worker.take()}
    assert await worker.lease.notes([jobs["running"]]) == [{PROGRESS: HALF}]
    await worker.exchange(*map(Settlement.succeeded, jobs.values()))
    assert server.command("EXISTS", key(own, "notes:running")) == 0
    await finish_all(own)


async def test_a_new_note_counts_and_not_the_old_progress(own: Store, server: Server) -> None:
    worker = await own.worker("work")
    await own.end_leases(worker)
    jobs = {job.id: job for job in await worker.take()}
    note = Note(jobs["running"], PROGRESS, b'{"done":3}')
    assert await worker.lease.note([note]) == [True]
    assert (await own.look("running")).progress == b'{"done":3}'
    await own.backend.prune(["work"], 100)
    assert (await own.look("running")).progress == b'{"done":3}'
    await worker.exchange(*map(Settlement.succeeded, jobs.values()))
    await finish_all(own)
    assert audit(server, own.settings.prefix) == []


async def test_notes_that_an_old_worker_leaves_are_dropped(own: Store, server: Server) -> None:
    """It ends a job that has some, and knows nothing of them."""
    worker = await own.worker("work")
    jobs = await worker.take()
    await worker.lease.note([Note(job, "cursor", b"1") for job in jobs[:2]])
    gone, stays = jobs[:2]
    stream = key(own, f"ready:{gone.priority}")
    server.command("XACK", stream, "workers", gone.receipt)
    server.command("XDEL", stream, gone.receipt)
    server.command("HDEL", key(own, "index"), gone.id)
    assert any(gone.id in finding for finding in audit(server, own.settings.prefix))
    await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, f"notes:{gone.id}")) == 0
    assert await worker.lease.notes([stays]) == [{"cursor": b"1"}]
    assert audit(server, own.settings.prefix) == []
    await worker.exchange(*map(Settlement.succeeded, jobs[1:]))


async def test_what_an_old_worker_says_later_counts(own: Store, server: Server) -> None:
    """Also when the job has a note already: old and new workers run side by side."""
    await own.backend.prune(["work"], 100)
    server.command("HSET", key(own, "progress"), "running", b'{"done":7}')
    assert (await own.look("running")).progress == b'{"done":7}'
    await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, "progress")) == 0
    assert (await own.look("running")).progress == b'{"done":7}'
    worker = await own.worker("work")
    await own.end_leases(worker)
    server.command("HSET", key(own, "progress"), "running", b'{"done":8}')
    (taken,) = [job for job in await worker.take() if job.id == "running"]
    await worker.lease.note([Note(taken, PROGRESS, b'{"done":9}')])
    assert (await own.look("running")).progress == b'{"done":9}'
    await finish_all(own)


async def test_progress_goes_with_its_job(own: Store, server: Server) -> None:
    """A new job under the same id must not show it."""
    worker = await own.worker("work")
    await own.end_leases(worker)
    jobs = await worker.take()
    for id in (*(job.id for job in jobs), "removed", "stays"):
        server.command("HSET", key(own, "progress"), id, "old")
    await own.enqueue("removed", "stays", delay_ms=60_000)
    await worker.exchange(*map(Settlement.succeeded, jobs))
    assert await own.backend.cancel([ref("removed")], None, 0) == [CancelVerdict.CANCELLED]
    assert server.command("HKEYS", key(own, "progress")) == [b"stays"]
    await finish_all(own)
    assert server.command("EXISTS", key(own, "progress")) == 0


async def test_all_progress_of_ended_jobs_goes(own: Store, server: Server) -> None:
    for first in range(0, 8_000, 500):
        words = [w for n in range(first, first + 500) for w in (f"gone-{n}", "x" * 70)]
        server.command("HSET", key(own, "progress"), *words)
    for _ in range(12):
        await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, "progress")) == 0
    assert (await own.look("running")).progress == HALF
    await finish_all(own)


@pytest.mark.parametrize("is_last", [False, True])
async def test_notes_of_a_letter_that_an_old_release_drops(
    own: Store, server: Server, is_last: bool
) -> None:
    worker = await own.worker("work")
    jobs = await worker.take()
    await worker.lease.note([Note(job, PROGRESS, bytes(3000)) for job in jobs[:2]])
    await worker.exchange(*(Settlement.dead(job, b"{}\n{}") for job in jobs[:2]))
    for id in (jobs[0].id, *(["dead", jobs[1].id] if is_last else [])):
        server.command(
            "DECRBY", key(own, "dead:bytes"), server.command("HSTRLEN", key(own, "dead:data"), id)
        )
        server.command("ZREM", key(own, "dead"), id)
        server.command("HDEL", key(own, "dead:data"), id)
    await own.backend.prune(["work"], 100)
    assert server.command("EXISTS", key(own, f"dead:notes:{jobs[0].id}")) == 0
    assert server.command("EXISTS", key(own, f"dead:notes:{jobs[1].id}")) == (not is_last)
    assert audit(server, own.settings.prefix) == []
    await worker.exchange(*map(Settlement.succeeded, jobs[2:]))
    await finish_all(own)


@pytest.mark.parametrize("name", ["progress", "noted", "index", "dead:noted"])
async def test_a_prune_drops_letters_whatever_is_spoiled_beside(
    own: Store, server: Server, name: str
) -> None:
    await own.pass_time(own.settings.dead_max_age_ms + 1)
    has_one = server.command("EXISTS", key(own, name))
    if has_one:
        server.command("RENAME", key(own, name), key(own, "saved"))
    server.command("SET", key(own, name), "x")
    assert await own.backend.prune(["work"], 100) == 1
    server.command("DEL", key(own, name))
    if has_one:
        server.command("RENAME", key(own, "saved"), key(own, name))


async def test_a_note_that_is_spoiled_costs_no_other_job_anything(
    own: Store, server: Server
) -> None:
    worker = await own.worker("work")
    first, second, third, *_ = await worker.take()
    await worker.lease.note([Note(second, "x", b"1")])
    for job in (first, third):
        server.command("SET", key(own, f"notes:{job.id}"), "spoiled")
    assert (await own.look(first.id)).progress is None
    refs = [first.ref, second.ref]
    waiter = asyncio.create_task(own.backend.wait_results(refs, 10))
    assert await worker.lease.notes([first, second]) == [{}, {"x": b"1"}]
    kept = await worker.lease.note([Note(job, PROGRESS, b"2") for job in (first, second)])
    assert kept == [True, True]
    found = await worker.lease.notes([first, second])
    assert found == [{PROGRESS: b"2"}, {"x": b"1", PROGRESS: b"2"}]
    server.command("SADD", key(own, "noted"), third.id)
    await worker.exchange(
        Settlement.succeeded(second),
        Settlement.dead(third, b"{}\n{}"),
        Settlement.dead(first, b"1"),
    )
    assert (await waiter)[1].state is State.SUCCEEDED
    assert await own.state(third.id) is State.DEAD
    assert audit(server, own.settings.prefix) == []
