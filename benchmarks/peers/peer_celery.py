"""Celery: it has no asyncio worker, so a job is run by one of 1,000 threads of its thread pool,
which was the fastest of its pools for these shapes here; callers are threads too. One process,
like the others: prefork would be one for each core.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery, chord
from celery.signals import worker_ready

from benchmarks.peers import kit

app = Celery("jobs")
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_pool_limit=kit.CALLERS,
    broker_connection_retry_on_startup=True,
)


# Threads count: a decrement is not one step.
counting = threading.Lock()


@app.task(name="noop")  # type: ignore[untyped-decorator,unused-ignore]
def noop(number: int, text: str) -> None:
    with counting:
        kit.count.start()
        kit.count.end()


@app.task(name="sleep")  # type: ignore[untyped-decorator,unused-ignore]
def sleep(number: int, text: str) -> None:
    with counting:
        kit.count.start()
    time.sleep(0.1)
    with counting:
        kit.count.end()


@app.task(name="pickup")  # type: ignore[untyped-decorator,unused-ignore]
def pickup(number: int, text: str) -> None:
    with counting:
        kit.count.picked(number, text)


@app.task(name="child", ignore_result=False)  # type: ignore[untyped-decorator,unused-ignore]
def child(number: int, text: str) -> None:
    """Its result is kept, for a chord counts by results."""


@app.task(name="last")  # type: ignore[untyped-decorator,unused-ignore]
def last() -> None:
    with counting:
        kit.count.start()
        kit.count.end()


def _enqueue(name: str, jobs: int, callers: int) -> float:
    task = app.tasks[name]

    def caller(first: int) -> None:
        for number in range(first, jobs, callers):
            task.apply_async((number, kit.text_of(number)))

    started_s = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(caller, range(callers)))
    return time.perf_counter() - started_s


def _feed(jobs: int) -> None:
    first_s = time.monotonic() + 0.1
    with ThreadPoolExecutor(kit.CALLERS) as pool:
        sent = []
        for number in range(jobs + kit.WARM):
            planned_s = first_s + number * kit.GAP_S
            time.sleep(max(0.0, planned_s - time.monotonic()))
            text = kit.WARM_TEXT if number < kit.WARM else kit.text_of(number)
            sent.append(pool.submit(pickup.apply_async, (int(planned_s * 1e6), text)))
        for call in sent:
            call.result()


def _chord(options: Namespace) -> dict[str, float]:
    count, all_run = kit.count, threading.Event()
    count.left, count.ring = 1, all_run.set
    _start_worker()
    time.sleep(1)  # until the worker waits for its first job
    started_s = time.perf_counter()
    children = [child.s(number, kit.text_of(number)) for number in range(options.jobs)]
    chord(children)(last.si())
    if not all_run.wait(options.limit):
        raise SystemExit(f"the last job has not run in {options.limit:g} s")
    return {"seconds": count.ended_s - started_s}


def _work(options: Namespace) -> dict[str, float]:
    """The worker command's own program in this process; a thread waits for the last job."""
    count, all_run = kit.count, threading.Event()
    count.left, count.ring = options.jobs, all_run.set
    if options.shape == kit.PICKUP:
        count.left += kit.WARM
    else:
        _enqueue(options.shape, options.jobs, kit.CALLERS)
    _start_worker()
    if options.shape == kit.PICKUP:
        time.sleep(1)  # until the worker waits for its first job
    with kit.Feeder(options.shape):
        if not all_run.wait(options.limit):
            raise SystemExit(
                f"{count.left:,} of {options.jobs:,} jobs were not done in {options.limit:g} s"
            )
    return kit.figures(options.shape)


def _start_worker() -> None:
    ready = threading.Event()
    worker_ready.connect(lambda **_: ready.set(), weak=False)
    threading.Thread(target=_worker, daemon=True).start()
    if not ready.wait(30):
        raise SystemExit("the worker was not ready in 30 s")


def _worker() -> None:
    words = [
        "--quiet",
        "worker",
        "--loglevel=WARNING",
        "--pool=threads",
        f"--concurrency={kit.CONCURRENCY}",
    ]
    app.worker_main([*words, "--without-gossip", "--without-mingle", "--without-heartbeat"])


def main() -> None:
    """The program of this peer; its last line is JSON."""
    options = kit.parse()
    app.conf.broker_url = options.url
    if options.shape == kit.CHORD:
        app.conf.result_backend = options.url
    found: dict[str, Any] = {}
    if options.feed:
        _feed(options.jobs)
    elif options.shape == kit.LIMITED:
        raise SystemExit("it has no limit by key: its rate limit is that of one worker")
    elif options.shape == kit.CHORD:
        found = _chord(options)
    elif options.shape.startswith("enqueue"):
        callers = 1 if options.shape.endswith("one caller") else kit.CALLERS
        _enqueue("noop", 2 * callers, callers)  # opens the connections
        found = {"seconds": _enqueue("noop", options.jobs, callers)}
    else:
        found = _work(options)
    print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # the worker's thread does not end by itself


if __name__ == "__main__":
    main()
