"""Unique jobs as users write them: rules, keys, and what a handle says."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    ConfigError,
    Debounce,
    JobFunction,
    RegistrationError,
    State,
    Throttle,
    Unique,
    UniqueConflict,
)
from asyncjobs.events import JobEnqueued
from asyncjobs.jobs.context import _current
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.headers import Headers
from asyncjobs.model.terms import Unique as Lock
from asyncjobs.policy.unique import UniqueRule, UniqueValue

pytestmark = pytest.mark.anyio

LONGEST_MS = 100 * 366 * 86_400_000


async def report(account: int, day: str = "today", *, force: bool = False) -> None: ...


async def many(*accounts: int, **more: int) -> None: ...


async def both(account: int, /, **more: int) -> None: ...


def connect(function: Any) -> Any:
    @functools.wraps(function)
    async def connected(*args: Any, **kwargs: Any) -> None:
        await function("connection", *args, **kwargs)

    return connected


@connect
async def connected(connection: str, account: int, *, day: str = "") -> None: ...


def job(unique: UniqueValue | None, function: Any = report) -> JobFunction[..., Any]:
    made: JobFunction[..., Any] = AsyncJobs("memory:").job(name="report", unique=unique)(function)
    return made


def key(unique: UniqueValue, *args: Any, function: Any = report, **kwargs: Any) -> bytes:
    terms = job(unique, function).new_job(args, kwargs).terms
    assert terms is not None
    assert terms.unique is not None
    return terms.unique.key


# Keys


def test_the_same_call_has_the_same_key_however_it_is_written() -> None:
    same = {
        key(Unique(), 1),
        key(Unique(), account=1),
        key(Unique(), 1, "today"),
        key(Unique(), 1, force=False),
        key(Unique(), day="today", account=1),
    }
    assert len(same) == 1
    assert same.isdisjoint(
        {key(Unique(), 2), key(Unique(), 1, "now"), key(Unique(), 1, force=True)}
    )
    assert all(each.startswith(b"f:report:") for each in same)


def test_only_the_arguments_that_are_named_count() -> None:
    by = Unique(by="account")
    assert key(by, 1, "a") == key(by, 1, "b", force=True) == key(Unique(by=["account"]), 1)
    assert key(by, 1) != key(by, 2)
    assert key(Unique(by=("account", "day")), 1, "a") != key(Unique(by=("account", "day")), 1, "b")


def test_a_function_of_the_call_may_make_the_key() -> None:
    by = Unique(by=lambda account, *_, **__: account % 2)
    assert key(by, 1) == key(by, 3, "x", force=True) != key(by, 2)
    with pytest.raises(ArgumentsError, match=r"report: its unique key.*JSON"):
        key(Unique(by=lambda *_, **__: object), 1)


def test_arguments_without_names_count() -> None:
    assert key(Unique(), 1, 2, function=many) != key(Unique(), 2, 1, function=many)
    assert key(Unique(), a=1, b=2, function=many) == key(Unique(), b=2, a=1, function=many)
    assert key(Unique(by="a"), 1, a=1, function=many) == key(Unique(by="a"), a=1, function=many)


def test_a_name_that_is_given_twice_counts_twice() -> None:
    calls = [(1, 2), (3, 2), (1, 4)]
    assert len({key(Unique(), a, function=both, account=b) for a, b in calls}) == 3
    assert key(Unique(by="account"), 1, function=both, account=2) == key(
        Unique(by="account"), 1, function=both
    )


def test_a_key_by_the_name_of_all_others_is_refused() -> None:
    with pytest.raises(RegistrationError, match="'more', and it has no such argument"):
        job(Unique(by="more"), many)


def test_an_argument_behind_a_decorator_that_may_fill_in_others() -> None:
    # Else 7 would be the connection, and each account would have the key of all others.
    with pytest.raises(ArgumentsError, match=r"unique by 'account'.* by name, account="):
        key(Unique(by="account"), 7, function=connected)
    by_name = {key(Unique(by="account"), function=connected, account=n) for n in (7, 8)}
    assert len(by_name) == 2
    # All arguments, the first one, and those that are given by name only are sure.
    assert key(Unique(), 7, function=connected) != key(Unique(), 8, function=connected)
    first = {key(Unique(by="connection"), n, function=connected) for n in ("a", "b")}
    assert len(first) == 2
    days = {key(Unique(by="day"), 7, function=connected, day=day) for day in ("a", "b")}
    assert len(days) == 2


def test_a_key_may_span_functions() -> None:
    assert key(Unique(key="import"), 1) == key(Unique(key="import"), 2, function=many)
    both = Unique(key="import", by=lambda account, *_, **__: account)
    assert key(both, 1) == key(both, 1, function=many) != key(both, 2)
    assert key(Unique(key="import"), 1) == b"k:import"


def test_a_key_is_that_of_all_processes() -> None:
    """Workers and clients of any release and machine have to agree on it."""
    assert key(Unique(by="account"), 1) == b"f:report:ef6555d139bba0ca2326a50024344e1b"


# What the store is asked for


LOCKS: list[tuple[UniqueValue, Lock, int]] = [
    (Unique(), Lock(b"", "finished", LONGEST_MS), 0),
    (Unique(until="started", for_=60), Lock(b"", "started", 60_000), 0),
    (Unique(until="window", for_=timedelta(hours=1)), Lock(b"", "window", 3_600_000), 0),
    (Unique(on_conflict="replace"), Lock(b"", "finished", LONGEST_MS, True), 0),
    (Unique(on_conflict="keep_latest"), Lock(b"", "finished", LONGEST_MS, True, True), 0),
    (Unique(on_conflict="raise"), Lock(b"", "finished", LONGEST_MS), 0),
    (Throttle(60), Lock(b"", "window", 60_000), 0),
    (Debounce(30), Lock(b"", "started", LONGEST_MS, True), 30_000),
    (Debounce(30, 300), Lock(b"", "started", LONGEST_MS, True, False, 300_000), 30_000),
]


@pytest.mark.parametrize(("unique", "lock", "delay_ms"), LOCKS)
def test_the_terms_of_a_job(unique: UniqueValue, lock: Lock, delay_ms: int) -> None:
    made = job(unique).new_job((1,), {})
    assert made.terms is not None
    assert made.terms.unique is not None
    assert made.terms.unique._replace(key=b"") == lock
    assert made.delay_ms == delay_ms
    # A dead job finds its key in its envelope.
    found = AnyEnvelope.decode(made.envelope).headers.unique
    assert found == Lock(made.terms.unique.key, lock.until, lock.ttl_ms)


def test_other_jobs_have_no_terms() -> None:
    made = job(None).new_job((1,), {})
    assert made.terms is None
    assert made.is_plain
    assert AnyEnvelope.decode(made.envelope).headers.unique is None
    assert job(Unique()).options(unique=None).new_job((1,), {}).terms is None


@pytest.mark.parametrize(
    "stored",
    [
        None,
        1,
        [],
        ["k"],
        ["", "finished", 1],
        ["k", "never", 1],
        ["k", "finished", 0],
        ["k", "finished", -1],
        ["k", "finished", "1"],
        [1, "finished", 1],
        ["k", "finished", True],
    ],
)
def test_a_header_of_somebody_else_is_no_key(stored: Any) -> None:
    found = Headers({"unique": stored}).unique
    assert found is None or found == Lock(b"k", "finished", 1)


# Mistakes


MISTAKES: list[tuple[Any, str]] = [
    (lambda: Unique(until="never"), r"until.*finished, started, window.*'never'"),  # type: ignore[arg-type]
    (lambda: Unique(on_conflict="drop"), r"on_conflict.*existing.*'drop'"),  # type: ignore[arg-type]
    (lambda: Unique(until="window"), r"needs for_="),
    (lambda: Unique(for_=0), r"for_"),
    (lambda: Unique(on_conflict="keep_latest", until="started"), r"until='finished'"),
    (lambda: Unique(scope="child"), r"scope.*'parent'.*'child'"),  # type: ignore[arg-type]
    (lambda: Unique(by=3), r"by.*names.*3"),  # type: ignore[arg-type]
    (lambda: Unique(by=[]), r"by.*names"),
    (lambda: Unique(key=""), r"key"),
    (lambda: Throttle(0), r"period"),
    (lambda: Debounce(-1), r"period"),
    (lambda: Debounce(30, 20), r"max_wait"),
    (lambda: job(5), r"unique must be a Unique, Debounce or Throttle, not 5.*unique=Unique\(\)"),  # type: ignore[arg-type]
    (lambda: job(Debounce(30)).options(delay=5), r"report.*leave delay and at out"),
]


@pytest.mark.parametrize(("make", "match"), MISTAKES)
def test_what_does_not_fit_together_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make()


def test_an_argument_that_is_none_is_refused_at_registration() -> None:
    with pytest.raises(RegistrationError, match=r"report: unique by 'acount'.*account, day, force"):
        job(Unique(by="acount"))
    with pytest.raises(RegistrationError, match=r"'acount'"):
        job(None).options(unique=Throttle(1, by="acount"))


# In an app


async def test_handles_say_what_became_of_each_call() -> None:
    app = AsyncJobs("memory:")
    one = app.job(name="one", unique=Unique())(report)
    told: list[tuple[str, bool]] = []
    app.on(JobEnqueued, lambda event: told.append((event.ref.id, event.is_new)))
    async with app:
        first = await one.enqueue(1)
        second = await one.enqueue(account=1)
        assert (first.disposition, first.is_new) == ("new", True)
        assert (second.disposition, second.is_new, second.id) == ("existing", False, first.id)
        replacing = one.options(unique=Unique(on_conflict="replace"), delay=60)
        third = await replacing.enqueue(1)
        assert (third.disposition, third.is_new, third.id) == ("replaced", False, first.id)
        assert await first.status() is State.SCHEDULED
        calls = [one.bind(1), one.bind(2), one.bind(2), replacing.bind(2)]
        handles = await app.enqueue_many(calls)
        assert [handle.disposition for handle in handles] == [
            "existing",
            "new",
            "existing",
            "replaced",
        ]
        assert handles[1].id == handles[2].id == handles[3].id
        same = await one.options(id="given", unique=None).enqueue(5)
        assert (await one.options(id="given").enqueue(5)).disposition == "existing"
        assert app.handle(same.id).disposition is None
    assert [is_new for _, is_new in told] == [
        True,
        False,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert {id for id, _ in told} == {first.id, handles[1].id, "given"}


async def test_a_conflict_names_the_holder() -> None:
    app = AsyncJobs("memory:")
    strict = app.job(name="strict", unique=Unique(by="account", on_conflict="raise"))(report)
    async with app:
        first = await strict.enqueue(1)
        with pytest.raises(UniqueConflict, match=rf"strict: the job {first.ref} holds") as found:
            await strict.enqueue(1, "other")
        assert found.value.holder == str(first.ref)
        calls = [strict.bind(number) for number in (2, 1, 2, 3)]
        with pytest.raises(UniqueConflict, match=r"2 of these 4 calls.*others are stored"):
            await app.enqueue_many(calls)
        assert await app.backend.inspect.queues.names() == ["default"]
        (counts,) = await app.backend.inspect.queues.counts(["default"])
        assert sum(counts.ready) == 3
        # The same id is the same job, which is what an id is for.
        given = strict.options(id="given")
        await given.enqueue(4)
        assert (await given.enqueue(4)).disposition == "existing"


async def test_a_key_may_belong_to_the_job_that_enqueues() -> None:
    app = AsyncJobs("memory:")
    child = app.job(name="child", unique=Unique(scope="parent"))(report)
    seen: list[Any] = []

    class Attempt:
        mask = None

        def __init__(self, context: Any) -> None:
            self.context = context

    async with app:
        from asyncjobs import JobContext

        free = await child.enqueue(1)
        assert (await child.enqueue(1)).id == free.id
        for name in ("a", "b", "a"):
            context = JobContext.local(name)
            context._job = context._job._replace(id=name)
            token = _current.set(Attempt(context))
            seen.append(await child.enqueue(1))
            # A plain call within the job belongs to the job.
            inner = _current.set(JobContext.local("plain"))
            assert (await child.enqueue(1)).id == seen[-1].id
            _current.reset(inner)
            _current.reset(token)
    assert [handle.disposition for handle in seen] == ["new", "new", "existing"]
    assert seen[0].id == seen[2].id
    assert len({free.id, *(handle.id for handle in seen)}) == 3


def test_a_rule_is_made_once_for_a_function() -> None:
    function = job(Unique())
    assert isinstance(function._unique, UniqueRule)
    assert function.options(delay=5)._unique is not None
    assert job(None)._unique is None
