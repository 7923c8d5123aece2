"""Job functions with isolation="process"."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncjobs import (
    AsyncJobs,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    MemoryLimit,
    ProcessDied,
    ResultUnavailable,
    RetryPolicy,
    State,
    Worker,
    constant,
)
from asyncjobs.worker.engine.attempt import Reason
from asyncjobs.worker.engine.processes import executor
from tests.kit.waiting import is_alive
from tests.worker import process_jobs as jobs
from tests.worker.kit import (
    LIMIT_S,
    eventually,
    processor_of,
    register,
    until,
    working,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]
ON_MEMORY = pytest.mark.parametrize("kind", ["memory"])
"""For what no store has a part in."""
AT_ONCE = RetryPolicy(max_attempts=3, backoff=constant(0))


def isolated(app: AsyncJobs, function: Callable[..., Any], **options: Any) -> Any:
    options.setdefault("retry", False)
    return register(app, function, isolation="process", **options)


async def failed(job: Any, *args: Any) -> JobFailed:
    handle = await job.enqueue(*args)
    with pytest.raises(JobFailed) as caught:
        await handle.result(LIMIT_S)
    return caught.value


async def read(path: Path) -> int:
    with anyio.fail_after(LIMIT_S):
        while not path.exists():
            await anyio.sleep(0.005)
    return int(path.read_text())


async def gone(pid: int) -> None:
    with anyio.fail_after(LIMIT_S):
        while is_alive(pid):
            await anyio.sleep(0.005)


# ── what comes through ───────────────────────────────────────────────────────────────


async def test_each_attempt_has_a_process_of_its_own(app: AsyncJobs) -> None:
    job = isolated(app, jobs.told)
    async with working(app):
        one, two = await job.enqueue({"a": [1, "é"]}), await job.enqueue(None)
        told, other = await one.result(LIMIT_S), await two.result(LIMIT_S)
    assert told["value"] == {"a": [1, "é"]}
    assert (told["id"], told["current"], told["attempt"], told["name"]) == (
        one.id,
        one.id,
        1,
        "told",
    )
    assert len({os.getpid(), told["pid"], other["pid"], told["parent"]}) == 4
    # One fork server for all, and it ends with the worker.
    assert told["parent"] == other["parent"]
    assert not is_alive(told["parent"])


@ON_MEMORY
async def test_an_async_function_has_a_loop_in_its_process(app: AsyncJobs) -> None:
    job = isolated(app, jobs.on_a_loop)
    async with working(app):
        value, pid = await (await job.enqueue(7)).result(LIMIT_S)
    assert value == 7
    assert pid != os.getpid()


@ON_MEMORY
async def test_an_error_keeps_its_class_its_fields_and_its_frames(app: AsyncJobs) -> None:
    seen: list[Any] = []
    job = isolated(app, jobs.fails, retry=[RetryPolicy(2, constant(0), on=jobs.Broken)])
    async with working(app):

        async def look(attempt: Any, call_next: Any) -> Any:
            try:
                return await call_next()
            except jobs.Broken as error:
                seen.append((error.status, str(error), attempt.number))
                raise

        app.middlewares.add_within(look)
        error = await failed(job, 5)
    assert seen == [(418, "broken by 5", 1), (418, "broken by 5", 2)]
    assert error.error_type == "tests.worker.process_jobs.Broken"
    assert "in fails" in error.remote_traceback
    assert "asyncjobs/worker" not in error.remote_traceback


@ON_MEMORY
async def test_odd_errors_end_only_the_attempt(app: AsyncJobs) -> None:
    job = isolated(app, jobs.fails_with)
    echo = isolated(app, jobs.told)
    kinds = ["exit", "interrupt", "os", "cancelled", "group"]
    async with working(app, concurrency=1):
        found = [(await failed(job, kind)).error_type for kind in kinds]
        assert (await (await echo.enqueue(1)).result(LIMIT_S))["value"] == 1
    assert [each.rpartition(".")[2] for each in found] == [
        "SystemExit",
        "KeyboardInterrupt",
        "FileNotFoundError",
        "CancelledError",
        "ExceptionGroup",
    ]


async def test_signals_of_a_job_work_from_its_process(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.signals, retry=AT_ONCE)
    async with working(app):
        with pytest.raises(JobDiscarded, match="not wanted"):
            await (await job.enqueue("discard")).result(LIMIT_S)
        assert await (await job.enqueue("retry")).result(LIMIT_S) == 2
        snoozed = await job.options(id=str(tmp_path / "id")).enqueue("snooze")
        # A snooze spends no attempt.
        assert await snoozed.result(LIMIT_S) == 1


async def test_progress_comes_through_while_it_runs(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.reports_and_waits)
    async with working(app):
        handle = await job.enqueue(str(tmp_path))

        async def is_seen() -> bool:
            info = await handle.info()
            return info.progress is not None and info.progress.done == 3

        await eventually(is_seen)
        (tmp_path / "gate").touch()
        await handle.result(LIMIT_S)


@ON_MEMORY
async def test_log_lines_belong_to_the_job(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    from asyncjobs.telemetry.logs import JobContextFilter

    job = isolated(app, jobs.logs, sensitive=["secret"])
    caplog.handler.addFilter(JobContextFilter())
    async with working(app):
        handle = await job.enqueue("hunter2-hunter2")
        await handle.result(LIMIT_S)
    (line,) = [record for record in caplog.records if record.name == "tests.process_jobs"]
    assert (line.job_id, line.job, line.order) == (handle.id, "logs", 7)  # type: ignore[attr-defined]
    assert line.process != os.getpid()
    assert line.levelno == logging.WARNING
    assert "hunter2" not in line.getMessage()
    assert "told *** of it" in line.getMessage()


@ON_MEMORY
async def test_much_output_and_many_reports_hold_nobody_up(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tests.process_jobs")
    says = isolated(app, jobs.says_much)
    reports = isolated(app, jobs.reports)
    async with working(app):
        assert await (await says.enqueue(300_000)).result(LIMIT_S) == 300_000
        assert await (await reports.enqueue(20_000)).result(LIMIT_S) is None


@ON_MEMORY
async def test_values_that_are_no_results(app: AsyncJobs) -> None:
    job = isolated(app, jobs.unkept)
    forgets = isolated(app, jobs.forgets)
    async with working(app):
        handle = await job.enqueue()
        with pytest.raises(ResultUnavailable, match="result of unkept"):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.SUCCEEDED
        assert "a coroutine that was not awaited" in str(await failed(forgets))


# ── a process that dies ──────────────────────────────────────────────────────────────


async def test_a_process_that_dies_is_a_failed_attempt(app: AsyncJobs) -> None:
    crash = isolated(app, jobs.segfaults)
    leave = isolated(app, jobs.exits)
    again = isolated(app, jobs.dies_at_first, retry=[RetryPolicy(2, constant(0), on=ProcessDied)])
    async with working(app) as worker:
        assert "ended by SIGSEGV" in str(await failed(crash))
        error = await failed(leave, 3)
        assert "ended with exit code 3" in str(error)
        assert error.error_type == "asyncjobs.errors.ProcessDied"
        # Our own frames tell nobody anything.
        assert "File" not in error.remote_traceback
        assert "exit code 0" in str(await failed(leave, 0))
        handle = await again.enqueue("")
        assert await handle.result(LIMIT_S) == 2
        assert worker.running == 0


@ON_MEMORY
async def test_the_fork_server_may_die(app: AsyncJobs, caplog: pytest.LogCaptureFixture) -> None:
    job = isolated(app, jobs.told)
    async with working(app):
        told = await (await job.enqueue(1)).result(LIMIT_S)
        os.kill(told["parent"], 9)
        await until(lambda: "is started again" in caplog.text)
        again = await (await job.enqueue(2)).result(LIMIT_S)
    assert again["value"] == 2
    assert again["parent"] != told["parent"]


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux limits memory")
@ON_MEMORY
async def test_memory_above_the_limit_is_a_failed_attempt(app: AsyncJobs) -> None:
    small = isolated(app, jobs.takes, max_memory="64MiB")
    free = isolated(app, jobs.takes, name="free")
    policy = RetryPolicy(2, constant(0), on=MemoryLimit)
    again = isolated(app, jobs.takes, name="again", max_memory=64 << 20, retry=[policy])
    async with working(app):
        # The limit is for what the attempt takes itself, whatever the app has imported.
        assert await (await small.enqueue(48 << 20)).result(LIMIT_S) == 48 << 20
        error = await failed(small, 128 << 20)
        assert error.error_type == "asyncjobs.errors.MemoryLimit"
        assert "max_memory=67,108,864 B" in str(error)
        assert "in takes" in error.remote_traceback
        assert await (await free.enqueue(128 << 20)).result(LIMIT_S) == 128 << 20
        handle = await again.enqueue(128 << 20)
        with pytest.raises(JobFailed):
            await handle.result(LIMIT_S)
        assert len((await handle.info()).errors) == 2


# ── a process that is ended ──────────────────────────────────────────────────────────


async def test_a_time_out_ends_the_process(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.stays, timeout=0.2)
    async with working(app):
        error = await failed(job, str(tmp_path))
    assert error.error_type == "TimeoutError"
    assert (tmp_path / "left").exists()  # its `finally` block has run
    await gone(await read(tmp_path / "pid"))


@pytest.mark.parametrize("function", [jobs.stays, jobs.stays_on_a_loop, jobs.has_child])
async def test_a_cancel_ends_the_process_and_what_it_started(
    app: AsyncJobs, tmp_path: Path, function: Any
) -> None:
    job = isolated(app, function)
    async with working(app):
        handle = await job.enqueue(str(tmp_path))
        pid = await read(tmp_path / "pid")
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
        await gone(pid)
        if function is jobs.has_child:
            await gone(await read(tmp_path / "grandchild"))
        else:
            assert (tmp_path / "left").exists()


@ON_MEMORY
async def test_who_ignores_a_stop_is_killed(
    app: AsyncJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STOP_S", 0.1)
    job = isolated(app, jobs.ignores)
    async with working(app):
        handle = await job.enqueue(str(tmp_path))
        pid = await read(tmp_path / "pid")
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(LIMIT_S)
    await gone(pid)
    assert (tmp_path / "left").exists()


@ON_MEMORY
async def test_what_an_attempt_leaves_behind_ends(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.leaves_child)
    async with working(app):
        await (await job.enqueue(str(tmp_path))).result(LIMIT_S)
        # It has inherited the line to the worker, and must not hold up anything.
        await gone(await read(tmp_path / "grandchild"))


async def test_a_stop_of_the_worker_gives_the_job_back(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.stays, retry=AT_ONCE)
    async with app:
        handle = await job.enqueue(str(tmp_path))
        async with Worker(app, grace=0) as worker:
            pid = await read(tmp_path / "pid")
            worker.stop()
        await gone(pid)
        assert await handle.status() is State.READY
        (tmp_path / "gate").touch()
        async with Worker(app):
            assert await handle.result(LIMIT_S) == "done"
            assert (await handle.info()).attempt == 1


@ON_MEMORY
async def test_an_attempt_may_finish_within_the_grace(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.stays)
    async with app:
        handle = await job.enqueue(str(tmp_path))
        async with Worker(app, grace=LIMIT_S) as worker:
            await read(tmp_path / "pid")
            worker.stop()
            (tmp_path / "gate").touch()
        assert await handle.result(LIMIT_S) == "done"


@ON_MEMORY
async def test_a_job_may_ask_whether_it_should_stop(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.asks)
    async with app:
        handle = await job.enqueue(str(tmp_path))
        async with Worker(app, grace=LIMIT_S) as worker:
            await read(tmp_path / "pid")
            worker.stop()
        assert await handle.result(LIMIT_S) == "shutdown"


@ON_MEMORY
async def test_a_job_may_give_its_slot_away_but_has_no_notes(
    app: AsyncJobs, tmp_path: Path
) -> None:
    notes = isolated(app, jobs.wants_notes)
    interrupted = isolated(app, jobs.is_interrupted)
    async with working(app):
        assert "do not work with isolation='process'" in str(await failed(notes))
        assert await (await interrupted.enqueue(str(tmp_path))).result(LIMIT_S) == 1


@ON_MEMORY
async def test_a_signal_that_the_worker_has_not_sent_ends_no_attempt(
    app: AsyncJobs, tmp_path: Path
) -> None:
    """A service manager may signal all processes of a service."""
    job = isolated(app, jobs.stays)
    async with working(app):
        handle = await job.enqueue(str(tmp_path))
        os.kill(await read(tmp_path / "pid"), signal.SIGTERM)
        (tmp_path / "gate").touch()
        assert await handle.result(LIMIT_S) == "done"


@ON_MEMORY
async def test_a_lost_lease_kills_at_once(app: AsyncJobs, tmp_path: Path) -> None:
    job = isolated(app, jobs.ignores)
    async with working(app) as worker:
        await job.enqueue(str(tmp_path))
        pid = await read(tmp_path / "pid")
        running = processor_of(worker).running
        (attempt,) = running._attempts
        attempt.stop_again(Reason.LEASE_LOST)
        await gone(pid)
        await until(lambda: not running)
    # It had no time to notice.
    assert not (tmp_path / "left").exists()


# ── how many, and which ──────────────────────────────────────────────────────────────


async def test_no_more_run_than_the_bound_and_the_rest_stays_in_the_store(
    app: AsyncJobs, tmp_path: Path
) -> None:
    job = isolated(app, jobs.stays)
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    async with working(app, job_processes=2) as worker:
        handles = [await job.enqueue(str(folder)) for folder in folders]
        await until(lambda: worker.running == 2)
        for folder in folders[:2]:
            await read(folder / "pid")
        assert await handles[2].status() is State.READY
        for folder in folders:
            (folder / "gate").touch()
        for handle in handles:
            assert await handle.result(LIMIT_S) == "done"


@ON_MEMORY
async def test_a_function_that_cannot_be_imported_refuses_the_start(app: AsyncJobs) -> None:
    from asyncjobs import ConfigError

    namespace: dict[str, Any] = {"__name__": jobs.__name__}
    exec("def hidden() -> None: ...", namespace)
    isolated(app, namespace["hidden"])
    with pytest.raises(ConfigError, match="has no function 'hidden'"):
        async with Worker(app):
            pass


async def test_thousands_of_jobs_survive_ten_that_crash(app: AsyncJobs) -> None:
    """As many as a quick run allows; see tests/guarantees for 1,000."""
    job = isolated(app, jobs.segfaults_if, retry=RetryPolicy(2, constant(0)))
    async with working(app) as worker:
        handles = [await job.enqueue(number, 20) for number in range(1, 61)]
        found = [
            await asyncio.gather(each.result(LIMIT_S), return_exceptions=True) for each in handles
        ]
        assert worker.lease is not None
    dead = [number for number, (value,) in enumerate(found, 1) if isinstance(value, JobFailed)]
    assert dead == [20, 40, 60]
    assert sum(value == number for number, (value,) in enumerate(found, 1)) == 57
