from __future__ import annotations

import inspect
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from asyncjobs import AsyncJobs, JobRegistry, RetryPolicy, constant
from asyncjobs.errors import ArgumentsError, ConfigError, EncodeError, NotBound
from asyncjobs.jobs.context import INJECTED, JobContext, current_job
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import Priority
from asyncjobs.options.durations import When
from asyncjobs.options.table import JobOptions
from asyncjobs.policy.retry import Retries

pytestmark = pytest.mark.anyio

registry = JobRegistry()


@registry.job(
    queue="mail",
    priority="high",
    timeout=30,
    retry=RetryPolicy(5, constant(3)),
    discard_on=[ValueError],
    result_ttl=timedelta(minutes=1),
)
async def send(user_id: int, text: Any = "", *, ctx: JobContext = INJECTED) -> str:
    """Sends."""
    assert current_job() is ctx
    return f"{user_id} in {ctx.queue} as {ctx.id}, attempt {ctx.attempt}"


@registry.job
def double(number: int) -> tuple[int, int, str]:
    return number * 2, threading.get_ident(), current_job().name


@registry.job
async def broken() -> None:
    raise KeyError("x")


def test_it_keeps_the_functions_name_and_signature() -> None:
    assert (send.name, send.__name__, send.__doc__) == (f"{__name__}.send", "send", "Sends.")
    assert list(inspect.signature(send).parameters) == ["user_id", "text", "ctx"]
    assert (send.injected, send.is_async, double.is_async) == ("ctx", True, False)
    assert "send" in repr(send)
    assert "send" in repr(send.bind(1))


def test_settings_are_what_was_declared() -> None:
    assert send.settings == JobOptions(
        "mail",
        Priority.HIGH,
        30.0,
        Retries.of(RetryPolicy(5, constant(3))),
        (ValueError,),
        result_ttl_ms=60_000,
    )
    assert double.settings == JobOptions("default", Priority.NORMAL, 300.0, Retries.of(True))


def test_the_app_fills_in_what_a_job_function_does_not_say() -> None:
    inner = JobRegistry()
    says = inner.job(timeout=None, retry=2)(double.function)
    silent = inner.job(name="silent")(double.function)
    early = silent.options(priority="low")
    AsyncJobs("memory:", timeout=7, retry=4).include(inner)
    assert (says.settings.timeout_s, says.settings.retry.max_attempts) == (None, 2)
    assert (silent.settings.timeout_s, silent.settings.retry.max_attempts) == (7, 4)
    assert (early.settings.timeout_s, early.settings.priority) == (7, Priority.LOW)


async def test_a_plain_call_runs_here_with_a_local_context() -> None:
    assert await send(42) == "42 in mail as local, attempt 1"
    with pytest.raises(KeyError):
        await broken()
    with pytest.raises(ArgumentsError, match="missing argument"):
        await send()  # type: ignore[call-arg]


async def test_a_plain_call_may_bring_its_own_context() -> None:
    context = JobContext.local("mine", queue="other")
    assert "in other" in await send(42, ctx=context)


async def test_a_plain_call_of_a_sync_function_runs_in_a_thread() -> None:
    number, thread, name = await double(21)
    assert number == 42
    assert thread != threading.get_ident()
    assert name == double.name


def test_options_belong_to_the_copy() -> None:
    when = datetime(2027, 1, 1, 9, tzinfo=UTC)
    later = send.options(delay=60, priority="low", id="welcome:42", queue="slow")
    assert later.settings.due == When(after_ms=60_000)
    assert (later.settings.priority, later.settings.id) == (Priority.LOW, "welcome:42")
    assert later.settings.queue == "slow"
    assert later.settings.discard_on == (ValueError,)
    fixed = later.options(at=when)
    assert fixed.settings.due == When(at_ms=1_798_794_000_000)
    assert fixed.options(delay=1).settings.due == When(after_ms=1_000)
    assert send.settings.due == When()
    assert send.settings.id is None


def test_what_one_enqueue_overrides_travels_with_the_job() -> None:
    job = send.options(timeout=None, retry=2, result_ttl=0.5).new_job((1,), {})
    stored = Envelope.decode(job.envelope).options
    assert stored == {"timeout": None, "max_attempts": 2, "result_ttl": 500}
    settings = send.settings_for(stored)
    assert (settings.timeout_s, settings.result_ttl_ms) == (None, 500)
    assert settings.retry == Retries(default=RetryPolicy(5, constant(3)), total=2)
    assert send.settings_for(None) is send.settings
    assert Envelope.decode(send.new_job((1,), {}).envelope).options is None
    assert send.options(retry=False).settings.retry.max_attempts == 1


def test_one_enqueue_limits_all_policies_of_the_app_too() -> None:
    inner = JobRegistry()
    job = inner.job(retry=[RetryPolicy(9, constant(1), on=KeyError)])(double.function)
    app = AsyncJobs("memory:", retry=[RetryPolicy(3, on=OSError), RetryPolicy(4, constant(2))])
    variant = job.options(retry=6)
    app.include(inner)
    assert job.settings.retry.max_attempts == 1 + 8 + 2 + 3
    for retry in (variant.settings.retry, job.settings_for({"max_attempts": 6}).retry):
        assert [retry.max_attempts, len(retry.named)] == [6, 2]
        assert retry.policy_for(ValueError()).delay_s(1) == 2
    assert app.max_attempts(job.name, None) == 14
    assert app.max_attempts(job.name, {"max_attempts": 6}) == 6


def expires_ms(job: JobFunction[..., Any]) -> tuple[int | None, int]:
    """When a new job expires, and when it was enqueued, in ms since the epoch."""
    envelope = Envelope.decode(job.new_job((1,), {}).envelope)
    return envelope.expires_ms, envelope.enqueued_ms


