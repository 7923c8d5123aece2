"""A queue that holds jobs and has no live worker is told of."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, Worker
from tests.worker import jobs
from tests.worker.kit import register, until

pytestmark = pytest.mark.anyio


async def test_a_queue_without_a_worker_is_told_of(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    lonely = register(app, jobs.echo).options(queue="lonely")
    async with app:
        await lonely.enqueue(1)
        await lonely.options(delay=60).enqueue(2)
        async with Worker(app, queues="other", grace=2):
            text = "queue 'lonely' has no live worker; jobs waiting there: 2"
            await until(lambda: text in caplog.text)
    assert "'other' has no live worker" not in caplog.text
