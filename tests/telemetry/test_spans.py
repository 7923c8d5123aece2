"""What spans share is made once, and stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from asyncjobs import AsyncJobs
from asyncjobs.telemetry import spans
from asyncjobs.telemetry.spans import Fixed, Server
from tests.telemetry import tasks
from tests.telemetry.recording import Recording
from tests.worker.kit import LIMIT_S, NewApp, register, working

pytestmark = pytest.mark.anyio


def process(address: list[str]) -> Fixed:
    return Fixed(Server(lambda: address[0]), operation="process", type="process")


def test_they_are_made_once_for_each_queue_and_function() -> None:
    fixed = process(["redis://one:7"])
    name, found = fixed.of("mail", "send")
    assert name == "process send"
    assert found == {
        "messaging.system": "asyncjobs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "asyncjobs.job.name": "send",
        "server.address": "one",
        "server.port": 7,
    }
    assert fixed.of("mail", "send")[1] is found
    assert fixed.of("post", "send")[1]["messaging.destination.name"] == "post"
    assert fixed.of("mail", "drop")[0] == "process drop"


def test_an_app_that_opens_another_store_is_of_that_server() -> None:
    address = ["redis://one:7"]
    fixed = process(address)
    assert fixed.of("mail", "send")[1]["server.address"] == "one"
    address[0] = "redis://two:8"
    assert fixed.of("mail", "send")[1]["server.address"] == "two"
    address[0] = "memory:"
    assert "server.address" not in fixed.of("mail", "send")[1]


def test_queues_of_any_name_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MOST_FIXED", 3)
    fixed = process(["memory:"])
    for number in range(20):
        name = f"q{number}"
        assert fixed.of(name, "send")[1]["messaging.destination.name"] == name
    assert len(fixed._made) <= 4


class _Meddling(Sampler):
    """Writes into what it is asked about, which it may not."""

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, *more: Any, **_: Any
    ) -> SamplingResult:
        _, attributes, *_ = more
        assert "meddled" not in attributes
        attributes["meddled"] = True
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "Meddling"


async def test_what_a_sampler_does_to_one_span_no_other_has(new_app: NewApp) -> None:
    recording = Recording(_Meddling())
    app: AsyncJobs = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    async with working(app):
        for _ in range(2):
            await (await job.enqueue()).result(LIMIT_S)
        await recording.ended(2)
    assert len(recording.spans()) == 4


async def test_an_attempt_that_is_not_sampled_still_has_a_trace(new_app: NewApp) -> None:
    recording = Recording(ALWAYS_OFF)
    app: AsyncJobs = new_app(tracer_provider=recording.provider)
    job = register(app, tasks.looks)
    async with working(app):
        one, two = [await (await job.enqueue()).result(LIMIT_S) for _ in range(2)]
    # What the job starts finds it, and is not sampled either.
    assert one["span"]
    assert one["trace"] != two["trace"]
    assert recording.spans() == []
