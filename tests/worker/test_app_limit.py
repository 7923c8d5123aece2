"""Limits outside of jobs: `app.limit` and `app.limits`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from asyncjobs import (
    AsyncJobs,
    Concurrency,
    ConfigError,
    LimitLost,
    LimitTimeout,
    QueueBy,
    RateLimit,
    State,
    StoreUnavailable,
    UsageError,
)
from asyncjobs.client.passage import Passage
from asyncjobs.store.limits import Acquired
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, NewApp, ended, register, until, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("stage")]


async def running(app: AsyncJobs, name: str = "api", key: str = "acme") -> int:
    """How many permits of this key are taken."""
    found = await app.limits.look(name, key)
    return sum(info.running for info in found)


async def inside(app: AsyncJobs, number: int, **options: Any) -> None:
    async with app.limit("api", "acme", **options):
        jobs.stage.note(number)
        await jobs.stage.gate(str(number)).wait()


async def test_no_more_than_the_limit_are_inside(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(2))
    async with app, asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(inside(app, number))
            await asyncio.sleep(0)
        await until(lambda: len(jobs.stage.notes) == 2)
        assert await running(app) == 2
        # Another key is free, and so is a number as a key.
        async with app.limit("api", 7, timeout=LIMIT_S):
            assert await running(app, key="7") == 1
        # Who waits in this process comes in its turn, as soon as a permit is given back here.
        for number in range(4):
            jobs.stage.open(str(number))
            await jobs.stage.noted(min(number + 2, 3))
        assert jobs.stage.notes == [0, 1, 2, 3]
    assert not app.limits._lines._lines


async def test_a_limit_without_room_in_time(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        async with app.limit("api", "acme"):
            with pytest.raises(LimitTimeout, match=r"the limit api acme had no room within 0.05 s"):
                async with app.limit("api", "acme", timeout=0.05):
                    pytest.fail("it was let in")
        # Who has waited in vain holds nothing.
        assert await running(app) == 0
        async with app.limit("api", "acme", timeout=LIMIT_S):
            assert await running(app) == 1


async def test_who_is_cancelled_gives_the_permit_back(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        task = asyncio.create_task(inside(app, 0))
        await jobs.stage.noted(0)
        waiting = asyncio.create_task(inside(app, 1))
        await asyncio.sleep(0.02)
        for each in (waiting, task):
            each.cancel()
            with pytest.raises(asyncio.CancelledError):
                await each
        assert await running(app) == 0


async def test_who_is_cancelled_while_it_asks_holds_nothing(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        limits = type(app.backend.limits)
        acquire = limits.acquire

        async def slow(*args: Any) -> Acquired:
            answer = await acquire(*args)
            jobs.stage.note("in")
            await asyncio.sleep(LIMIT_S)
            return answer

        monkeypatch.setattr(limits, "acquire", slow)
        task = asyncio.create_task(inside(app, 0))
        await jobs.stage.noted("in")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await running(app) == 0


async def test_jobs_and_others_share_a_limit(app: AsyncJobs) -> None:
    job = register(app, jobs.gated, limits=Concurrency(1, by="name", name="api"))
    async with working(app):
        async with app.limit("api", "acme", timeout=LIMIT_S):
            handle = await job.enqueue("acme")
            other = await job.enqueue("beside")
            await until_state(other, State.RUNNING)
            info = await handle.info()
            assert (info.state, info.held_by) == (State.HELD, "limit api acme")
            jobs.stage.open("beside")
        jobs.stage.open("acme")
        await handle.result(LIMIT_S)
        await other.result(LIMIT_S)


async def until_state(handle: Any, state: State) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await handle.status() is not state:
            await asyncio.sleep(0.005)


async def test_a_rate_outside_of_jobs(app: AsyncJobs) -> None:
    app.limits.define("mail", RateLimit("3/hour", burst=3))
    async with app:
        async with app.limit("mail", weight=2), app.limit("mail"):
            pass
        # Nothing is given back at the end.
        with pytest.raises(LimitTimeout, match=r"the limit mail had no room within 0.02 s"):
            async with app.limit("mail", timeout=0.02):
                pytest.fail("it was let in")
        (info,) = await app.limits.look("mail")
        assert (info.rule, info.running) == ("3/hour:3", 0)
        assert info.opens is not None


async def test_a_number_for_each_key(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(lambda tenant: 2 if tenant == "acme" else 1))
    async with app:
        async with app.limit("api", "acme"), app.limit("api", "acme", timeout=LIMIT_S):
            pass
        async with app.limit("api", "other"):
            with pytest.raises(LimitTimeout):
                async with app.limit("api", "other", timeout=0.02):
                    pytest.fail("it was let in")


# ── permits that are lost ────────────────────────────────────────────────────────────


class Away:
    """Makes calls of the store's limits fail, while it is told to."""

    def __init__(self, app: AsyncJobs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.gone = False
        limits = type(app.backend.limits)
        for name in ("acquire", "renew", "give_back"):
            monkeypatch.setattr(limits, name, self._around(name, getattr(limits, name)))

    def _around(self, name: str, call: Any) -> Any:
        async def around(*args: Any) -> Any:
            self.calls.append(name)
            if name in self.failing:
                raise StoreUnavailable("away")
            if name in self.hanging:
                await asyncio.sleep(LIMIT_S)
            if name == "renew" and self.gone:
                return False
            return await call(*args)

        return around


async def test_a_permit_is_renewed_as_long_as_the_body_runs(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        async with app.limit("api", "acme", ttl=1):
            await until(lambda: away.calls.count("renew") >= 2)
        assert away.calls.count("give_back") == 1
        renews = away.calls.count("renew")
        await asyncio.sleep(0.4)
        assert away.calls.count("renew") == renews


async def goes_on(passage: Passage) -> None:
    async with passage:
        await asyncio.sleep(LIMIT_S / 2)
        pytest.fail("it went on")


async def test_a_lost_permit_ends_the_body(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        away.gone = True
        with pytest.raises(LimitLost, match=r"the limit api acme was lost: it was not renewed"):
            await goes_on(app.limit("api", "acme", ttl=1))
        # The task that has lost it is not cancelled any more.
        await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_store_that_is_away_for_too_long(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        away.failing = {"renew", "give_back"}
        with pytest.raises(LimitLost, match=r"the store was away for longer than its 1 s: away"):
            async with app.limit("api", "acme", ttl=1):
                await asyncio.sleep(LIMIT_S)
        assert away.calls.count("renew") >= 3


async def test_a_store_that_does_not_answer_keeps_no_body_beyond_the_permit(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        away.hanging = {"renew"}
        with pytest.raises(LimitLost, match=r"away for longer than its 1 s: it has not answered"):
            # A reply would come long after the permit has ended, and others have it.
            await goes_on(app.limit("api", "acme", ttl=1))


async def test_a_body_that_ends_as_its_permit_is_lost(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        passage = app.limit("api", "acme")
        with pytest.raises(LimitLost):
            async with passage:
                passage._lose("of a test")
        await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_who_is_cancelled_besides_stays_cancelled(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(1))

    async def body() -> None:
        passage = app.limit("api", "acme")
        async with passage:
            passage._lose("of a test")
            task.cancel()
            await asyncio.sleep(LIMIT_S)

    async with app:
        task = asyncio.create_task(body())
        with pytest.raises(asyncio.CancelledError):
            await task


async def fails_in(passage: Passage) -> None:
    async with passage:
        passage._lose("of a test")
        raise ValueError("own")


async def test_an_error_of_the_body_counts_more(app: AsyncJobs) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        passage = app.limit("api", "acme")
        with pytest.raises(ValueError, match="own"):
            await fails_in(passage)
        # As with asyncio.timeout, the task has no cancel any more; but only from Python 3.13 on one
        # that was under way is taken back, too.
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        if sys.version_info >= (3, 13):
            await asyncio.sleep(0)
        else:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)


async def test_a_permit_that_cannot_be_given_back(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        away.failing = {"give_back"}
        async with app.limit("api", "acme"):
            pass
    assert "its permit could not be given back (away), and ends by itself within 30 s" in (
        caplog.text
    )


async def test_a_lost_reply_counts_once(app: AsyncJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    app.limits.define("api", Concurrency(1))
    async with app:
        limits = type(app.backend.limits)
        acquire = limits.acquire
        asked: list[Acquired] = []

        async def lost(*args: Any) -> Acquired:
            asked.append(await acquire(*args))
            if len(asked) == 1:
                raise StoreUnavailable("no reply")
            return asked[-1]

        monkeypatch.setattr(limits, "acquire", lost)
        async with app.limit("api", "acme", timeout=LIMIT_S):
            assert asked == [Acquired(is_in=True)] * 2
            assert await running(app) == 1


async def test_a_store_that_does_not_answer(new_app: NewApp, monkeypatch: Any) -> None:
    app = new_app(connect_timeout=0.1)
    app.limits.define("api", Concurrency(1))
    async with app:
        away = Away(app, monkeypatch)
        away.failing = {"acquire"}
        with pytest.raises(StoreUnavailable):
            async with app.limit("api", "acme"):
                pytest.fail("it was let in")
        assert away.calls[-1] == "give_back"


# ── looking at limits, and changing them ─────────────────────────────────────────────


async def test_an_operator_changes_a_limit(app: AsyncJobs) -> None:
    job = register(app, jobs.gated, limits=Concurrency(1, by="name"))
    name = "gated:concurrency:name"
    async with working(app):
        handles = [await job.enqueue("acme") for _ in range(3)]
        await until_state(handles[0], State.RUNNING)
        (info,) = await app.limits.list()
        assert (info.name, info.key, info.queue) == (name, "acme", "default")
        assert (info.rule, info.is_set, info.running, info.waiting) == ("1", False, 1, 2)
        assert info.oldest is not None
        with pytest.raises(ConfigError, match="rule: 'many' is not a rate"):
            await app.limits.set(name, "many")
        with pytest.raises(UsageError):
            await app.limits.set(name, "5/s")
        assert await app.limits.set(name, 2, "acme")
        await until_state(handles[1], State.RUNNING)
        assert await app.limits.set(name, "3")
        assert await app.limits.set(name, None, "acme")
        await until_state(handles[2], State.RUNNING)
        (info,) = await app.limits.look(name, "acme")
        assert (info.rule, info.is_set, info.running) == ("3", True, 3)
        assert await app.limits.set(name, None)
        assert (await app.limits.look(name, "acme"))[0].rule == "1"
        assert not await app.limits.set("unknown", 5)
        assert await app.limits.look("unknown") == []
        jobs.stage.open("acme")
        for handle in handles:
            await ended(app, handle.id, State.SUCCEEDED)


async def test_a_closed_key(app: AsyncJobs) -> None:
    job = register(app, jobs.echo, limits=Concurrency(5, by="value", name="api"))
    async with working(app):
        await app.limits.close("api", 3600, "acme")
        handle = await job.enqueue("acme")
        assert await (await job.enqueue("other")).result(LIMIT_S) == "other"
        assert await handle.status() is State.HELD
        assert (await app.limits.look("api", "acme"))[0].opens is not None
        assert await app.limits.free("api", "acme") == 0
        assert await handle.result(LIMIT_S) == "acme"


# ── what is refused ──────────────────────────────────────────────────────────────────


def test_definitions_that_are_refused() -> None:
    app = AsyncJobs("memory:")
    register(app, jobs.echo, limits=Concurrency(5, name="taken"))
    app.limits.define("api", Concurrency(5), queue="mail")
    app.limits.define("api", Concurrency(5), queue="mail")
    for name, limit, queue, wanted in (
        ("api", Concurrency(6), "mail", "is there already, with another rule or queue"),
        ("api", Concurrency(5), None, "is there already"),
        ("taken", Concurrency(5), None, "is there already"),
        ("a b", Concurrency(5), None, "is not the name of a limit"),
        ("x", Concurrency(5, by="tenant"), None, "leave by= and name= out"),
        ("x", Concurrency(5, name="y"), None, "leave by= and name= out"),
        ("x", Concurrency(5, strategy="cancel_new"), None, "which is for jobs"),
        ("x", 5, None, "takes a Concurrency or RateLimit, not 5"),
        ("x", Concurrency(5), "no queue", "is not a queue name"),
    ):
        with pytest.raises(ConfigError, match=wanted):
            app.limits.define(name, limit, queue=queue)  # type: ignore[arg-type]


def test_passages_that_are_refused() -> None:
    app = AsyncJobs("memory:")
    limits = [
        Concurrency(5, name="plain"),
        Concurrency(5, by="value", name="keyed"),
        Concurrency(lambda value: 5, name="own"),
    ]
    register(app, jobs.echo, limits=limits)
    routed = QueueBy(lambda name: "a", among=["a", "b"])
    register(app, jobs.gated, queue=routed, limits=Concurrency(5, name="routed"))
    for name, key, options, wanted in (
        (
            "unknown",
            "",
            {},
            r"there is no limit 'unknown'; .* Known are: keyed, own, plain, routed",
        ),
        ("plain", "acme", {}, "the limit 'plain' has no keys; leave 'acme' out"),
        ("keyed", "", {}, "the limit 'keyed' counts by value; give the key"),
        ("keyed", object(), {}, "cannot be written as JSON"),
        ("own", "", {}, "comes from the calls of jobs, and here is no call"),
        ("routed", "", {}, "counts in each queue by itself"),
        ("plain", "", {"timeout": -1}, "timeout must be a time"),
        ("plain", "", {"ttl": 0.1}, "ttl must be a time from 1 s"),
    ):
        with pytest.raises((UsageError, ConfigError), match=wanted):
            app.limit(name, key, **options)  # type: ignore[arg-type]
    assert app.limit("routed", queue="a")._terms.queue == "a"


async def test_a_passage_is_used_once_and_by_async_with() -> None:
    app = AsyncJobs("memory:")
    app.limits.define("api", Concurrency(5))
    passage = app.limit("api")
    with pytest.raises(UsageError, match="is passed by `async with`"):
        passage.__enter__()
    async with app:
        async with passage:
            pass
        with pytest.raises(UsageError, match=r"call app\.limit"):
            await passage.__aenter__()
