"""Counts what the standard library is made of, one job for each file.

    python examples/stdlib_census --help

This process opens the embedded store (or starts the server that --server names), enqueues
the jobs and awaits their results; a worker in a process of its own runs them. Exit code 0:
every job is accounted for. 1: some are not, or the worker or the store failed. 2: a wrong
option. 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from files import job_id, priority, python_files
from plain import plain_loop
from progress import progress_of
from summary import Ending, Run, report
from tasks import Census, app, census_file

from asyncjobs import (
    AsyncJobsError,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobHandle,
    ResultError,
    ResultTimeout,
    ResultUnavailable,
    StoreError,
)
from asyncjobs.testing.servers import available_servers, start_server

HERE: Final = Path(__file__).resolve().parent
READERS: Final = 100
"""Results awaited at a time; they share one connection."""
NEXT: Final = """
What to try next
  make demo ARGS="--limit 300 --processes 1"       fewer files, on one core
  make demo ARGS="--folder . --log worker.log"     another source tree; keep the worker's log
  .venv/bin/asyncjobs worker --help                the worker's flags, signals and exit codes
  examples/stdlib_census/tasks.py                  the job function you have just run"""
STOP_LIMIT_S: Final = 15.0
LOG_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    folder: Path
    server: str
    limit: int | None
    concurrency: int
    processes: int
    timeout_s: float
    log: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the census; returns the exit code."""
    options = _parse(argv)
    files = python_files(options.folder)[: options.limit]
    if not files:
        print(f"no .py file in {options.folder}; choose another --folder", file=sys.stderr)
        return 2
    # A polite end from outside stops worker and store the same way as Ctrl-C.
    # A shell has a command in the background ignore SIGINT, and SIGTERM is passed on as one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory(prefix="census-") as scratch, ExitStack() as stack:
            log = options.log or Path(scratch, "worker.log")
            _choose_store(options.server, Path(scratch, "store"), stack)
            # Before there is a worker: it would have to share the cores with it.
            plain = plain_loop(files, options.processes)
            _say(
                f"plain     a plain loop would take {plain.seconds:.1f} s, by {plain.counted} files"
            )
            run, code = asyncio.run(_drive(options, files, log))
            run.plain = plain
            return _conclude(run, code, log)
    except AsyncJobsError as error:
        print(f"the census failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; worker and server are stopped", file=sys.stderr)
        return 130


def _choose_store(kind: str, home: Path, stack: ExitStack) -> None:
    """Set the environment from which this process and the worker know their store."""
    os.environ.pop("ASYNCJOBS_URL", None)
    if kind == "embedded":
        os.environ["ASYNCJOBS_HOME"] = str(home)
    else:
        server = stack.enter_context(start_server("redis" if kind == "redis" else "valkey"))
        os.environ["ASYNCJOBS_URL"] = server.url


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="stdlib_census", description="One job for each Python file of a folder."
    )
    stdlib = Path(sysconfig.get_path("stdlib"))
    add = parser.add_argument
    add("--folder", type=Path, default=stdlib, help="source tree (default: the stdlib)")
    stores = ("embedded", "valkey", "redis")
    add("--server", choices=stores, default="embedded", help="store to start (default: embedded)")
    add("--limit", type=_positive, metavar="N", help="only the first N files")
    add("--concurrency", type=_positive, default=64, metavar="N", help="of the worker")
    add("--processes", type=_positive, default=_cores(), metavar="N", help="files at a time")
    add("--timeout", type=_positive, default=120, metavar="S", help="seconds for the worker")
    add("--log", type=Path, metavar="FILE", help="keep the worker's log lines there")
    given = parser.parse_args(argv)
    if not given.folder.is_dir():
        parser.error(f"--folder: {given.folder} is no folder")
    needed = "valkey" if given.server == "embedded" else given.server
    if needed not in available_servers():
        parser.error(f"--server: there is no {given.server} server on this machine")
    return Options(
        folder=given.folder.resolve(),
        server=given.server,
        limit=given.limit,
        concurrency=given.concurrency,
        processes=given.processes,
        timeout_s=given.timeout,
        log=given.log,
    )


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


async def _drive(options: Options, files: list[Path], log: Path) -> tuple[Run, int | None]:
    """Enqueue the jobs and have them run; returns what came of it and the worker's exit code."""
    async with app:
        store = app.store_info
        _say(f"store     {store.name} {store.version}, {store.address.partition(':')[0]}")
        jobs = {job_id(path, options.folder): priority(path, options.folder) for path in files}
        started_s = time.perf_counter()
        handles = await app.enqueue_many(
            census_file.options(id=name, priority=urgency).bind(str(path))
            for path, (name, urgency) in zip(files, jobs.items(), strict=True)
        )
        enqueue_s = time.perf_counter() - started_s
        _say(f"enqueued  {len(handles):,} files of {options.folder}, at three priorities")
        run = Run(dict(jobs), enqueue_s=enqueue_s, processes=options.processes)
        return run, await _work(options, handles, run, log)


