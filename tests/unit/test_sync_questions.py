"""What sync code asks of a job by `result_sync` and so on, from any thread without a loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from asyncjobs import AsyncJobs, JobFailed, JobFunction, State, Worker
from asyncjobs.errors import ConfigError, JobNotFound, NotOpen, ResultTimeout, UsageError

LIMIT_S = 20
ROOT = Path(__file__).parents[2]

T = TypeVar("T")


def double(number: int) -> int:
    if number < 0:
        raise ValueError("below zero")
    return 2 * number


@pytest.fixture(params=["valkey", "redis"])
def app(request: pytest.FixtureRequest, servers: Any) -> Iterator[AsyncJobs]:
    app = AsyncJobs(servers.get(request.param).url, prefix=f"test-{os.urandom(6).hex()}")
    yield app
    if app._openings.background is not None:
        app._openings.background.close()


@pytest.fixture
def job(app: AsyncJobs) -> JobFunction[[int], int]:
    return app.job(retry=False)(double)


def beside_a_worker(app: AsyncJobs, view: Callable[[], T]) -> T:
    """What `view` returns while a worker runs on a loop of its own, as in another process."""
    own = AsyncJobs(app._openings.url, prefix=app.settings.prefix)
    for function in app.registry.functions():
        own.job(retry=False)(function.function)

    async def work() -> T:
        async with Worker(own):
            return await asyncio.to_thread(view)

    return asyncio.run(work())


def test_a_view_waits_for_its_job(app: AsyncJobs, job: JobFunction[[int], int]) -> None:
    def view() -> None:
        handle = job.enqueue_sync(21)
        assert handle.result_sync(timeout=LIMIT_S) == 42
        assert handle.status_sync() is State.SUCCEEDED
        assert handle.result_sync(timedelta(seconds=LIMIT_S)) == 42
        assert app.handle(str(handle.ref)).result_sync() == 42
        with pytest.raises(JobFailed, match="below zero"):
            job.enqueue_sync(-1).result_sync(LIMIT_S)

    beside_a_worker(app, view)


def test_many_threads_wait_at_a_time(app: AsyncJobs, job: JobFunction[[int], int]) -> None:
    def ask(number: int) -> int:
        return job.enqueue_sync(number).result_sync(timeout=LIMIT_S)

    def view() -> list[int]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(ask, range(64)))

    assert beside_a_worker(app, view) == [2 * number for number in range(64)]


def test_without_a_worker(app: AsyncJobs, job: JobFunction[[int], int]) -> None:
    handle = job.options(id="one").enqueue_sync(1)
    assert handle.status_sync() is State.READY
    with pytest.raises(ResultTimeout, match="no live worker serves queue 'default'"):
        handle.result_sync(timeout=0.01)
    with pytest.raises(ConfigError, match="timeout"):
        handle.result_sync(timeout=-1)
    for ask in (job.handle("nobody").status_sync, job.handle("nobody").result_sync):
        with pytest.raises(JobNotFound):
            ask()


def test_all_else_that_sync_code_asks(app: AsyncJobs, job: JobFunction[[int], int]) -> None:
    handle = job.options(id="one").enqueue_sync(1)
    assert (handle.info_sync().state, handle.info_sync().args) == (State.READY, [1])
    assert handle.cancel_sync() is True
    assert handle.cancel_sync() is False
    assert handle.status_sync() is State.CANCELLED


def test_where_nothing_was_enqueued_before(app: AsyncJobs, job: JobFunction[[int], int]) -> None:
    with pytest.raises(JobNotFound):
        app.handle("default/x").status_sync()
    assert app._openings.background is not None


def test_from_a_thread_beside_an_open_app() -> None:
    app = AsyncJobs("memory:")
    job = app.job(double)

    async def main() -> None:
        async with app, Worker(app):
            handle = await job.enqueue(4)
            assert await asyncio.to_thread(handle.result_sync, LIMIT_S) == 8
            assert await asyncio.to_thread(handle.status_sync) is State.SUCCEEDED

    asyncio.run(main())


def test_a_running_loop_is_not_blocked() -> None:
    app = AsyncJobs("memory:")
    job = app.job(double)

    async def main() -> None:
        async with app:
            handle = await job.enqueue(1)
            with pytest.raises(UsageError, match=r"would block.*await handle\.result\(\)"):
                handle.result_sync()
            with pytest.raises(UsageError, match=r"would block.*await handle\.status\(\)"):
                handle.status_sync()

    asyncio.run(main())


def test_a_store_in_memory_is_asked_only_where_it_is_open() -> None:
    with pytest.raises(NotOpen, match="async with app"):
        AsyncJobs("memory:").handle("x").status_sync()


def test_a_loop_that_ends_meanwhile_ends_the_wait(
    app: AsyncJobs, job: JobFunction[[int], int]
) -> None:
    raised: list[BaseException] = []

    async def main() -> threading.Thread:
        async with app:
            handle = await job.options(delay=600).enqueue(1)

            def ask() -> None:
                try:
                    handle.result_sync()
                except BaseException as error:
                    raised.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            while not any("_result" in str(task.get_coro()) for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
        return thread

    asyncio.run(main()).join(LIMIT_S)
    assert len(raised) == 1


LATE = """
import atexit, sys, threading
from asyncjobs import AsyncJobs

app = AsyncJobs(sys.argv[1], prefix=sys.argv[2])


@app.job
def add(number: int) -> None: ...


def late():
    for ask in (lambda: add.enqueue_sync(1), add.handle("x").status_sync):
        try:
            ask()
        except Exception as error:
            print(type(error).__name__, error)


class Last:
    def __del__(self):
        late()


def after_main():
    threading.main_thread().join()
    late()


if sys.argv[3] == "atexit":
    atexit.register(late)
elif sys.argv[3] == "thread":
    threading.Thread(target=after_main).start()
else:
    last = Last()
"""


@pytest.mark.parametrize("how", ["atexit", "thread", "del"])
def test_the_first_one_at_the_interpreters_end_is_refused_with_words(
    tmp_path: Path, servers: Any, how: str
) -> None:
    program = tmp_path / "late.py"
    program.write_text(LATE)
    done = subprocess.run(
        [sys.executable, program, servers.get("valkey").url, f"test-{os.urandom(6).hex()}", how],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = "NotOpen the interpreter is ending, and no connection to the store can be opened"
    assert done.stdout.count(said) == 2, done.stdout
    assert done.stderr == ""
