from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncjobs
from asyncjobs import AsyncJobs, JobRegistry, errors
from asyncjobs.client import opening
from asyncjobs.errors import (
    ArgumentsError,
    ConfigError,
    EncodeError,
    NotOpen,
    PayloadTooLarge,
    StoreUnavailable,
    UsageError,
)
from asyncjobs.events import Event, JobEnqueued
from asyncjobs.options.app import AppSettings
from asyncjobs.store import URL_VARIABLE, embedded
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import StoreInfo

pytestmark = pytest.mark.anyio

LIMIT_S = 20
ROOT = Path(__file__).parents[2]


async def send(user_id: int) -> str:
    return str(user_id)


class Store(MemoryBackend):
    """The memory store, with a record of being opened and closed; may fail to open."""

    def __init__(self) -> None:
        super().__init__(AppSettings().store())
        self.log: list[str] = []
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> StoreInfo:
        self.log.append("open")
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return (await super().open())._replace(warnings=("maxmemory-policy is volatile-lru",))

    async def close(self) -> None:
        self.log.append("close")
        await super().close()


# ── opening ──────────────────────────────────────────────────────────────────────────


async def test_it_is_entered_any_number_of_times_and_closed_once() -> None:
    store = Store()
    app = AsyncJobs(backend=store)
    async with app as entered:
        assert entered is app
        async with app:
            assert app.backend is store
            assert app.store_info.name == "memory"
        await app.job(send).enqueue(1)
        assert store.log == ["open"]
    assert store.log == ["open", "close"]
    with pytest.raises(NotOpen):
        _ = app.store_info
    async with app:
        assert store.log == ["open", "close", "open"]


async def test_those_who_come_while_it_opens_wait_for_it() -> None:
    store = Store()
    store.gate.clear()
    app = AsyncJobs(backend=store)

    async def use() -> None:
        async with app:
            assert app.client.backend is store

    users = [asyncio.create_task(use()) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(NotOpen, match="just being opened"):
        _ = app.client
    store.gate.set()
    await asyncio.gather(*users)
    assert store.log[:1] == ["open"]
    assert store.log.count("open") == store.log.count("close")


async def test_a_store_that_cannot_be_opened_leaves_nothing_open() -> None:
    store = Store()
    store.fault = StoreUnavailable("the store at fake: is not available")
    app = AsyncJobs(backend=store)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await app.__aenter__()
    assert store.log == ["open", "close"] * 2
    store.fault = None
    async with app:
        assert app.backend is store


async def test_warnings_of_the_store_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "asyncjobs"):
        async with AsyncJobs(backend=Store()):
            pass
    assert "maxmemory-policy is volatile-lru" in caplog.text


async def test_a_url_is_needed_at_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.setattr(embedded, "is_installed", lambda: False)
    app = AsyncJobs()
    with pytest.raises(ConfigError, match=rf"{URL_VARIABLE}=redis:.*framework\[embedded\]"):
        await app.__aenter__()
    monkeypatch.setenv(URL_VARIABLE, "memory:")
    async with app:
        assert app.store_info.address == "memory:"


async def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'amqp'.*redis://.*memory:"):
        await AsyncJobs("amqp://localhost").__aenter__()


async def test_what_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match="not both"):
        AsyncJobs("memory:", backend=Store())
    with pytest.raises(ConfigError, match="result_ttl"):
        AsyncJobs("memory:", result_ttl=-1)


async def test_jobs_in_memory_end_with_the_opening() -> None:
    """Else the jobs of one test run in the next one."""
    app = AsyncJobs("memory:")
    job = app.job(send)
    for _ in range(2):
        async with app, app:
            async with app:
                assert (await job.options(id="1").enqueue(1)).is_new is True
            assert (await job.options(id="1").enqueue(1)).is_new is False


async def test_jobs_in_a_memory_store_of_ones_own_outlive_the_opening() -> None:
    app = AsyncJobs(backend=MemoryBackend(AppSettings().store()))
    job = app.job(send)
    for is_new in (True, False):
        async with app:
            assert (await job.options(id="1").enqueue(1)).is_new is is_new


def test_one_app_serves_one_loop_after_the_other() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)

    async def use() -> bool | None:
        async with app:
            return (await job.enqueue(1)).is_new

    assert [asyncio.run(use()), asyncio.run(use())] == [True, True]


