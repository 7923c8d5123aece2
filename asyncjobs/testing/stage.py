"""Puts an app on stage for one test: a store of its own, in memory, and a clock of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from asyncjobs.app import AsyncJobs
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.events import CronEnqueued, Event
from asyncjobs.testing.clock import VirtualClock
from asyncjobs.testing.openings import OwnLoop, StageOpenings
from asyncjobs.testing.recorder import Recorder
from asyncjobs.testing.recording import RecordingBackend
from asyncjobs.testing.wall_clock import WallClock
from asyncjobs.testing.worker import StageWorker

__all__ = ["Stage", "current_stage", "stage_of", "staged"]

_stages: list[Stage] = []
"""Those of the running test, the newest last. A process runs one test at a time."""


class Stage:
    """An app during one test.

    Its jobs go to a store in memory, which belongs to the test. Its settings, job functions,
    middleware and listeners stay as they are.

    app: the app. recorder: what happens to its jobs. worker: runs them. clock: its time.
    """

    def __init__(self, app: AsyncJobs, wall_clock: WallClock) -> None:
        self.app = app
        self.wall_clock = wall_clock
        self.recorder = Recorder(app.registry, wall_clock)
        self.own_loop = OwnLoop()
        self.backend = RecordingBackend(
            app.settings.store(), wall_clock.now_ms, self.recorder.stored, self.recorder.settled
        )
        self.worker = StageWorker(app, self.backend, wall_clock, self.recorder, self.own_loop)
        self.clock = VirtualClock(wall_clock, self.worker)

    def hear(self, event: Event) -> None:
        """An event of the app."""
        self.recorder.hear(event)
        if isinstance(event, CronEnqueued):
            self.recorder.fired(self.backend.record(event.ref))


@contextmanager
def staged(app: AsyncJobs) -> Iterator[Stage]:
    """Put an app on stage for this block; afterwards it has its own store again.

    The fixtures do this for the app of the project. Use it for a second app, or in a runner of
    tests that is not pytest.

    Raises UsageError for what is no AsyncJobs.
    """
    if not isinstance(app, AsyncJobs):
        raise UsageError(f"an AsyncJobs is needed, not {shown(app)}")
    wall_clock = WallClock()
    if _stages:
        # All apps of a test live at one time.
        wall_clock = _stages[-1].wall_clock
    stage = Stage(app, wall_clock)
    with ExitStack() as steps:
        steps.enter_context(wall_clock.read_by_all())
        openings = StageOpenings(
            app._openings, app.settings, app.events, stage.backend, stage.own_loop
        )
        steps.callback(openings.close)
        # Before that, for what is left on the loop may still tell listeners something.
        steps.callback(stage.own_loop.close)
        before = app._use(openings)
        # rule:29 after a test the app has its own store again
        steps.callback(app._use, before)
        steps.callback(app.events.on(Event, stage.hear))
        root = logging.getLogger()
        root.addHandler(stage.recorder.log_handler)
        steps.callback(root.removeHandler, stage.recorder.log_handler)
        _stages.append(stage)
        steps.callback(_stages.remove, stage)
        yield stage


def current_stage(what: str) -> Stage:
    """The stage of the running test. Raises UsageError when there is none, or several."""
    if not _stages:
        raise UsageError(
            f"{what} works in a test with an app on stage: ask for the fixture asyncjobs_app, or "
            "write `with staged(app):`"
        )
    if len(_stages) > 1:
        raise UsageError(
            f"{what}: {len(_stages)} apps are on stage; ask the worker or the recorder of one of "
            "them"
        )
    return _stages[0]


def stage_of(function: JobFunction[..., Any] | None, what: str) -> Stage:
    """The stage of the app that a job function belongs to. Raises UsageError and NotBound."""
    if isinstance(function, JobFunction):
        reader = function.sender.reader
        for stage in _stages:
            if stage.app is reader:
                return stage
        if _stages:
            raise UsageError(f"{what}: the app of {function.name} is not on stage in this test")
    return current_stage(what)