def test_a_job_may_expire() -> None:
    assert expires_ms(send)[0] is None
    ends, enqueued = expires_ms(send.options(expires=timedelta(seconds=30)))
    assert ends == enqueued + 30_000
    when = datetime(2060, 1, 1, tzinfo=UTC)
    assert expires_ms(send.options(expires=when))[0] == round(when.timestamp() * 1000)
    inner = JobRegistry()
    job = inner.job(expires=1.5)(double.function)
    AsyncJobs("memory:").include(inner)
    ends, enqueued = expires_ms(job)
    assert ends == enqueued + 1_500
    assert expires_ms(job.options(expires=None))[0] is None
    ends, enqueued = expires_ms(job.options(expires=when).options(expires=9))
    assert ends == enqueued + 9_000
    assert expires_ms(job.options(id="same").options(priority="low"))[0] is not None


SOON = datetime(2060, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 60, "expires": 60},
        {"delay": 60, "expires": timedelta(seconds=59)},
        {"delay": timedelta(days=40 * 366), "expires": SOON},
        {"at": SOON, "expires": SOON},
        {"at": SOON, "expires": 3600},
    ],
)
def test_a_job_that_expires_before_it_is_due_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"send: expires is not after .* delay or at"):
        send.options(**options)
    with pytest.raises(ConfigError, match="expires=None"):
        send.options(expires=options.pop("expires")).options(**options)


def test_a_job_that_expires_after_it_is_due_is_taken() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    send.options(delay=60, expires=61)
    send.options(at=SOON, expires=SOON + timedelta(seconds=1))
    send.options(at=past, expires=1)
    # Late from the start, without a delay: stored, and discarded by who takes it.
    assert expires_ms(send.options(expires=past))[0] == round(past.timestamp() * 1000)


@pytest.mark.parametrize(
    "stored", [{"timeout": "x"}, {"timeout": -1}, {"max_attempts": "9"}, {"result_ttl": []}]
)
def test_stored_options_are_not_trusted(stored: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        send.settings_for(stored)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": "60s"}, "delay"),
        ({"at": datetime(2027, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"delay": 1, "at": datetime(2027, 1, 1, tzinfo=UTC)}, "not both"),
        ({"id": "a b"}, "id="),
        ({"queue": "a/b"}, "queue="),
        ({"priority": "urgent"}, "priority"),
        ({"timeout": 0}, "timeout"),
        ({"retry": RetryPolicy()}, "belongs on the job function"),
        ({"retry": 0}, "max_attempts"),
        ({"result_ttl": -1}, "result_ttl"),
        ({"expires": 0}, "expires must be a time from"),
        ({"expires": "30s"}, "expires must be"),
        ({"expires": datetime(2027, 1, 1)}, "expires=.*no time zone"),  # noqa: DTZ001
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        send.options(**options)


def test_a_job_is_made_without_any_store() -> None:
    job = send.options(priority="critical").new_job((42,), {"text": "hi"})
    assert (job.queue, job.priority, job.delay_ms, job.at_ms) == ("mail", 0, 0, None)
    assert len(job.id) == 28
    envelope = Envelope.decode(job.envelope)
    assert (envelope.name, envelope.args, envelope.kwargs) == (send.name, [42], {"text": "hi"})
    assert envelope.scheduled_ms is None
    later = send.options(delay=5, id="x").new_job((42,), {})
    assert (later.id, later.delay_ms) == ("x", 5_000)
    moved = Envelope.decode(later.envelope)
    assert moved.scheduled_ms == moved.enqueued_ms + 5_000


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (({1},), {}, "send: argument 'user_id' is a set"),
        ((1, [(2,)]), {}, "send: argument 'text'[0] is a tuple"),
        ((1,), {"text": {"a": float("nan")}}, "send: argument 'text'['a'] is nan"),
        ((2**70,), {}, "send: argument 'user_id' is an integer of over 64 bits"),
        ((1,), {"text": "\ud800"}, "argument 'text' has text that is not Unicode"),
    ],
)
def test_an_argument_that_json_would_change_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        send.new_job(args, kwargs)
    assert said in str(caught.value)
    assert send.name in str(caught.value)


def test_edges_of_integers_pass() -> None:
    raw = send.new_job((-(2**63), [2**64 - 1]), {}).envelope
    assert orjson.loads(raw)["a"] == [-(2**63), [2**64 - 1]]


async def test_without_an_app_it_says_what_to_write() -> None:
    lonely: JobFunction[[int], Any] = JobRegistry().job(double.function)
    for call in (lambda: lonely.enqueue_sync(1), lambda: lonely.handle("1")):
        with pytest.raises(NotBound, match=r"app\.include\(registry\)"):
            call()
    with pytest.raises(NotBound, match=r"app\.include\(registry\)"):
        await lonely.enqueue(1)


def test_bind_checks_the_arguments() -> None:
    with pytest.raises(ArgumentsError):
        send.bind()  # type: ignore[call-arg]
    call = send.bind(1, text="x")
    assert (call.function, call.args, call.kwargs) == (send, (1,), {"text": "x"})


def test_a_mode_of_tracing_travels_with_the_job() -> None:
    app = AsyncJobs("memory:", tracing="auto")
    function = app.job(name="f", tracing="child")(_plain)
    assert app.job(name="g")(_plain_too).settings.tracing == "auto"
    assert function.settings.tracing == "child"
    job = function.options(tracing="none").new_job((), {})
    stored = Envelope.decode(job.envelope).options
    assert stored == {"tracing": "none"}
    assert function.settings_for(stored).tracing == "none"
    with pytest.raises(ConfigError, match="stored tracing"):
        function.settings_for({"tracing": "everything"})


async def _plain() -> None:
    pass


async def _plain_too() -> None:
    pass
