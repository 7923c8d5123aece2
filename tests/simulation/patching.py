"""For one run: time, chance and the log belong to the simulation; afterwards all is back."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from anyio._backends import _asyncio as anyio_asyncio

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.model import clock
from asyncjobs.model.job import TakenJob
from asyncjobs.model.refs import JobRef
from asyncjobs.worker.engine import error_text as describing
from asyncjobs.worker.engine import runner
from asyncjobs.worker.engine.attempt import Attempt
from asyncjobs.worker.engine.runner import Runner
from tests.simulation.loop import SimLoop

__all__ = ["in_simulation"]

HEARD = ("asyncjobs.worker", "asyncjobs.events")
"""Logs whose errors are part of the verdict."""


def _scope_hash(scope: Any) -> int:
    # By its task, for which the loop counts: scopes stand in sets, and by their address
    # the order in which they are cancelled would be another one in each replay.
    return hash(scope._host_task)


def _plain(kind: type[BaseException], error: BaseException, _: object) -> list[str]:
    # The text of a traceback is a seventh of the cost of a run, and nobody reads it here.
    return [f"{kind.__name__}: {error}"]


@contextmanager
def in_simulation(loop: SimLoop, decided: Callable[[JobRef], None]) -> Iterator[None]:
    """Everything in the block lives by the loop's clocks and by its chance.

    `decided` is called when a worker has made up its mind to start a job.
    """
    state, disabled, collects = random.getstate(), logging.root.manager.disable, gc.isenabled()
    changes: list[tuple[Any, str, Any]] = [
        (time, "monotonic", loop.time),
        (time, "time_ns", loop.wall_ns),
        (time, "time", lambda: loop.wall_ns() / 1e9),
        (os, "urandom", loop.random.randbytes),
        # Drawn before, or by another run: ids would not be those of the seed.
        (clock, "_drawn", []),
        (anyio_asyncio.CancelScope, "__hash__", _scope_hash),
        # A scope that is never left, because its process has crashed, would stay for ever.
        (anyio_asyncio, "_task_states", WeakKeyDictionary()),
        (describing, "traceback", SimpleNamespace(format_exception=_plain)),
    ]
    if sys.version_info >= (3, 12):
        changes.append((runner, "start_task", lambda loop, body, name: loop.start_eagerly(body)))

    def complain(log: GuardedLog, text: str, *args: object, **_: Any) -> None:
        if log.name in HEARD:
            loop.complaints.append(f"logged: {text % args}: {sys.exception()!r}")

    def weigh(log: GuardedLog, text: str, *args: object, **_: Any) -> None:
        # Errors of jobs, lost leases and the like are part of each run; these are not.
        if "could not be recorded" in text or "refused" in text or "stuck" in text:
            complain(log, text, *args)

    start = Runner._start

    def start_and_tell(self: Runner, job: TakenJob, now_ms: int, now_s: float) -> Attempt | None:
        attempt = start(self, job, now_ms, now_s)
        if attempt is not None:
            decided(job.ref)
        return attempt

    changes += [
        (GuardedLog, "exception", complain),
        (GuardedLog, "error", weigh),
        (Runner, "_start", start_and_tell),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    random.seed(loop.random.random())
    logging.disable()
    # What a collector run finalizes, and when, depends on what this process did before.
    gc.disable()
    try:
        for owner, name, new in changes:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
        logging.disable(disabled)
        random.setstate(state)
        if collects:
            gc.enable()
