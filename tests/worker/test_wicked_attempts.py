"""An exception that nothing may be asked of ends its attempt in a worker, too."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, JobFailed, Worker
from tests.unit.test_wicked_errors import WICKED


async def fails(what: str) -> None:
    error = WICKED[what]()
    raise error


def fails_in_thread(what: str) -> None:
    error = WICKED[what]()
    raise error


@pytest.mark.anyio
@pytest.mark.parametrize("function", [fails, fails_in_thread], ids=["async", "sync"])
async def test_every_one_frees_its_slot_and_its_job(function: object) -> None:
    app = AsyncJobs("memory:")
    job = app.job(retry=False)(function)  # type: ignore[call-overload]
    # One slot: the next job starts when the one before has given it up.
    async with app, Worker(app, concurrency=1, grace=0):
        for what in WICKED:
            handle = await job.enqueue(what)
            with pytest.raises(JobFailed) as failed:
                await handle.result(timeout=20)
            assert "could not be recorded" not in str(failed.value)