def test_a_loop_that_ended_without_leaving_is_forgotten() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)

    async def use() -> bool | None:
        await app.__aenter__()
        return (await job.enqueue(1)).is_new

    assert [asyncio.run(use()), asyncio.run(use())] == [True, True]


async def test_another_loop_is_named() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)

    async def elsewhere() -> list[str]:
        texts = []
        for call in (app.__aenter__(), job.enqueue(1), job.handle("1").status()):
            try:
                await call
            except NotOpen as error:
                texts.append(str(error))
        return texts

    async with app:
        texts = await asyncio.to_thread(asyncio.run, elsewhere())
        assert len(texts) == 3
        assert all("another event loop" in text for text in texts)


async def test_another_library_than_asyncio_is_named() -> None:
    app = AsyncJobs("memory:")
    said: list[BaseException] = []

    def drive() -> None:
        # A thread has no asyncio loop: to the coroutine this is what Trio looks like.
        try:
            app.__aenter__().send(None)
        except UsageError as error:
            said.append(error)

    await asyncio.to_thread(drive)
    assert len(said) == 1
    assert "runs on asyncio" in str(said[0])
    assert "Trio" in str(said[0])


def in_child(app: AsyncJobs, answers: Any) -> None:
    async def use() -> None:
        await app.__aenter__()

    try:
        asyncio.run(use())
    except NotOpen as error:
        answers.send(str(error))


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_is_named() -> None:
    app = AsyncJobs("memory:")
    ours, theirs = multiprocessing.Pipe()
    async with app:
        # Started on the loop's own thread, as a server that forks its workers late does.
        child = multiprocessing.get_context("fork").Process(target=in_child, args=(app, theirs))
        child.start()
        assert await asyncio.to_thread(ours.poll, LIMIT_S)
        text = ours.recv()
        await asyncio.to_thread(child.join, LIMIT_S)
    assert f"in process {os.getpid()}" in text
    assert "forked child" in text
    assert "spawn" in text


# ── enqueueing ───────────────────────────────────────────────────────────────────────


async def test_before_opening_the_error_shows_the_lifespan_lines() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)
    with pytest.raises(NotOpen) as caught:
        await job.enqueue(1)
    for line in (
        "async with app:",
        "from asyncjobs.integrations.asgi import lifespan",
        "lifespan=lifespan(app)",
        "with TestClient(web) as client:",
    ):
        assert line in str(caught.value)
    with pytest.raises(NotOpen):
        await app.enqueue_many([job.bind(1)])
    with pytest.raises(NotOpen):
        _ = app.backend


async def note(text: str) -> None: ...


async def test_bad_calls_store_nothing() -> None:
    app = AsyncJobs("memory:", max_payload=200)
    job: Any = app.job(note)
    async with app:
        with pytest.raises(ArgumentsError):
            await job.enqueue()
        with pytest.raises(EncodeError):
            await job.enqueue({1})
        with pytest.raises(PayloadTooLarge, match="200"):
            await job.enqueue("x" * 200)
        with pytest.raises(EncodeError):
            await app.enqueue_many([job.bind("a"), job.bind({1})])
        assert await app.backend.inspect.queues.names() == []


async def test_enqueue_many_keeps_the_order() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)
    async with app:
        calls = [job.options(id=str(n % 1_500)).bind(n) for n in range(2_500)]
        handles = await app.enqueue_many(calls)
        assert [handle.id for handle in handles] == [str(n % 1_500) for n in range(2_500)]
        assert [handle.is_new for handle in handles] == [True] * 1_500 + [False] * 1_000
        assert await app.enqueue_many([]) == []


async def test_an_included_registry_enqueues_through_the_app() -> None:
    app, registry = AsyncJobs("memory:"), JobRegistry()
    job = registry.job(queue="mail")(send)
    app.include(registry)
    heard: list[Event] = []
    app.on(JobEnqueued, heard.append)
    async with app:
        handle = await job.enqueue(1)
    assert heard == [JobEnqueued(handle.ref, job.name, True)]
    assert app.local_queues == ("default", "mail")


# ── enqueue_sync ─────────────────────────────────────────────────────────────────────


