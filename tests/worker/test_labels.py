"""Labels, tags, context variables and queues by the arguments, from the enqueue to the attempt."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

import pytest

from asyncjobs import INJECTED, AsyncJobs, JobContext, QueueBy, RetryPolicy, State, Worker, constant
from asyncjobs.errors import (
    ArgumentsError,
    ConfigError,
    EncodeError,
    PayloadTooLarge,
    RegistrationError,
    UsageError,
)
from asyncjobs.events import JobStarted
from asyncjobs.jobs.function import JobCall
from asyncjobs.store.history import FinishedQuery
from tests.worker.kit import NewApp, register

pytestmark = pytest.mark.anyio

locale: ContextVar[str] = ContextVar("locale", default="en")
seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def tell(*, ctx: JobContext = INJECTED) -> None:
    seen.append((ctx.meta, ctx.tags))
    logging.getLogger("shop").warning("at work")


async def speak(fails: bool = False) -> None:
    seen.append(locale.get())
    # No other job may see this.
    locale.set("xx")
    if fails and len(seen) == 1:
        raise ValueError("once more")


def speak_in_thread() -> None:
    seen.append(locale.get())


async def ship(region: str, number: int = 0) -> None:
    seen.append((region, number))


async def test_labels_and_tags_are_everywhere(
    app: AsyncJobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = register(app, tell, meta={"team": "billing"}, tags=["money"])
    infos = []
    app.on(JobStarted, lambda event: infos.append(event.info))
    async with app:
        plain = await register(app, ship).enqueue("eu")
        handle = await job.options(meta={"tenant": "acme"}, tags=["import", "money"]).enqueue()
        await job.enqueue()
        info = await handle.info()
        assert info.meta == {"team": "billing", "tenant": "acme"}
        assert info.tags == ("money", "import")
        found = [row async for row in app.jobs.list("ready", meta={"tenant": "acme"})]
        assert [row.ref for row in found] == [handle.ref]
        found = [row async for row in app.jobs.list("ready", tags=["money"])]
        assert len(found) == 2
        assert [r async for r in app.jobs.list("ready", meta={"tenant": "ac"})] == []
        assert [r async for r in app.jobs.list("ready", tags=["mon"])] == []
        await Worker(app).run(burst=True)
        assert (await plain.info()).tags == ()
        ended = (await app.backend.inspect.history.finished(FinishedQuery("default"))).jobs
        labels = {each.ref: (each.meta, each.tags) for each in ended}
        rows = [row async for row in app.jobs.list("succeeded", meta={"tenant": "acme"})]
        assert [row.ref for row in rows] == [handle.ref]
        assert rows[0].info.tags == ("money", "import")
    assert seen[1] == ({"team": "billing", "tenant": "acme"}, ("money", "import"))
    assert labels[handle.ref] == seen[1]
    assert labels[plain.ref] == ({}, ())
    assert {info.tags for info in infos if info is not None} == {
        (),
        ("money",),
        ("money", "import"),
    }


async def test_labels_of_a_job_that_dies(app: AsyncJobs, caplog: pytest.LogCaptureFixture) -> None:
    retry = RetryPolicy(max_attempts=1)
    job = register(app, speak, meta={"team": "billing"}, tags=["money"], retry=retry)
    async with app:
        handle = await job.enqueue(True)
        await Worker(app).run(burst=True)
        rows = [
            row async for row in app.jobs.list("dead", meta={"team": "billing"}, tags=["money"])
        ]
        assert [row.ref for row in rows] == [handle.ref]
        (ended,) = (await app.backend.inspect.history.finished(FinishedQuery("default"))).jobs
    assert ended.error == "ValueError: once more"
    assert (ended.meta, ended.tags) == ({"team": "billing"}, ("money",))
    (line,) = [record for record in caplog.records if "dead at attempt" in record.getMessage()]
    assert line.tags == ["money"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"meta": {"tenant": 1}}, "printable"),
        ({"meta": {"a=b": "c"}}, "'='"),
        ({"meta": [("a", "b")]}, "must map"),
        ({"meta": {f"n{number}": "x" for number in range(17)}}, "at most 16"),
        ({"tags": "money"}, "list of texts"),
        ({"tags": ["a\nb"]}, "printable"),
        ({"tags": ["x" * 65]}, "64"),
    ],
)
async def test_labels_that_cannot_be_stored(options: dict[str, Any], words: str) -> None:
    job = register(AsyncJobs("memory:"), tell)
    with pytest.raises(ConfigError, match=words):
        job.options(**options)


async def test_a_context_variable_travels(app: AsyncJobs) -> None:
    app.carry(locale)
    job = register(app, speak, retry=RetryPolicy(max_attempts=2, backoff=constant(0)))
    sync = register(app, speak_in_thread)
    async with app:
        token = locale.set("de")
        await job.enqueue(True)
        await sync.enqueue()
        locale.reset(token)
        await job.enqueue()
        await Worker(app, concurrency=1).run(burst=True)
    # The retry has it, too. Where it was not set, its default holds.
    assert sorted(seen) == ["de", "de", "de", "en"]


async def test_a_variable_with_a_form_of_its_own(app: AsyncJobs) -> None:
    tenant: ContextVar[tuple[str, int]] = ContextVar("tenant")
    app.carry(tenant, name="t", dump=list, load=lambda stored: (stored[0], stored[1]))

    async def look() -> None:
        seen.append(tenant.get(None))

    look.__qualname__ = "look"
    look.__module__ = __name__
    job = register(app, look)
    async with app:
        await job.enqueue()
        token = tenant.set(("acme", 7))
        handle = await job.enqueue()
        await app.enqueue_many([job.bind()])
        tenant.reset(token)
        await Worker(app, concurrency=1).run(burst=True)
        assert (await handle.status()) is State.SUCCEEDED
    assert seen == [None, ("acme", 7), ("acme", 7)]


async def test_variables_that_cannot_travel() -> None:
    app = AsyncJobs("memory:")
    app.carry(locale)
    with pytest.raises(RegistrationError, match="already travels as 'locale'"):
        app.carry(locale)
    with pytest.raises(RegistrationError, match="ContextVar"):
        app.carry("locale")  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match="dump and load"):
        app.carry(ContextVar("other"), dump=str)
    job = register(app, speak)
    async with app:
        token = locale.set({"de"})  # type: ignore[arg-type]
        with pytest.raises(EncodeError, match="context variable 'locale'"):
            await job.enqueue()
        locale.set("x" * 5_000)
        with pytest.raises(EncodeError, match="4,096"):
            await job.enqueue()
        locale.reset(token)


async def test_a_queue_by_the_arguments(app: AsyncJobs) -> None:
    by_region = QueueBy(lambda region, number=0: region, among=["eu", "us"])
    job = register(app, ship, queue=by_region)
    assert app.local_queues == ("default", "eu", "us")
    async with app:
        first = await job.enqueue("eu", 1)
        second = await job.enqueue("us", number=2)
        (third,) = await app.enqueue_many([job.bind("eu", 3)])
        assert [handle.ref.queue for handle in (first, second, third)] == ["eu", "us", "eu"]
        given = await job.options(id="known").enqueue("us", 4)
        assert await job.handle("known").status() is State.READY
        assert given.ref.queue == "us"
        with pytest.raises(ConfigError, match="'asia', which is not among eu, us"):
            await job.enqueue("asia")
        with pytest.raises(ArgumentsError):
            await job.enqueue()
        other = await job.options(queue="default").enqueue("asia", 5)
        assert other.ref.queue == "default"
        await Worker(app).run(burst=True)
        assert await first.status() is State.SUCCEEDED
    assert sorted(seen) == [("asia", 5), ("eu", 1), ("eu", 3), ("us", 2), ("us", 4)]


async def test_a_queue_of_any_name(app: AsyncJobs) -> None:
    job = register(app, ship, queue=lambda region, **_: f"r-{region}")
    async with app:
        handle = await job.enqueue("asia")
        assert handle.ref.queue == "r-asia"
        with pytest.raises(UsageError, match="an id alone names no job"):
            job.handle(handle.id)
        with pytest.raises(ConfigError, match="queue"):
            await job.enqueue("no name")
        await Worker(app, queues=["r-asia"]).run(burst=True)
    assert seen == [("asia", 0)]


async def test_a_prefix_of_queues(new_app: NewApp) -> None:
    app = new_app(queue_prefix="staging-")
    mail = register(app, ship, queue="mail")
    routed = register(app, tell, queue=QueueBy(lambda: "eu", among=["eu"]))
    assert app.local_queues == ("staging-default", "staging-eu", "staging-mail")
    async with app:
        handles = [
            await mail.enqueue("x"),
            await mail.options(queue="other").enqueue("y"),
            await routed.enqueue(),
        ]
        queues = [handle.ref.queue for handle in handles]
        assert queues == ["staging-mail", "staging-other", "staging-eu"]
        await Worker(app, queues=queues).run(burst=True)
        assert await handles[0].status() is State.SUCCEEDED
    with pytest.raises(ConfigError, match="queue_prefix"):
        AsyncJobs("memory:", queue_prefix="a b")


async def rolled_back(app: AsyncJobs, call: JobCall[Any]) -> None:
    async with app.deferred() as later:
        later.add(call)
        raise KeyError("rolled back")


async def test_deferred_calls(app: AsyncJobs) -> None:
    job = register(app, ship)
    async with app:
        async with app.deferred() as later:
            later.add(job.bind("eu", 1))
            later.add(job.options(id="second").bind("eu", 2))
            assert len(later) == 2
            assert [row async for row in app.jobs.list("ready")] == []
        assert len([row async for row in app.jobs.list("ready")]) == 2
        with pytest.raises(KeyError):
            await rolled_back(app, job.bind("eu", 3))
        assert len([row async for row in app.jobs.list("ready")]) == 2
        later = app.deferred()
        with pytest.raises(EncodeError):
            later.add(job.bind({1, 2}))  # type: ignore[arg-type]
        with pytest.raises(PayloadTooLarge, match="max_payload"):
            later.add(job.bind("x" * 2_000_000))
        later.add(job.bind("eu", 4))
        assert later.drop() == 1
        assert await later.send() == []
        later.add(job.bind("eu", 5))
        (handle,) = await later.send()
        assert await handle.status() is State.READY
        assert len([row async for row in app.jobs.list("ready")]) == 3


async def test_a_deferred_call_waits_for_a_store_that_comes_back(app: AsyncJobs) -> None:
    job = register(app, ship)
    later = app.deferred()
    later.add(job.bind("eu"))
    with pytest.raises(UsageError):
        await later.send()
    assert len(later) == 1
