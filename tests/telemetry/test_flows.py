"""What is measured and traced of flows."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs, chain
from asyncjobs.telemetry.queues import QueueGauges, look_at_queues
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording
from tests.worker.flow_jobs import FlowJobs, broken
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio


async def test_flows_by_state(reading: Reading) -> None:
    app = AsyncJobs("memory:")
    jobs = FlowJobs(app)
    broken.add(1)
    async with working(app):
        for n in (1, 2, 3):
            handle = await app.flows.start(jobs.fragile.bind(n))
            await handle.wait(LIMIT_S)
        view = await look_at_queues(app.backend)
    QueueGauges(lambda: view).attach(reading.provider)
    points = reading.points("asyncjobs.flows")
    assert points[("failed", "default")] == 1
    assert points[("succeeded", "default")] == 2


async def test_a_flow_is_one_conversation(recording: Recording) -> None:
    app = AsyncJobs("memory:", tracer_provider=recording.provider)
    jobs = FlowJobs(app)
    async with working(app):
        handle = await app.flows.start(
            chain(jobs.number.bind(1), jobs.double, jobs.add.options(queue="default"))
        )
        assert await handle.result(LIMIT_S) == 3
    told = {
        (span.attributes or {})["messaging.message.conversation_id"] for span in recording.spans()
    }
    assert told == {handle.ref.id}
    assert len(recording.spans()) == 6
