"""What is over is freed at once, not when the garbage collector comes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from asyncjobs import RetryPolicy, constant
from asyncjobs.worker.engine.attempt import Attempt
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, is_settled, register, working

pytestmark = pytest.mark.anyio


Kept = Callable[[], list[str]]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """The job functions of attempts that are in memory since now, reachable or not."""
    gc.collect()
    gc.disable()
    before = _attempts()
    yield lambda: [attempt.function.name for attempt in _attempts() if attempt not in before]
    gc.enable()


def _attempts() -> set[Attempt]:
    return {each for each in gc.get_objects() if type(each) is Attempt}


@pytest.mark.parametrize("is_traced", [False, True])
async def test_attempts_that_have_ended_leave_no_circle(
    new_app: NewApp,
    stage: Stage,
    kept: Kept,
    caplog: pytest.LogCaptureFixture,
    is_traced: bool,
) -> None:
    # pytest keeps each line of the log, and one about a failure has the attempt's traceback.
    caplog.set_level(logging.CRITICAL, "asyncjobs.worker")
    app = new_app(tracer_provider=TracerProvider(shutdown_on_exit=False) if is_traced else None)
    quick = register(app, jobs.echo)
    again = register(app, jobs.flaky, retry=RetryPolicy(2, constant(0)))
    waits = register(app, jobs.gated)
    async with working(app):
        held = await waits.enqueue("g")
        await stage.noted(("started", "g"))
        for job in (quick, again):
            await (await job.enqueue(1)).result(LIMIT_S)
        assert kept() == ["gated"]
        stage.open("g")
        await held.result(LIMIT_S)
        assert await is_settled(app)
        assert kept() == []