def _conclude(run: Run, code: int | None, log: Path) -> int:
    """Print the summary, and the worker's last words if it failed; returns the exit code."""
    _say("")
    _say(report(run))
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        print(f"\nthe worker {_ending(code)}; its last lines:", *lines, sep="\n", file=sys.stderr)
    if code == 0 and not run.unaccounted():
        _say(NEXT)
        return 0
    return 1


async def _work(
    options: Options, handles: list[JobHandle[Census]], run: Run, log: Path
) -> int | None:
    """Run a worker to its end and collect the results; returns its exit code.

    None when it took too long and was stopped.
    """
    started_s = time.perf_counter()
    worker = await _start_worker(options, log)
    _say(
        f"worker    pid {worker.pid}, processes {options.processes}, "
        f"concurrency {options.concurrency}"
    )
    reading = asyncio.create_task(_collect(handles, run, started_s, options.timeout_s))
    code: int | None = None
    try:
        async with asyncio.timeout(options.timeout_s):
            code = await worker.wait()
    except TimeoutError:
        print(f"no end of the worker within {options.timeout_s:g} s", file=sys.stderr)
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await _stop(worker)
    if not reading.cancelled():
        reading.result()
    # With the worker gone nothing more will end: what is left is asked once, not awaited.
    lost = run.unaccounted()
    missing = [handle for handle in handles if handle.id in lost]
    await _collect(missing, run, started_s, 0)
    return code


async def _start_worker(options: Options, log: Path) -> asyncio.subprocess.Process:
    # Settings of the user's own workers must not reach this one.
    store = ("ASYNCJOBS_URL", "ASYNCJOBS_HOME")
    kept = {n: value for n, value in os.environ.items() if n in store or "ASYNCJOBS_" not in n}
    command = [
        *(sys.executable, "-m", "asyncjobs", "worker", "tasks:app", "--burst"),
        *("--concurrency", str(options.concurrency), "--job-processes", str(options.processes)),
        *("--grace", "5s", "--log-format", "console"),
    ]
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=HERE,
            env={
                **kept,
                "NO_COLOR": "1",
                # Parsing somebody's file warns of somebody's mistakes.
                "PYTHONWARNINGS": "ignore::SyntaxWarning,ignore::DeprecationWarning",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # Ctrl-C is for this process, which stops the worker before the store.
            start_new_session=True,
        )


async def _stop(worker: asyncio.subprocess.Process) -> None:
    """End the worker: it gives its jobs back, or is killed when it does not."""
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        async with asyncio.timeout(STOP_LIMIT_S):
            await worker.wait()
    except TimeoutError:
        print(f"the worker does not stop within {STOP_LIMIT_S:g} s; killed", file=sys.stderr)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def _collect(
    handles: Iterable[JobHandle[Census]], run: Run, started_s: float, timeout_s: float
) -> None:
    """Await the results, READERS of them at a time, each for at most `timeout_s`."""
    queue = iter(handles)

    async def read() -> None:
        for handle in queue:
            ending = await _ending_of(handle, timeout_s)
            run.endings[handle.id] = ending
            if ending.is_accounted_for:
                run.work_s = time.perf_counter() - started_s
            progress.show(len(run.endings))

    # What is asked once more, after the worker's end, needs no bar.
    async with (
        progress_of(len(run.jobs), quiet=timeout_s == 0) as progress,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(READERS):
            group.create_task(read())


async def _ending_of(handle: JobHandle[Census], timeout_s: float) -> Ending:
    try:
        return Ending("succeeded", await handle.result(timeout=timeout_s))
    except JobDiscarded as error:
        return Ending("discarded", reason=str(error).partition(" was discarded: ")[2])
    except JobFailed as error:
        return Ending("dead", reason=str(error.args[0]))
    except JobCancelled:
        return Ending("cancelled")
    except ResultUnavailable as error:
        return Ending("succeeded", reason=str(error))
    except ResultTimeout:
        return await _state_of(handle)
    except (ResultError, StoreError) as error:
        return Ending("unknown", reason=str(error))


async def _state_of(handle: JobHandle[Census]) -> Ending:
    """Where a job is that has not ended; its end may come in between, and is asked again."""
    try:
        state = await handle.status()
    except (ResultError, StoreError) as error:
        return Ending("unknown", reason=str(error))
    return Ending("unknown" if state.is_final else str(state))


def _ending(code: int | None) -> str:
    if code is None:
        return "was stopped"
    return f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"


def _say(line: str) -> None:
    # Flushed, so that the lines keep their order when the output is a file or a pipe.
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
