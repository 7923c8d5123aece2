"""The span of a batch, beside those of its jobs."""

from __future__ import annotations

import pytest

from asyncjobs import Batch
from tests.telemetry.recording import Recording, context_of
from tests.worker import batch_jobs
from tests.worker.conftest import NewApp
from tests.worker.kit import LIMIT_S, Stage, register, working

pytestmark = pytest.mark.anyio


async def test_a_batch_has_a_span_that_links_to_its_items(
    new_app: NewApp, recording: Recording, stage: Stage
) -> None:
    app = new_app(tracer_provider=recording.provider)
    job = register(app, batch_jobs.all_fail, batch=Batch(size=3, window=600), retry=False)
    good = register(app, batch_jobs.double, batch=Batch(size=1), queue="good")
    async with working(app):
        await app.enqueue_many([job.bind(n) for n in range(3)])
        assert await (await good.enqueue(4)).result(LIMIT_S) == 8
        spans = await recording.ended(6)
    batch = next(span for span in spans if span.name == "batch all_fail")
    items = [span for span in spans if span.name == "process all_fail"]
    assert {link.context.span_id for link in batch.links} == {
        context_of(span).span_id for span in items
    }
    assert [(link.attributes or {})["asyncjobs.link"] for link in batch.links] == ["item"] * 3
    assert batch.parent is None
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 3
    assert batch.attributes["error.type"] == "RuntimeError"
    (other,) = [span for span in spans if span.name == "batch double"]
    assert other.status.is_ok or other.status.is_unset
