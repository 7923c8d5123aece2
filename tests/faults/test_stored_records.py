"""Whatever a store holds: each record costs its own job, and the worker goes on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from asyncjobs import AsyncJobs, Discard, JobRef, RetryPolicy, Snooze, Worker
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.outcome import Outcome, read_dead_letter, revived
from tests.faults.records import letters, outcomes, records
from tests.worker.kit import LIMIT_S, eventually, register, store_raw

TRACERS, METERS = TracerProvider(), MeterProvider()
UNHURRIED = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def echo(*args: Any, **kwargs: Any) -> None:
    """Returns what cannot be kept as a result, now and then."""
    return cast(None, [args, kwargs])


async def fails(*args: Any, **kwargs: Any) -> None:
    raise ValueError(str(args)[:50], "no")


async def snoozes(*args: Any, **kwargs: Any) -> None:
    raise Snooze(3600)


async def discards(*args: Any, **kwargs: Any) -> None:
    raise Discard("\x1b[31mnot wanted")


def thread(*args: Any, **kwargs: Any) -> int:
    return len(args)


FUNCTIONS = (echo, fails, snoozes, discards, thread)


async def through_a_worker(app: AsyncJobs, raws: list[bytes]) -> None:
    """Each of these records comes to an end or to a later time, and a good job runs after."""
    for function in FUNCTIONS:
        register(app, function, retry=RetryPolicy(2, pause_s))
    good = register(app, thread, name="good")
    async with app, Worker(app, concurrency=4, grace=1):
        ids = [await store_raw(app, raw) for raw in raws]
        assert await (await good.enqueue("next")).result(LIMIT_S) == 1

        async def done() -> bool:
            (found,) = await app.backend.inspect.queues.counts(["default"])
            # A retry is due at once; what waits longer is snoozed or put back.
            return not (sum(found.ready) or found.running) and await due_later(app, ids)

        await eventually(done)
        for id, raw in zip(ids, raws, strict=True):
            await look_at(app, JobRef("default", id), raw)
        # All slots are free: as many jobs as there are slots run at a time.
        handles = [await good.enqueue(*range(n)) for n in range(8)]
        assert [await handle.result(LIMIT_S) for handle in handles] == list(range(8))


async def due_later(app: AsyncJobs, ids: list[str]) -> bool:
    """Whether those that wait for their time do so for a while: snoozed or put back."""
    records = await app.backend.get([JobRef("default", id) for id in ids])
    soon_ms = now_ms() + 100
    return all(record is None or (record.due_ms or soon_ms) >= soon_ms for record in records)


def pause_s(failures: int) -> float:
    """However many attempts a record asks for, it is not waited for."""
    return 0.0 if failures < 3 else 3600.0


async def look_at(app: AsyncJobs, ref: JobRef, raw: bytes) -> None:
    """What the store has of it now can be asked for, and a dead one is kept as it was."""
    (record,) = await app.backend.get([ref])
    assert record is not None
    info = await app.handle(ref.id, ref.queue).info()
    info.redacted()
    if record.dead_letter is not None:
        outcome, kept = read_dead_letter(record.dead_letter)
        assert outcome.reason in ("unreadable", "exhausted", "unknown", "crashed")
        if outcome.reason == "unreadable":
            assert kept == raw


def hostile(name: str, **fields: Any) -> bytes:
    return orjson.dumps({"v": 1, "f": name, "n": 1, "e": 1, **fields})


DEEP = b"[" * 300 + b"]" * 300
DEEPER = b"[" * 1000 + b"]" * 1000
SEEN = [
    b'{"v":1,"f":"nosuch","n":1,"e":1,"a":' + DEEP + b"}",
    b'{"v":1,"f":"fails","n":1,"e":1,"a":' + DEEP + b"}",
    b'{"v":1,"f":"snoozes","n":1,"e":1,"k":{"x":' + DEEP + b"}}",
    b'{"v":' + DEEPER + b',"f":"echo","n":1,"e":1}',
    b'{"v":2,"f":' + DEEPER + b"}",
    b'{"v":1,"f":"echo","n":1,"e":1,"o":{"timeout":' + DEEPER + b"}}",
    b'{"v":1,"f":"fails","n":2,"e":1,"h":{"errors":[{"m":' + DEEPER + b"}]}}",
    hostile("nosuch", h={"unknown_times": 2**64 - 1}),
    hostile("nosuch", h={"first_unknown_at": 2**64 - 1}),
    hostile("fails", n=2**64 - 1),
    hostile("fails", h={"spent": {"": 2**64 - 1, "ValueError": 2**64 - 1}}),
    hostile("fails", h={"crashes": 2**64 - 1}),
    hostile("fails", h={"crashes_kept": 1e300}),
    hostile("fails", h={"crashes_kept": -5}),
    hostile("fails", o={"max_attempts": 2**64 - 1}, h={"revived": 2**64 - 1}),
    hostile("echo", e=2**63, s=-1, x=2**64 - 1),
    hostile("echo", h={"sensitive": {"names": ["[" * 200], "at": [2**64 - 1], "from": -1}}),
    hostile("n" * 100_000),
]


def run(app: AsyncJobs, raws: list[bytes]) -> None:
    asyncio.run(through_a_worker(app, raws))


@pytest.mark.parametrize("raw", SEEN, ids=range(len(SEEN)))
def test_a_record_that_has_ended_workers(raw: bytes) -> None:
    run(AsyncJobs("memory:"), [raw])


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_all_of_them_on_a_server(servers: Any, kind: Any) -> None:
    run(AsyncJobs(servers.get(kind).url, prefix=f"test-{new_id()}"), SEEN)


@UNHURRIED
@given(st.lists(records(), min_size=1, max_size=12))
@example(SEEN)
def test_any_record_costs_one_job(raws: list[bytes]) -> None:
    run(AsyncJobs("memory:"), raws)


@UNHURRIED
@given(st.lists(records(), min_size=1, max_size=12))
def test_any_record_costs_one_job_with_telemetry(raws: list[bytes]) -> None:
    run(AsyncJobs("memory:", tracer_provider=TRACERS, meter_provider=METERS), raws)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@settings(UNHURRIED, max_examples=10)
@given(raws=st.lists(records(), min_size=20, max_size=40))
def test_any_record_costs_one_job_on_a_server(servers: Any, kind: Any, raws: list[bytes]) -> None:
    run(AsyncJobs(servers.get(kind).url, prefix=f"test-{new_id()}"), raws)


@settings(max_examples=300)
@given(records())
def test_what_can_be_read_can_be_written_again(raw: bytes) -> None:
    try:
        envelope = Envelope.decode(raw)
    except (BadRecord, NewerEnvelope):
        return
    again = Envelope.decode(envelope.encode())
    assert (again.name, again.args, again.kwargs, again.attempt, again.headers.fields) == (
        envelope.name, envelope.args, envelope.kwargs, envelope.attempt, envelope.headers.fields,
    )  # fmt: skip


@settings(max_examples=300)
@given(outcomes())
def test_an_outcome_is_read_or_refused(raw: bytes) -> None:
    try:
        outcome = Outcome.decode(raw)
    except BadRecord:
        return
    Outcome.decode(outcome.encode())


@settings(max_examples=300)
@given(letters())
def test_a_dead_letter_is_revived_or_refused(letter: bytes) -> None:
    try:
        again = revived(letter, 1_800_000_000_000)
    except BadRecord:
        return
    assert again == letter.partition(b"\n")[2] or orjson.loads(again)["n"] == 1
