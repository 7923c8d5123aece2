"""`asyncjobs.compat.celery`: what Celery's names do here, and what they refuse."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Depends,
    Discard,
    JobContext,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    JobRegistry,
    NotBound,
    Priority,
    ResultsDisabled,
    Retry,
    State,
    Worker,
)
from asyncjobs.cli.celery.rule import RULES, Verdict
from asyncjobs.compat.celery import (
    FROM_RABBITMQ,
    FROM_REDIS,
    Celery,
    CeleryResult,
    CeleryTask,
    celery_like,
    chain,
    chord,
    group,
    shared_task,
    shared_tasks,
)
from asyncjobs.compat.celery.options import OF_CALLS, OF_TASKS, apply_options
from asyncjobs.errors import ConfigError, FlowCancelled, FlowFailed, ResultTimeout, UsageError

LIMIT_S = 20
ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def add(a: int, b: int = 0) -> int:
    return a + b


async def double(number: int) -> int:
    return 2 * number


def fail(text: str) -> None:
    raise ValueError(text)


def give_up() -> None:
    raise Discard("no more")


async def wait() -> None:
    await asyncio.Event().wait()


def retry_once(*, ctx: JobContext = INJECTED) -> int:
    if ctx.attempt == 1:
        raise Retry("once more", delay=0)
    return ctx.attempt


def who(*, ctx: JobContext = INJECTED) -> str:
    return ctx.id


def who_else() -> str:
    return "nobody"


@pytest.fixture(params=["memory", "valkey"])
def jobs(request: pytest.FixtureRequest, servers: Any) -> AsyncJobs:
    url = "memory:"
    if request.param != "memory":
        url = servers.get(request.param).url
    return AsyncJobs(url, prefix=f"test-{os.urandom(6).hex()}")


@pytest.fixture
def app(jobs: AsyncJobs) -> Celery:
    return Celery(jobs)


@pytest.fixture
def plain() -> Celery:
    """One that no store is asked for."""
    return Celery(AsyncJobs("memory:"))


def beside(jobs: AsyncJobs, view: Callable[[], T], *, working: bool = True) -> T:
    """What sync code returns beside an open app, with a worker or without."""

    async def run() -> T:
        async with jobs:
            if not working:
                return await asyncio.to_thread(view)
            async with Worker(jobs):
                return await asyncio.to_thread(view)

    return asyncio.run(run())


# Calls


def test_delay_and_get(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(add)
    assert beside(jobs, lambda: task.delay(1, b=2).get(timeout=LIMIT_S)) == 3


def test_an_async_function_is_a_task_too(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(queue="fast")(double)

    def view() -> Any:
        result = task.apply_async((4,))
        assert result.handle.queue == "fast"
        return result.get(timeout=LIMIT_S)

    assert beside(jobs, view) == 8


def test_apply_async_has_the_options_of_celery(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(add)
    late = datetime.now(UTC) + timedelta(hours=2)

    def view() -> list[Any]:
        results = [
            task.apply_async((1, 2), countdown=3600, expires=7200, queue="slow", priority="low"),
            task.apply_async(args=[1], kwargs={"b": 2}, eta=late, task_id="mine", expires=None),
            task.apply_async((1,), task_id="mine"),
            task.apply_async((1,), countdown=None, eta=None, ignore_result=True),
        ]
        infos = [result.info for result in results]
        assert results[2].handle.is_new is False
        return infos

    first, second, third, _ = beside(jobs, view, working=False)
    assert (first.state, first.ref.queue, first.priority) == (State.SCHEDULED, "slow", Priority.LOW)
    assert abs((first.due_at - datetime.now(UTC)).total_seconds() - 3600) < 600
    assert (first.expires_at - first.enqueued_at) == timedelta(hours=2)
    assert (second.ref.id, second.args, second.kwargs) == ("mine", [1], {"b": 2})
    assert abs((second.scheduled_at - late).total_seconds()) < 0.001
    assert second.expires_at is None
    assert third.ref == second.ref


def test_a_result_may_be_ignored(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(ignore_result=True)(add)

    def view() -> None:
        with pytest.raises(ResultsDisabled):
            task.delay(1).get(timeout=LIMIT_S)

    beside(jobs, view, working=False)


def test_an_error_ends_a_task_as_in_celery(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(fail)
    assert task.job.settings.retry.max_attempts == 1
    assert task.job.settings.timeout_s is None

    def view() -> None:
        result = task.delay("planted")
        with pytest.raises(JobFailed, match="planted"):
            result.get(timeout=LIMIT_S)
        error = result.get(propagate=False)
        assert isinstance(error, JobFailed)
        assert result.failed()
        assert not result.successful()
        assert result.info.attempt == 1

    beside(jobs, view)


def test_retries_are_those_of_asyncjobs(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(retry=2, timeout=60)(retry_once)
    assert task.job.settings.timeout_s == 60
    assert beside(jobs, lambda: task.delay().get(timeout=LIMIT_S)) == 2


def test_on_a_running_loop_it_says_what_to_await() -> None:
    jobs = AsyncJobs("memory:")
    task = Celery(jobs).task(add)

    async def main() -> None:
        async with jobs:
            with pytest.raises(UsageError, match=r"await .*enqueue"):
                task.delay(1)
            with pytest.raises(UsageError, match=r"await handle\.cancel"):
                CeleryResult(await task.job.enqueue(1)).revoke(terminate=True)

    asyncio.run(main())


def test_a_plain_call_runs_here() -> None:
    jobs = AsyncJobs("memory:")
    app = Celery(jobs)
    assert app.task(add)(1, 2) == 3
    assert asyncio.run(app.task(double)(2)) == 4
    assert app.task(who)() == "local"

    def needy(*, value: Any = Depends(who_else)) -> Any:
        return value

    needy.__qualname__ = "needy"
    with pytest.raises(UsageError, match=r"await needy\.job"):
        app.task(needy)()


# Results


def test_the_states_of_celery(jobs: AsyncJobs, app: Celery) -> None:
    names = [app.task(f) for f in (add, fail, give_up, wait)]
    plus, failing, giving_up, waiting = names
    states: dict[str, str] = {}

    def view() -> None:
        later = plus.apply_async((1,), countdown=3600)
        states["scheduled"] = later.state
        assert (later.ready(), later.result) == (False, None)
        assert later.revoke() is True
        assert later.revoke() is False
        states["cancelled"] = later.status
        done = plus.delay(20, 22)
        assert done.get(timeout=LIMIT_S) == 42
        states["succeeded"] = done.state
        assert (done.ready(), done.successful(), done.failed()) == (True, True, False)
        assert done.result == 42
        broken = failing.delay("x")
        broken.get(timeout=LIMIT_S, propagate=False)
        states["dead"] = broken.state
        dropped = giving_up.delay()
        with pytest.raises(JobDiscarded):
            dropped.get(timeout=LIMIT_S)
        states["discarded"] = dropped.state
        late = plus.apply_async((1,), expires=0.001, task_id="late", countdown=0)
        late.get(timeout=LIMIT_S, propagate=False)
        running = waiting.delay()
        while running.state != "STARTED":
            pass
        states["running"] = running.state
        with pytest.raises(ResultTimeout):
            running.get(timeout=0.01)
        assert running.revoke() is False
        assert running.state == "STARTED"
        assert running.revoke(terminate=True) is True
        running.get(timeout=LIMIT_S, propagate=False)
        states["terminated"] = running.state

    beside(jobs, view)
    assert states == {
        "scheduled": "PENDING",
        "cancelled": "REVOKED",
        "succeeded": "SUCCESS",
        "dead": "FAILURE",
        "discarded": "IGNORED",
        "running": "STARTED",
        "terminated": "REVOKED",
    }


def test_a_result_by_its_id(jobs: AsyncJobs, app: Celery) -> None:
    task = app.task(add)

    def view() -> None:
        result = task.apply_async((1, 2), task_id="mine")
        again = app.AsyncResult("mine")
        assert again == result
        assert again.get(timeout=LIMIT_S) == 3
        assert app.AsyncResult("default/mine").task_id == "mine"
        # Celery says PENDING here, for ever.
        with pytest.raises(JobNotFound):
            _ = app.AsyncResult("nobody").state

    beside(jobs, view)


def test_a_registry_has_no_results() -> None:
    with pytest.raises(UsageError, match=r"ask Celery\(app\)"):
        Celery(JobRegistry()).AsyncResult("a")
    with pytest.raises(UsageError, match=r"Celery\(AsyncJobs\(url\)\)"):
        Celery("redis://localhost")  # type: ignore[arg-type]


# Names


def test_send_task_by_name(jobs: AsyncJobs, app: Celery) -> None:
    app.task(name="shop.add")(add)
    assert beside(jobs, lambda: app.send_task("shop.add", (1,), {"b": 5}).get(timeout=LIMIT_S)) == 6
    with pytest.raises(UsageError, match=r"did you mean 'shop\.add'"):
        app.send_task("shop.ad")
    with pytest.raises(UsageError, match="import the module"):
        app.send_task("entirely.else")


def test_shared_tasks_belong_to_the_app_that_includes_them(jobs: AsyncJobs) -> None:
    source = (
        "from asyncjobs import AsyncJobs\n"
        "from asyncjobs.compat.celery import Celery, shared_task, shared_tasks\n"
        "@shared_task(queue='mail')\ndef f(x: int) -> int:\n    return x\n"
        "jobs = AsyncJobs('memory:')\njobs.include(shared_tasks)\n"
        "assert jobs.registry.find('m.f') is f.job\nassert f.name == 'm.f'\n"
    )
    subprocess.run(
        [sys.executable, "-c", f"import types, sys\n__name__ = 'm'\n{source}"],
        check=True,
        cwd=ROOT,
        timeout=60,
    )


def test_a_shared_task_without_an_app_says_what_to_write() -> None:
    task = shared_task(name="lonely")(give_up)
    assert shared_tasks.find("lonely") is task.job
    with pytest.raises(NotBound, match="include"):
        task.delay()


def test_celery_like_leaves_the_job_function_alone(jobs: AsyncJobs) -> None:
    job = jobs.job(queue="mail")(add)
    task = celery_like(job)
    assert task.job is job
    assert job.settings.timeout_s == 300
    assert (task.name, task.__name__, repr(task)) == (job.name, "add", f"<CeleryTask {job.name}>")
    assert beside(jobs, lambda: task.delay(2).handle.queue, working=False) == "mail"


# Canvas


def total(numbers: list[int]) -> int:
    return sum(numbers)


def test_chains_groups_and_chords(app: Celery, jobs: AsyncJobs) -> None:
    plus, twice, summed = app.task(add), app.task(double), app.task(total)
    by_name = app.signature(plus.name, (1,), immutable=True)

    def view() -> list[Any]:
        work: list[Any] = [
            chain(plus.s(1, 2), twice.s(), plus.s(10)),
            plus.s(1, 2) | twice.s() | plus.si(5, 5),
            group(plus.s(n, n) for n in range(3)),
            chord([plus.s(n, 1) for n in range(4)], summed.s()),
            group(twice.s(n) for n in (1, 2)) | summed.s(),
            plus.s(1, 1) | group(twice.s(), plus.s(5)),
            chain(by_name, twice.s()),
        ]
        results = [each.delay() for each in work]
        results += [chain(plus.s(1), twice.s()).delay(4), chord([plus.s(1)])(summed.s())]
        found = [result.get(timeout=LIMIT_S) for result in results]
        assert {(each.state, each.ready(), each.successful()) for each in results} == {
            ("SUCCESS", True, True)
        }
        return found

    assert beside(jobs, view) == [16, 10, [0, 2, 4], 10, 6, [4, 7], 2, 10, 1]


def test_a_flow_that_fails_or_is_revoked() -> None:
    jobs = AsyncJobs("memory:")
    app = Celery(jobs)
    failing, waiting, plus = app.task(fail), app.task(wait), app.task(add)

    def view() -> None:
        broken = chain(failing.si("planted"), plus.s(1)).delay()
        with pytest.raises(FlowFailed):
            broken.get(timeout=LIMIT_S)
        assert (broken.failed(), broken.state) == (True, "FAILURE")
        running = (waiting.si() | plus.si(1)).delay()
        assert (running.ready(), running.state) == (False, "STARTED")
        with pytest.raises(UsageError, match="terminate=True"):
            running.revoke()
        assert running.revoke(terminate=True) is True
        with pytest.raises(FlowCancelled):
            running.get(timeout=LIMIT_S)
        assert running.state == "REVOKED"
        assert running.revoke(terminate=True) is False

    beside(jobs, view)


def test_a_signature_is_a_value() -> None:
    jobs = AsyncJobs("memory:")
    app = Celery(jobs, priorities=FROM_REDIS)
    plus = app.task(add)

    def view() -> None:
        one = plus.s(1)
        slow = one.set(queue="slow", countdown=3600)
        info = slow.delay(2).info
        assert (info.ref.queue, info.args, info.state) == ("slow", [2, 1], State.SCHEDULED)
        assert (one.options, one.args) == ({}, (1,))
        assert one.clone((5,), {"b": 7}).kwargs == {"b": 7}
        assert plus.signature((1,), queue="slow").apply_async(kwargs={"b": 4}).info.kwargs == {
            "b": 4
        }
        flow = chain(one.set(queue="slow"), plus.s(2)).apply_async()
        assert flow.id.startswith("default/")

    beside(jobs, view, working=False)
    assert plus.s(1)(2) == 3


def test_what_is_no_signature_is_refused(plain: Celery) -> None:
    odd: Any = add
    wrong_calls: list[Callable[[], Any]] = [
        lambda: chain(odd),
        lambda: group([odd]),
        lambda: chord([odd], odd),
    ]
    for wrong in wrong_calls:
        with pytest.raises(UsageError, match=r"such as f\.s\(1\)"):
            wrong()
    with pytest.raises(UsageError, match="nothing to run"):
        chain()
    with pytest.raises(UsageError, match="no task in it"):
        group([]).delay()


# What means something else, or nothing


def test_numbers_of_priority_are_refused_until_it_is_known_what_they_mean(
    jobs: AsyncJobs, app: Celery
) -> None:
    with pytest.raises(ConfigError, match="FROM_REDIS"):
        app.task(add).apply_async((1,), priority=9)  # type: ignore[typeddict-item]
    send: Any = Celery(jobs, priorities=FROM_REDIS).task(name="mapped")(give_up).apply_async
    with pytest.raises(ConfigError, match="none of the priorities"):
        send(priority=10)

    def view() -> list[Any]:
        return [send(priority=number).info.priority for number in (0, 3, 6, 9)]

    found = beside(jobs, view, working=False)
    assert found == [Priority.CRITICAL, Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert FROM_RABBITMQ[0] == "low"
    assert FROM_RABBITMQ[9] == "critical"
    assert set(FROM_REDIS) == set(FROM_RABBITMQ) == set(range(10))


def test_a_time_without_a_zone_is_refused(plain: Celery) -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        plain.task(add).apply_async((1,), eta=datetime(2030, 1, 1))  # noqa: DTZ001


def test_retry_of_a_call_is_about_attempts_here(plain: Celery) -> None:
    task = plain.task(give_up)
    for value in (True, False):
        with pytest.raises(ConfigError, match="connect_timeout"):
            task.apply_async(retry=value)


@pytest.mark.parametrize("name", OF_TASKS)
def test_options_of_tasks_that_mean_nothing_here_say_what_to_write(
    plain: Celery, name: str
) -> None:
    given: Any = {name: object()}
    with pytest.raises(
        ConfigError, match=f"^{name}= of a task is an option of Celery; .+"
    ) as error:
        plain.task(**given)
    assert OF_TASKS[name] in str(error.value)


@pytest.mark.parametrize("name", OF_CALLS)
def test_options_of_calls_that_mean_nothing_here_say_what_to_write(
    plain: Celery, name: str
) -> None:
    given: Any = {name: object()}
    task: CeleryTask[..., int] = plain.task(add)
    with pytest.raises(ConfigError, match=f"^{name}= of a call is an option of Celery; .+"):
        task.apply_async((1,), **given)


def test_an_unknown_option_is_an_error_as_everywhere(plain: Celery) -> None:
    given: Any = {"colour": "red"}
    with pytest.raises(TypeError, match="colour"):
        plain.task(**given)
    with pytest.raises(TypeError, match="colour"):
        plain.task(add).apply_async((1,), **given)


def test_check_celery_and_the_options_say_the_same() -> None:
    for kind, refused in (("task-option", OF_TASKS), ("call-option", OF_CALLS)):
        by_hand = {
            name
            for rule in RULES
            if rule.kind == kind and rule.verdict is not Verdict.MOVES
            for name in rule.names
            if "*" not in name and "=" not in name
        }
        # The value of these two decides.
        assert by_hand - {"priority", "retry"} == set(refused)


def test_what_moves_by_itself_is_accepted(plain: Celery) -> None:
    values = {"True": True, "False": False, "": "some", "json": "json"}
    special: dict[str, Any] = {
        "countdown": 1,
        "eta": datetime.now(UTC) + timedelta(hours=1),
        "expires": 60,
        "ignore_result": True,
        "immutable": True,
        "trail": False,
    }
    job = plain.task(add).job
    for rule in RULES:
        if rule.verdict is not Verdict.MOVES or rule.kind not in ("task-option", "call-option"):
            continue
        for name in rule.names:
            bare, _, value = name.partition("=")
            given = {bare: special.get(bare, values[value])}
            if rule.kind == "task-option":
                plain.task(**given)
            else:
                job.options(**apply_options(given, None))


@pytest.mark.parametrize(
    ("thing", "name", "instead"),
    [
        ("task", "retry", "asyncjobs.Retry"),
        ("task", "chunks", "steps"),
        ("task", "update_state", "ctx.progress"),
        ("app", "conf", "AsyncJobs"),
        ("app", "control", "app.workers"),
        ("result", "children", "app.flows"),
        ("result", "forget", "result_ttl"),
    ],
)
def test_other_names_of_celery_say_what_to_write(
    plain: Celery, thing: str, name: str, instead: str
) -> None:
    things: dict[str, Any] = {
        "app": plain,
        "task": plain.task(add),
        "result": CeleryResult(plain.task(give_up).job.handle("x")),
    }
    assert not hasattr(things[thing], name)
    with pytest.raises(AttributeError, match=instead):
        getattr(things[thing], name)
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        _ = things[thing].colour
