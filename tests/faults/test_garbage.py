"""Stored bytes that nobody of ours has written, and jobs that this worker cannot run."""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest

from asyncjobs import AsyncJobs, JobFailed, JobRef, State, Worker
from asyncjobs.events import JobDead, JobPutBack
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.outcome import read_dead_letter
from asyncjobs.testing.servers import Server
from tests.worker import jobs
from tests.worker.kit import (
    LIMIT_S,
    counts,
    ended,
    events_of,
    eventually,
    is_settled,
    register,
    store_raw,
    until,
)

pytestmark = pytest.mark.anyio
STREAM = "{asyncjobs:default}:ready:2"

GARBAGE = [
    b"",
    b"\x00\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"1",
    b'{"v":1}',
    b'{"v":"1"}',
    b'{"v":0,"f":"echo","n":1,"e":1}',
    b'{"v":1,"f":1,"n":1,"e":1}',
    b'{"v":1,"f":"echo"',
    b'{"v":1,"f":"echo","n":"1","e":1}',
    b'{"v":1,"f":"echo","n":-1,"e":1}',
    b'{"v":1,"f":"echo","n":1,"e":1,"a":{}}',
    b'{"v":1,"f":"echo","n":1,"e":1,"k":[]}',
    b'{"v":1,"f":"echo","n":1,"e":1,"h":[]}',
    b'{"v":1,"f":"echo","n":1,"e":1,"o":"x"}',
    b"[" * 5000,
    b'{"v":1,"f":["echo"],"n":1,"e":1}',
]


@pytest.mark.parametrize("raw", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_kept_as_it_is_and_the_worker_goes_on(raw: bytes) -> None:
    app = AsyncJobs("memory:")
    dead = events_of(app, JobDead)
    job = register(app, jobs.echo)
    async with app, Worker(app, concurrency=1):
        id = await store_raw(app, raw)
        handle = await job.enqueue("next")
        assert await handle.result(LIMIT_S) == "next"
        (record,) = await app.backend.get([JobRef("default", id)])
        assert record is not None
        assert record.state is State.DEAD
        assert record.dead_letter is not None
        outcome, kept = read_dead_letter(record.dead_letter)
        assert kept == raw
        assert outcome.reason == "unreadable"
        with pytest.raises(JobFailed, match="unreadable"):
            await app.handle(id, "default").result(LIMIT_S)
    assert [event.reason for event in dead] == ["unreadable"]


async def test_garbage_on_a_server(server: Server, app: AsyncJobs) -> None:
    job = register(app, jobs.echo)
    async with app, Worker(app, concurrency=4):
        for number, raw in enumerate(GARBAGE):
            await asyncio.to_thread(server.command, "XADD", STREAM, "*", f"bad-{number}", raw)
        assert await (await job.enqueue("next")).result(LIMIT_S) == "next"

        async def all_dead() -> bool:
            found = await counts(app)
            return found.dead == len(GARBAGE) and not found.running

        await eventually(all_dead)
        for number, raw in enumerate(GARBAGE):
            (record,) = await app.backend.get([JobRef("default", f"bad-{number}")])
            assert record is not None
            assert record.dead_letter is not None
            assert read_dead_letter(record.dead_letter)[1] == raw


@pytest.mark.parametrize(
    "id",
    [b"\xff\xfe", b"", b"a b", b"\x00", "ü☃".encode(), b"x" * 5000],
    ids=["binary", "empty", "space", "nul", "unicode", "long"],
)
@pytest.mark.parametrize(
    "raw", [b"garbage", b'{"v":1,"f":"echo","n":1,"e":1}'], ids=["garbage", "job"]
)
async def test_strange_ids_do_not_stop_a_worker(
    server: Server, app: AsyncJobs, id: bytes, raw: bytes
) -> None:
    job = register(app, jobs.echo)
    async with app, Worker(app, concurrency=1):
        await asyncio.to_thread(server.command, "XADD", STREAM, "*", id, raw)
        assert await (await job.enqueue("next")).result(LIMIT_S) == "next"

        async def settled() -> bool:
            return await is_settled(app)

        await eventually(settled)


@pytest.mark.parametrize("fields", [("id", "x", "more", "y"), ("a", "b") * 20])
async def test_entries_with_more_fields(
    server: Server, app: AsyncJobs, fields: tuple[str, ...]
) -> None:
    job = register(app, jobs.echo)
    async with app, Worker(app, concurrency=1):
        await asyncio.to_thread(server.command, "XADD", STREAM, "*", *fields)
        assert await (await job.enqueue("next")).result(LIMIT_S) == "next"


async def test_an_unknown_function_is_put_back_and_told_once(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncjobs.worker")
    put_back = events_of(app, JobPutBack)
    job = register(app, jobs.echo)
    async with app:
        async with Worker(app):
            ids = [
                await store_raw(app, Envelope("not.here", [1], {}, enqueued_ms=1).encode())
                for _ in range(5)
            ]
            assert await (await job.enqueue("next")).result(LIMIT_S) == "next"
            await until(lambda: len(put_back) >= 5)
            for id in ids:
                await ended(app, id, State.SCHEDULED)
            (record,) = await app.backend.get([JobRef("default", ids[0])])
            assert record is not None
            assert record.envelope is not None
            stored = Envelope.decode(record.envelope)
            assert (stored.name, stored.args, stored.attempt) == ("not.here", [1], 1)
            assert stored.headers.fields["first_unknown_at"] > 0
        assert caplog.text.count("put back") == 1
        # A worker that has it runs it.
        register(app, jobs.echo, name="not.here")
        async with Worker(app):
            assert await app.handle(ids[0], "default").result(LIMIT_S) == 1


async def test_an_unknown_function_is_dead_in_the_end(server: Server) -> None:
    app = AsyncJobs(server.url, unknown_ttl=0)
    async with app, Worker(app):
        raw = Envelope("not.here", [1], {}, enqueued_ms=1).encode()
        id = await store_raw(app, raw)
        with pytest.raises(JobFailed, match=r"not\.here"):
            await app.handle(id, "default").result(LIMIT_S)


@pytest.mark.parametrize("headers", [None, {"other": 1}, [1], "text"])
async def test_a_newer_envelope_is_put_back_as_it_is(app: AsyncJobs, headers: object) -> None:
    job = register(app, jobs.echo)
    raw = {"v": 99, "f": "echo", "n": 1, "e": 1, "new": {"field": [1, 2]}, "h": headers}
    async with app, Worker(app):
        id = await store_raw(app, orjson.dumps(raw))
        await ended(app, id, State.SCHEDULED)
        assert await (await job.enqueue("next")).result(LIMIT_S) == "next"
        (record,) = await app.backend.get([JobRef("default", id)])
        assert record is not None
        assert record.envelope is not None
        kept = orjson.loads(record.envelope)
        assert {key: kept[key] for key in ("v", "f", "new")} == {
            key: raw[key] for key in ("v", "f", "new")
        }
