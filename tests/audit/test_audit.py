"""The audit finds what is wrong, says nothing of what is right, and fails tests that leak."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.model.job import NewJob
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.schedules import Ran, Tick, TickVerdict
from asyncjobs.store.seam import Backend, StoreSettings
from asyncjobs.testing.conformance.schedules import rule
from asyncjobs.testing.conformance.store import (
    GRACE_MS,
    QUEUE,
    PinnedClock,
    Store,
    Worker,
    outcome,
)
from asyncjobs.testing.servers import Server
from tests.audit import audit, audit_memory, leftovers
from tests.audit.rules import DOCUMENTED, EXPIRING, STAYING

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "audit"


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, servers: Any) -> Any:
    server: Server = servers.get(request.param)
    yield server
    for key in server.command("KEYS", f"*{PREFIX}:*"):
        server.command("DEL", key)


async def _fill(store: Store) -> Worker:
    """Every structure of a queue has something in it; returns the worker that holds a job."""
    worker, gone = await store.worker(), await store.worker()
    await store.enqueue("crashed", "returned")
    await gone.take()
    await store.end_leases(worker)
    await store.enqueue("running", "dead", "done", "retried")
    taken = {job.id: job for job in await worker.take(6)}
    await store.enqueue("ready", priority=0)
    await store.enqueue("delayed", delay_ms=60_000)
    await worker.lease.note([Note(taken["dead"], PROGRESS, b"near the end")])
    await worker.exchange(
        Settlement.dead(taken["dead"], b"letter", outcome(), 60_000),
        Settlement.succeeded(taken["done"], outcome(), 60_000),
        Settlement.reschedule(taken["retried"], b"later", 5_000),
        Settlement.release(taken["returned"]),
    )
    await worker.lease.note([Note(taken["running"], PROGRESS, b"half")])
    await store.backend.cancel([JobRef(QUEUE, "running")], None, 0)
    await _schedule(store)
    return worker


async def _schedule(store: Store) -> None:
    """A schedule that has fired, and one that is paused."""
    await store.backend.schedules.put([rule(store, "nightly"), rule(store, "paused")])
    await store.backend.schedules.pause(["paused"], "by hand")
    past = Tick(5, NewJob(QUEUE, "past", 2, b"{}", delay_ms=60_000))
    assert await store.backend.schedules.run("nightly", [past]) == Ran([TickVerdict.FIRED])


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    settings, clock = StoreSettings(prefix=PREFIX), PinnedClock()

    def make(settings: StoreSettings, now_ms: Any) -> Backend:
        return RedisBackend(server.url, settings, now_ms=now_ms)

    backend = make(settings, clock)
    await backend.open()
    yield Store(backend, clock, settings, make)
    await backend.close()


async def test_a_store_in_use_has_no_findings(server: Server, store: Store) -> None:
    await _fill(store)
    used = {key.rpartition(b"}:")[2].decode() for key in server.command("KEYS", f"{{{PREFIX}:*")}
    assert {"cancel", "noted", "crashes", "returned", "dead:data", "scheduled"} <= used
    assert {"notes:running", "dead:notes:dead"} <= used
    assert {"cron:of:nightly", "cron:ran:nightly", "cron", "cron:next"} <= used
    assert audit(server, PREFIX) == []


KEY = f"{{{PREFIX}:{QUEUE}}}:"
PLANTED: list[tuple[str, list[str], str]] = [
    ("a key without a name", ["SET", KEY + "extra", "1"], "extra: no documented key"),
    ("a key beside queues", ["SET", f"{PREFIX}:extra", "1"], "extra: no documented key"),
    ("another type", ["SET", KEY + "leaving", "1"], "leaving: WRONGTYPE"),
    ("a result for ever", ["SET", KEY + "result:x", "1"], "result:x: never expires"),
    ("a batch for ever", ["PERSIST", KEY + "batch:token-0"], "batch:token-0: never expires"),
    ("known for ever", ["PERSIST", KEY + "known:0"], "never expires"),
    ("stats for ever", ["PERSIST", KEY + "stats"], "stats: never expires"),
    ("jobs that expire", ["PEXPIRE", KEY + "index", "60000"], "and must not"),
    ("a queue unlisted", ["SREM", f"{PREFIX}:queues", QUEUE], "not in the list of queues"),
    ("an index lost", ["HDEL", KEY + "index", "ready"], "job ready: the index says None"),
    ("a ghost", ["HSET", KEY + "index", "x", "2:1-1"], "job x: the index says 2:1-1"),
    ("due without data", ["HDEL", KEY + "scheduled:data", "delayed"], "only in scheduled"),
    ("data never due", ["ZREM", KEY + "scheduled", "delayed"], "only in scheduled:data"),
    ("a letter lost", ["HDEL", KEY + "dead:data", "dead"], "job dead: only in dead"),
    ("no priority", ["HSET", KEY + "scheduled:data", "delayed", "x"], "with no priority"),
    ("another group", ["XGROUP", "CREATE", KEY + "ready:0", "o", "0"], "a foreign group o"),
    ("a consumer", ["XGROUP", "CREATECONSUMER", KEY + "ready:2", "workers", "c"], "has no lease"),
    ("no number", ["DEL", KEY + "sequence"], "in only one of workers and sequence"),
    ("no description", ["DEL", KEY + "workers:info"], "in only one of workers and workers:info"),
    ("nobody looks", ["DEL", KEY + "returned"], "nobody will look for them"),
    ("no such place", ["SADD", KEY + "returned", "9"], "returned: '9' is no priority"),
    ("a mark", ["HSET", KEY + "cancel", "delayed", "w"], "job delayed: marked to be cancelled"),
    ("a mark by no lease", ["ZADD", KEY + "cancel:held", "0", "w\0x"], "only one of cancel and"),
    ("a mark without its lease", ["DEL", KEY + "cancel:held"], "only one of cancel and"),
    ("progress", ["HSET", KEY + "progress", "gone", "1"], "job gone: progress is kept"),
    ("a note", ["HSET", KEY + "notes:gone", "name", "1"], "job gone: notes are kept, and the job"),
    ("a note lost", ["DEL", KEY + "notes:running"], "job running: only one of noted and notes:"),
    ("a note that stays", ["DEL", KEY + "noted"], "job running: only one of noted and notes:"),
    ("a note of a letter", ["HSET", KEY + "dead:notes:x", "name", "1"], "job x: notes of a dead"),
    ("a crash", ["HSET", KEY + "crashes", "2:1-1", "1"], "entry 2:1-1: crashes are kept"),
    ("a lock", ["HSET", KEY + "unique", "k", "f 1 1 gone"], "job gone holds it, and does not know"),
    ("no lock", ["HSET", KEY + "unique", "k", "gone"], "'gone' is no lock"),
    ("an owner", ["HSET", KEY + "unique:of", "gone", "f0k"], "job gone: its key is kept"),
    ("a window", ["ZADD", KEY + "unique:windows", "1", "k"], "k: only one of unique and unique:w"),
    ("one who waits", ["HSET", KEY + "unique:next", "k", "1 1 x"], "job x waits for it, and it is"),
    (
        "a time",
        ["ZADD", KEY + "unique:since", "5", "x"],
        "x: only one of unique:since and unique:h",
    ),
    ("one held", ["HSET", KEY + "unique:held", "x", "2x"], "x: only one of unique:next and"),
    ("a schedule", ["HSET", KEY + "cron:of:x", "version", "1"], "schedule x: only one of cron and"),
    ("a schedule lost", ["DEL", KEY + "cron:of:nightly"], "schedule nightly: only one of cron and"),
    ("a tick", ["ZADD", KEY + "cron:next", "5", "nightly"], "schedule nightly: next is"),
    ("a pause", ["HSET", KEY + "cron:of:nightly", "state", "p"], "nightly: it is paused, and has"),
    ("a job of no schedule", ["RPUSH", KEY + "cron:ran:x", "5"], "schedule x: its jobs are"),
    ("two tokens", ["RPUSH", KEY + "wake", "1", "1"], "wake: holds"),
    ("no counter", ["HSET", KEY + "stats", "x", "1"], "stats: 'x' is no counter"),
]


@pytest.mark.parametrize(("what", "command", "finding"), PLANTED, ids=[p[0] for p in PLANTED])
@pytest.mark.unaudited("a contradiction is planted")
async def test_a_contradiction_is_found(
    server: Server, store: Store, what: str, command: list[str], finding: str
) -> None:
    await _fill(store)
    if command[0] == "PERSIST" and "known" in command[1]:
        command = ["PERSIST", server.command("KEYS", KEY + "known:*")[0].decode()]
    server.command(*command)
    assert any(finding in line for line in audit(server, PREFIX)), audit(server, PREFIX)


@pytest.mark.unaudited("a contradiction is planted")
async def test_entries_that_nobody_can_take_are_found(server: Server, store: Store) -> None:
    await _fill(store)
    stream = KEY + "ready:2"
    ((entry, *_), (other, *_)) = server.command("XPENDING", stream, "workers", "-", "+", 2)
    server.command("XDEL", stream, entry)
    server.command("XACK", stream, "workers", other)
    found = "\n".join(audit(server, PREFIX))
    assert f"holds 2:{entry.decode()}, which is deleted" in found
    assert f"2:{other.decode()} is acknowledged and not deleted" in found


async def test_a_drained_store_keeps_empty_structures_only(server: Server, store: Store) -> None:
    worker = await _fill(store)
    assert any("index is left" in line for line in leftovers(server, PREFIX))
    await store.backend.cancel(
        [JobRef(QUEUE, id) for id in ("ready", "delayed", "retried", "past")], b"", 0
    )
    for job in await worker.take():
        await worker.exchange(Settlement.succeeded(job))
    await worker.lease.leave()
    other = await store.worker()
    while taken := await other.take():
        await other.exchange(*map(Settlement.succeeded, taken))
    await store.pass_time(store.settings.dead_max_age_ms + GRACE_MS)
    assert any("dead is left" in line for line in leftovers(server, PREFIX))
    await store.backend.prune([QUEUE], 1000)
    assert any("has the consumers" in line for line in leftovers(server, PREFIX))
    await other.lease.leave()
    assert leftovers(server, PREFIX) == []
    assert audit(server, PREFIX) == []


async def test_the_memory_store_is_audited_too() -> None:
    def make(settings: StoreSettings, now_ms: Any) -> Backend:
        return MemoryBackend(settings, now_ms=now_ms)

    backend, clock = MemoryBackend(StoreSettings()), PinnedClock()
    await _fill(Store(MemoryBackend(StoreSettings(), now_ms=clock), clock, StoreSettings(), make))
    store = Store(backend, clock, StoreSettings(), make)
    await store.enqueue("a", "b")
    assert audit_memory(backend) == []
    queue = backend._queues.by_name[QUEUE]
    job = queue.waiting._ready[2].take_new()
    assert job is not None
    assert audit_memory(backend) == ["work: job a: nowhere to be found"]
    queue.waiting.schedule(job, 5)
    queue.waiting._ready[2].append(job)
    assert "work: job a: stored twice, ready and scheduled" in audit_memory(backend)
    queue.waiting._scheduled.pop("a")
    job.due_ms = None
    assert audit_memory(backend) == []


def test_the_names_are_those_of_the_documents() -> None:
    page = (ROOT / "docs" / "explanation" / "internals.md").read_text()
    table = page.partition("| key | holds |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named: set[str] = set()
    for cell in cells:
        names = [re.sub(r"<\w+>", "", name) for name in re.findall(r"`([^`]+)`", cell)]
        if "…" in cell:
            stem, last = names[1].rsplit(":", 1)
            names = [f"{stem}:{number}" for number in range(int(last) + 1)]
        named.update(names)
    assert named == DOCUMENTED
    assert DOCUMENTED > EXPIRING | STAYING


LEAKY = """
import pytest


def test_that_leaks(servers):
    servers.get("valkey").command("SET", "{leak:work}:result:1", "x")


def test_that_does_not(servers):
    servers.get("valkey")


@pytest.mark.unaudited("on purpose")
def test_that_says_so(servers):
    servers.get("valkey").command("SET", "{leak:mail}:result:1", "x")


def test_in_memory():
    from asyncjobs.store.seam import Backend, StoreSettings
    from asyncjobs.store.memory import MemoryBackend
    from asyncjobs.store.memory.stored import StoredJob

    global backend
    backend = MemoryBackend(StoreSettings())
    backend._queues.queue("work")._jobs["j"] = StoredJob("j", 0, b"")
"""


def test_a_test_that_leaks_fails_and_says_what(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:valkey",
            "-p",
            "no:asyncio",
            "--rootdir",
            str(tmp_path),
            "-q",
            "-rA",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    failed = set(re.findall(r"ERROR test_leaky.py::(\w+)", done.stdout))
    assert failed == {"test_that_leaks", "test_in_memory"}, done.stdout + done.stderr
    assert "leak: work: result:1: never expires" in done.stdout
    assert "work: job j: nowhere to be found" in done.stdout
    assert "4 passed" in done.stdout
