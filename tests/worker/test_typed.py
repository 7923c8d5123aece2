"""Typed arguments and results, from the enqueue to the job and back."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from asyncjobs import (
    ActionVerdict,
    ArgumentsError,
    AsyncJobs,
    EncodeError,
    JobDiscarded,
    JobFailed,
    JobFunction,
    JobRef,
    RegistrationError,
    ResultUnavailable,
    RowMissing,
    State,
    Unique,
    UsageError,
    by_id,
)
from asyncjobs.jobs import acting
from asyncjobs.model.envelope import encode_call
from tests.worker import typed_jobs
from tests.worker.kit import LIMIT_S, NewApp, Stage, store_raw, working
from tests.worker.typed_jobs import Invoice, Line, User

pytestmark = pytest.mark.anyio

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 3, 29, 3, tzinfo=BERLIN)
INVOICE = Invoice(
    UUID(int=7),
    [Line(Decimal("1.50"), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))],
    frozenset("ab"),
)
STORED = {
    "id": "00000000-0000-0000-0000-000000000007",
    "lines": [{"price": "1.50", "due": "2026-10-25T02:30:00+01:00[Europe/Berlin]"}],
    "tags": ["a", "b"],
}


@pytest.mark.parametrize("function", [typed_jobs.pay, typed_jobs.pay_in_thread])
async def test_values_and_results_come_as_their_types(
    app: AsyncJobs, stage: Stage, function: Any
) -> None:
    job: JobFunction[..., Invoice] = app.job(function)
    async with working(app):
        handle = await job.enqueue(INVOICE, at=AT)
        assert await handle.result(LIMIT_S) == INVOICE
        assert stage.notes == [(INVOICE, AT, "Europe/Berlin", 1)]
        assert await app.handle(handle.id).result(LIMIT_S) == INVOICE


async def test_what_is_stored_is_readable(app: AsyncJobs) -> None:
    job = app.job(typed_jobs.pay)
    async with app:
        info = await (await job.enqueue(INVOICE, AT)).info()
        assert info.args == [STORED, "2026-03-29T03:00:00+02:00[Europe/Berlin]"]
        many = await app.enqueue_many([job.bind(INVOICE, at=AT)])
        info = await many[0].info()
        assert (info.args, info.kwargs) == (
            [STORED],
            {"at": "2026-03-29T03:00:00+02:00[Europe/Berlin]"},
        )


async def test_spread_arguments_are_typed(app: AsyncJobs, stage: Stage) -> None:
    job = app.job(typed_jobs.spread)
    async with working(app):
        await (await job.enqueue(date(2026, 1, 1), beans=Decimal(2))).result(LIMIT_S)
        assert stage.notes == [((date(2026, 1, 1),), {"beans": Decimal(2)})]
        with pytest.raises(ArgumentsError, match=r"'beans': expected .*Decimal, got int 2"):
            await job.enqueue(beans=2)  # type: ignore[arg-type]


async def test_a_bad_argument_stores_nothing(app: AsyncJobs) -> None:
    job: Any = app.job(typed_jobs.pay)
    bad = Invoice(UUID(int=1), [Line("1.5")])  # type: ignore[arg-type]
    async with app:
        with pytest.raises(
            ArgumentsError,
            match=r"typed_jobs\.pay: argument 'invoice': expected .*Invoice, got dict",
        ):
            await job.enqueue({}, AT)
        with pytest.raises(ArgumentsError, match=r"'at': expected .*datetime, got str 'soon'"):
            job.bind(INVOICE, "soon")
        with pytest.raises(ArgumentsError):
            await app.enqueue_many([job.bind(INVOICE, AT), job.bind(bad, AT)])
        with pytest.raises(ArgumentsError):
            job.bind(INVOICE, at=datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN))
        assert await app.backend.inspect.queues.names() == []


async def test_a_sensitive_value_is_in_no_error(app: AsyncJobs) -> None:
    by_name: Any = app.job(sensitive=["invoice"])(typed_jobs.pay)
    by_key: Any = app.job(name="by_key", sensitive=["invoice.price"])(typed_jobs.pay)
    bad = Invoice(UUID(int=1), [Line("hunter2")])  # type: ignore[arg-type]
    for job, args in ((by_name, ("hunter2", AT)), (by_name, (bad, AT)), (by_key, (bad, AT))):
        with pytest.raises(ArgumentsError, match=r"expected .*sensitive") as refused:
            job.bind(*args)
        assert "hunter2" not in str(refused.value)
        assert refused.value.__suppress_context__


# -- stored arguments that do not fit any more ------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (typed_jobs.takes_day, ("tomorrow",), {}, "'day': expected a valid RFC3339 encoded date"),
        (typed_jobs.takes_day, (), {}, "missing argument 'day'"),
        (typed_jobs.takes_day, ("2026-01-01", 2), {}, "takes at most 1"),
        (typed_jobs.takes_number, ("1",), {}, "'number': expected int, got str '1'"),
        (typed_jobs.takes_number, (1,), {"more": "2"}, "'more': expected int, got str '2'"),
        (typed_jobs.takes_number, (1, 2, 3), {}, "takes at most 2"),
        (typed_jobs.takes_one, (), {}, "missing argument 'one'"),
        (typed_jobs.takes_one, (1,), {"two": 2}, "unexpected keyword argument 'two'"),
        (typed_jobs.takes_two, (1,), {}, "missing argument 'two'"),
        (typed_jobs.pay, ({"id": "x"}, "2026-01-01T00:00:00"), {}, r"'invoice'\.id: expected"),
    ],
)
async def test_a_job_that_does_not_fit_is_dead_at_once(
    new_app: NewApp, stage: Stage, kind: str, function: Any, args: Any, kwargs: Any, said: str
) -> None:
    app = new_app()
    name = "the.job"
    if kind == "memory":
        before = app
        old = before.job(name=name)(typed_jobs.as_it_was)
    else:
        before = new_app()
        old = before.job(name=name)(typed_jobs.as_it_was)
    async with before:
        if before is app:
            handle = await old.enqueue(*args, **kwargs)
            # The next version of the program has the same name for another function.
            app.registry._names.clear()
        else:
            handle = await old.enqueue(*args, **kwargs)
        new = app.job(name=name, retry=5, discard_on=Exception)(function)
        async with working(app):
            with pytest.raises(JobFailed, match=said):
                await new.handle(handle.id).result(LIMIT_S)
            info = await app.handle(handle.id).info()
        assert (info.state, info.reason, info.attempt) == (State.DEAD, "arguments", 1)
        assert info.args == list(args)
        assert stage.notes == []


async def test_a_dead_job_is_edited_and_runs_again(app: AsyncJobs, stage: Stage) -> None:
    job = app.job(typed_jobs.takes_day)
    async with working(app):
        await store_raw(app, _day("tomorrow"), id="a")
        with pytest.raises(JobFailed, match="date"):
            await job.handle("a").result(LIMIT_S)
        with pytest.raises(ArgumentsError, match="'day': expected a valid RFC3339 encoded date"):
            await app.jobs.change(JobRef("default", "a"), args=["soon"])
        with pytest.raises(UsageError, match="runs again at once"):
            await app.jobs.change(JobRef("default", "a"), args=["2026-01-02"], delay=1)
        verdict = await app.jobs.change(JobRef("default", "a"), args=["2026-01-02"])
        assert verdict is ActionVerdict.DONE
        await stage.noted((date(2026, 1, 2),))


async def test_other_arguments_are_for_one_death(app: AsyncJobs) -> None:
    app.job(typed_jobs.takes_day)
    ref = JobRef("default", "a")
    async with working(app):
        await store_raw(app, _day("tomorrow"), id="a")
        with pytest.raises(JobFailed):
            await app.handle("a").result(LIMIT_S)
        (record,) = await app.backend.get([ref])
        assert record is not None
        changed = record._replace(dead_letter=(record.dead_letter or b"") + b" ")
        assert await acting.change(app.backend, changed, args=["x"]) is ActionVerdict.MOVED
        await app.jobs.delete([ref])
        assert await acting.change(app.backend, record, args=["x"]) is ActionVerdict.MOVED


def _day(text: str) -> bytes:
    return encode_call("tests.worker.typed_jobs.takes_day", (text,), {}, 1, None, None, None, {})


async def test_a_type_error_of_the_function_is_its_own(app: AsyncJobs, stage: Stage) -> None:
    job = app.job(retry=2)(typed_jobs.raises_type_error)
    async with working(app):
        handle = await job.enqueue(1)
        with pytest.raises(JobFailed, match="TypeError"):
            await handle.result(LIMIT_S)
        assert (await handle.info()).reason == "exhausted"
        assert stage.notes == [(1,), (1,)]


# -- results ---------------------------------------------------------------------------------


async def test_results_of_other_types(app: AsyncJobs) -> None:
    days = app.job(typed_jobs.gives_a_list)
    line = app.job(typed_jobs.gives_a_dict)
    nothing = app.job(typed_jobs.gives_nothing_json)
    async with working(app):
        found = await (await days.enqueue(2)).result(LIMIT_S)
        assert found == [date(2026, 1, 1), date(2026, 1, 2)]
        assert await (await line.enqueue(True)).result(LIMIT_S) == Line(Decimal("1.5"))
        handle = await line.enqueue(False)
        with pytest.raises(ResultUnavailable, match=r"-> .*Line of .*gives_a_dict") as refused:
            await handle.result(LIMIT_S)
        assert refused.value.stored == {"prices": "1.5"}
        handle = await nothing.enqueue()
        with pytest.raises(ResultUnavailable, match="come back as another value"):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.SUCCEEDED


# -- rows ------------------------------------------------------------------------------------


def rows_of(app: AsyncJobs, **options: Any) -> dict[int, User]:
    rows = {1: User(1, "Ada"), 2: User(2, "Bob")}

    async def load(id: int) -> User | None:
        if id == 99:
            raise ConnectionError("the database is away")
        return rows.get(id)

    app.loader(User, load=load, id=lambda user: user.id, **options)
    return rows


async def test_a_row_is_stored_by_its_id_and_loaded_for_the_job(
    app: AsyncJobs, stage: Stage
) -> None:
    rows = rows_of(app)
    job = app.job(typed_jobs.greet)
    async with working(app):
        handle = await job.options(delay=600).enqueue(rows[1], [rows[2]])
        assert (await handle.info()).args == [1, [2]]
        handle = await job.enqueue(by_id(User, 1), [rows[2], rows[1]])
        assert await handle.result(LIMIT_S) == "Ada Bob Ada"


async def test_a_row_that_is_gone_discards_the_job(app: AsyncJobs, stage: Stage) -> None:
    rows_of(app)
    job = app.job(typed_jobs.greet)
    async with working(app):
        handle = await job.enqueue(by_id(User, 3), [])
        with pytest.raises(JobDiscarded, match="gone"):
            await handle.result(LIMIT_S)
        assert (await handle.info()).reason == "gone"
        assert stage.notes == []


async def test_a_row_that_is_gone_can_fail_the_attempt(app: AsyncJobs) -> None:
    rows_of(app, missing="fail")
    job = app.job(retry=False)(typed_jobs.greet)
    async with working(app):
        with pytest.raises(JobFailed, match=RowMissing.__name__):
            await (await job.enqueue(by_id(User, 3), [])).result(LIMIT_S)


async def test_a_loader_that_fails_is_a_failed_attempt(app: AsyncJobs, stage: Stage) -> None:
    rows_of(app)
    job = app.job(retry=2)(typed_jobs.greet)
    async with working(app):
        handle = await job.enqueue(by_id(User, 99), [])
        with pytest.raises(JobFailed, match="the database is away"):
            await handle.result(LIMIT_S)
        info = await handle.info()
        assert (info.reason, info.attempt) == ("exhausted", 2)


async def test_a_row_without_an_id_is_refused(app: AsyncJobs) -> None:
    rows_of(app)
    job: Any = app.job(typed_jobs.greet)
    with pytest.raises(ArgumentsError, match="no id yet; save it first"):
        job.bind(User(None), [])
    with pytest.raises(ArgumentsError, match=r"'user': expected .*User, got int 1 .*by_id"):
        job.bind(1, [])


# -- serializers and registration --------------------------------------------------------------


def test_a_type_that_nobody_can_store_is_refused_at_registration() -> None:
    app = AsyncJobs("memory:")
    with pytest.raises(RegistrationError, match=r"parameter 'user' .*app\.loader\(.*User, load="):
        app.job(typed_jobs.greet)


async def test_unique_keys_are_of_what_is_stored(app: AsyncJobs) -> None:
    job = app.job(unique=Unique())(typed_jobs.pay)
    by_function = app.job(name="by", unique=Unique(by=lambda invoice, at: invoice.id.int))(
        typed_jobs.pay
    )
    again = Invoice(INVOICE.id, list(INVOICE.lines), frozenset("ba"))
    async with app:
        for each in (job, by_function):
            first = await each.enqueue(INVOICE, AT)
            assert (await each.enqueue(again, AT)).id == first.id
            other = Invoice(UUID(int=8), [])
            assert (await each.enqueue(other, AT)).id != first.id


def test_values_of_unknown_names_are_stored_as_they_are(app: AsyncJobs) -> None:
    async def later(day: Hidden) -> None: ...  # type: ignore[name-defined] # noqa: F821

    later.__qualname__ = "later"
    job: Any = app.job(later)
    job.new_job(("2026-01-01",), {})
    with pytest.raises(EncodeError, match=r"Its annotation Hidden .* name 'Hidden' is not defined"):
        job.new_job((date(2026, 1, 1),), {})
