"""The embedded store as apps and workers use it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import anyio
import pytest

from asyncjobs import AsyncJobs, JobHandle, Worker
from asyncjobs.errors import StoreUnavailable, UnsupportedLayout
from asyncjobs.model.job import NewJob
from asyncjobs.store.embedded import backend as embedded_backend
from asyncjobs.store.embedded.backend import EmbeddedBackend
from asyncjobs.store.embedded.folder import StoreFolder
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from tests.embedded.kit import Store
from tests.kit.environment import LIMIT_S, environment
from tests.kit.waiting import is_alive

pytestmark = pytest.mark.anyio

TASKS = """
from asyncjobs import AsyncJobs
app = AsyncJobs()

@app.job
async def greet() -> str:
    return "hello"
"""
ENQUEUE = """
import asyncio, tasks

async def main():
    async with tasks.app:
        print((await tasks.greet.enqueue()).id)

asyncio.run(main())
"""


@dataclass
class Stage:
    """What the jobs of one test wait for, and what they did."""

    gate: asyncio.Event
    ran: list[int] = field(default_factory=list)


STAGE: dict[int, Stage] = {}


async def double(number: int) -> int:
    return number * 2


async def work_at_gate(number: int) -> int:
    await STAGE[0].gate.wait()
    STAGE[0].ran.append(number)
    return number


async def outcome(handle: JobHandle[int]) -> int:
    """Its result, also across an outage of the store."""
    while True:
        try:
            return await handle.result()
        except StoreUnavailable:
            await anyio.sleep(0.01)


async def stopped(store: Store) -> None:
    await asyncio.to_thread(store.until_stopped)


def new_backend(store: Store) -> EmbeddedBackend:
    return EmbeddedBackend(StoreFolder(store.folder), StoreSettings())


async def has_job(backend: EmbeddedBackend, name: str) -> list[bool]:
    """False when a job with this id was stored before."""
    job = NewJob("default", name, 2, b"{}")
    batch = EnqueueBatch(f"token-{os.urandom(6).hex()}", [job])
    return [place is None for place in (await backend.enqueue(batch)).places]


async def test_without_a_url_an_app_uses_the_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.folder.parent)
    app = AsyncJobs()

    job = app.job(double)
    async with app:
        assert app.store_info.name == "valkey"
        assert app.store_info.address == store.url
        assert app.store_info.warnings == ()
        async with Worker(app):
            handles = await app.enqueue_many([job.bind(n) for n in range(20)])
            results = [await handle.result(timeout=LIMIT_S) for handle in handles]
    assert results == [n * 2 for n in range(20)]
    await stopped(store)
    async with app:
        assert app.store_info.address == store.url
    await stopped(store)


async def test_settings_keep_jobs_and_open_no_port(store: Store) -> None:
    backend = new_backend(store)
    await backend.open()
    wanted = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "unixsocketperm": "700",
    }
    for name, value in wanted.items():
        reply = await backend._link.call(b"CONFIG", b"GET", name)
        assert reply[1].decode() == value
    await backend.close()
    await backend.close()
    await stopped(store)


async def test_a_twin_rides_on_its_parent(store: Store) -> None:
    backend = new_backend(store)
    await backend.open()
    twin = backend.for_thread()
    assert await has_job(twin, "a") == [True]
    await twin.close()
    assert await has_job(backend, "a") == [False]
    twin = backend.for_thread()
    assert await has_job(twin, "a") == [False]
    await backend.close()
    # Not opened, it is no user: it does not keep the server.
    await stopped(store)
    with pytest.raises(StoreUnavailable):
        await has_job(twin, "a")
    await twin.close()


async def test_an_opened_twin_is_a_user(store: Store) -> None:
    backend = new_backend(store)
    await backend.open()
    running = store.record
    twin = backend.for_thread()
    await twin.open()
    await backend.close()
    assert await has_job(twin, "a") == [True]
    assert store.record == running
    await twin.close()
    await stopped(store)


async def test_a_thread_enqueues_while_the_app_is_closed(store: Store) -> None:
    app = AsyncJobs(backend=new_backend(store))

    job = app.job(double)
    handle = await asyncio.to_thread(job.enqueue_sync, 1)
    async with app:
        assert (await handle.info()).state == "ready"
    background = app._openings.background
    assert background is not None
    await asyncio.to_thread(background.close)
    await stopped(store)


async def test_a_cancelled_open_leaves_no_user(store: Store) -> None:
    backend = new_backend(store)
    async with anyio.create_task_group() as tasks:

        async def open_it() -> None:
            await backend.open()

        tasks.start_soon(open_it)
        with anyio.fail_after(LIMIT_S):
            while not (store.folder / "users").exists():
                await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    await backend.close()
    await stopped(store)


async def test_an_open_that_fails_leaves_no_user(store: Store) -> None:
    backend = new_backend(store)
    await backend.open()
    await backend._link.call(b"SET", b"asyncjobs:layout", b"99 9.8.7")
    other = new_backend(store)
    with pytest.raises(UnsupportedLayout, match="embedded:"):
        await other.open()
    await backend.close()
    await stopped(store)


@pytest.mark.parametrize("who", ["server", "guardian"])
async def test_a_worker_goes_on_when_the_server_or_its_guardian_is_killed(
    store: Store, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_backend, "FOLDER_CHECK_S", 0.05)
    app = AsyncJobs(store.url)
    stage = STAGE[0] = Stage(asyncio.Event())
    work = app.job(work_at_gate)
    async with app, Worker(app, concurrency=50):
        handles = await app.enqueue_many([work.bind(n) for n in range(200)])
        running = store.record
        # KILL of a process keeps what it has handed to the kernel, so nothing may be missing.
        await asyncio.to_thread(store.until_written)
        os.kill(running._asdict()[who], signal.SIGKILL)
        with anyio.fail_after(LIMIT_S):
            while is_alive(running.server):
                await anyio.sleep(0.01)
        stage.gate.set()
        with anyio.fail_after(LIMIT_S):
            assert [await outcome(handle) for handle in handles] == list(range(200))
    assert set(stage.ran) == set(range(200))
    await stopped(store)


async def test_a_loop_that_ended_without_leaving_holds_nothing(store: Store) -> None:
    def run() -> None:
        backend = new_backend(store)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(backend.open())
        assert backend._watcher is not None
        backend._watcher.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(backend._link.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    await asyncio.to_thread(run)
    gc.collect()
    await stopped(store)


def start(store: Store, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=store.folder.parent,
        env=environment({"TMPDIR": str(store.temporary)}),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )


def test_client_and_worker_need_no_url_and_never_meet(store: Store) -> None:
    project = store.folder.parent
    (project / "tasks.py").write_text(TASKS)
    (project / "main.py").write_text(ENQUEUE)
    job = start(store, "main.py").stdout.strip()
    store.until_stopped()
    worker = start(store, "-m", "asyncjobs", "worker", "tasks:app", "--burst")
    assert f"embedded:{store.folder}" in worker.stderr
    assert "1 job taken" in worker.stderr
    assert job