async def test_threads_enqueue_through_the_open_app() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)
    async with app:
        handles = await asyncio.gather(*(asyncio.to_thread(job.enqueue_sync, n) for n in range(20)))
        assert all(handle.is_new for handle in handles)
        assert (await handles[0].info()).args == [0]
        with pytest.raises(ArgumentsError):
            await asyncio.to_thread(job.enqueue_sync)  # type: ignore[call-arg]


async def test_on_a_running_loop_it_says_what_to_write() -> None:
    app = AsyncJobs("memory:")
    job = app.job(send)
    async with app:
        with pytest.raises(UsageError, match=r"await f\.enqueue"):
            job.enqueue_sync(1)


def test_a_store_in_memory_cannot_be_reached_from_a_background_loop() -> None:
    app = AsyncJobs("memory:")
    with pytest.raises(NotOpen, match="async with app"):
        app.job(send).enqueue_sync(1)


@pytest.fixture
def store_url(servers: Any) -> str:
    return str(servers.get("valkey").url)


@pytest.fixture
def sync_app(store_url: str) -> Iterator[AsyncJobs]:
    app = AsyncJobs(store_url, prefix=f"test-{os.urandom(6).hex()}")
    yield app
    if app._openings.background is not None:
        app._openings.background.close()


def portals() -> int:
    return sum(thread.name == "asyncjobs enqueue_sync" for thread in threading.enumerate())


def test_without_a_loop_a_background_thread_sends(sync_app: AsyncJobs) -> None:
    job = sync_app.job(send)
    before = portals()
    handles = [job.options(id="same").enqueue_sync(1) for _ in range(2)]
    assert [handle.is_new for handle in handles] == [True, False]
    threads = [threading.Thread(target=job.enqueue_sync, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert portals() == before + 1
    with pytest.raises(NotOpen):
        asyncio.run(handles[0].status())

    async def look() -> object:
        async with sync_app:
            return await handles[0].status()

    assert asyncio.run(look()) is asyncjobs.State.READY
    assert sync_app._openings.background is not None
    sync_app._openings.background.close()
    assert portals() == before
    assert job.enqueue_sync(1).is_new


def test_a_background_thread_ends_with_the_interpreter_and_not_in_a_fork(store_url: str) -> None:
    script = """
import multiprocessing, sys
from asyncjobs import AsyncJobs
import jobs_of_test as jobs

def child():
    assert jobs.work.enqueue_sync(2).is_new

if __name__ == "__main__":
    assert jobs.work.enqueue_sync(1).is_new
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == 0, process.exitcode
    assert jobs.work.options(id="2").enqueue_sync(1).is_new
    print("done")
"""
    tasks = """
import sys
from asyncjobs import AsyncJobs
app = AsyncJobs(sys.argv[1], prefix=sys.argv[2])
@app.job
def work(number: int) -> None: ...
"""
    prefix = f"test-{os.urandom(6).hex()}"
    source = (
        "import sys, types\nmodule = types.ModuleType('jobs_of_test')\n"
        f"exec({tasks!r}, module.__dict__)\nsys.modules['jobs_of_test'] = module\n{script}"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", source, store_url, prefix],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")


def test_an_unreachable_store_is_an_error_in_the_calling_thread() -> None:
    app = AsyncJobs("redis://:secret@127.0.0.1:1", connect_timeout=0.2)
    job = app.job(send)
    with pytest.raises(StoreUnavailable) as caught:
        job.enqueue_sync(1)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


# ── the shop front ───────────────────────────────────────────────────────────────────


def test_the_public_names() -> None:
    assert len(set(asyncjobs.__all__)) == len(asyncjobs.__all__)
    for name in asyncjobs.__all__:
        assert getattr(asyncjobs, name) is not None
    assert set(errors.__all__) <= set(asyncjobs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = asyncjobs.nothing


async def test_the_unrelated_distribution_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "_namesake_checked", threading.Event())
    monkeypatch.setattr(opening.metadata, "distribution", lambda name: name)
    with caplog.at_level(logging.WARNING, "asyncjobs"):
        for _ in range(2):
            async with AsyncJobs("memory:"):
                pass
    assert caplog.text.count("pip uninstall asyncjobs") == 1


def test_a_job_of_the_package_itself_does_not_import_the_worker() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import asyncjobs, sys; print('asyncjobs.worker' in sys.modules)"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"
