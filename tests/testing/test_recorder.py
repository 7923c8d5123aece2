"""What the recorder knows, and what a failed assertion says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from asyncjobs import AsyncJobs, Priority, UsageError
from asyncjobs.events import JobSucceeded
from asyncjobs.testing import (
    ANY,
    Recorder,
    StageWorker,
    Subset,
    VirtualClock,
    assert_enqueued,
    refute_enqueued,
)
from tests.testing import shop

pytestmark = pytest.mark.anyio


async def test_a_job_is_found_by_its_arguments_however_they_were_given(
    asyncjobs_app: AsyncJobs,
) -> None:
    await shop.check_out(17)
    (call,) = assert_enqueued(shop.receipt, args=[17])
    assert_enqueued(shop.receipt, kwargs={"order": 17})
    # Also by the default that the enqueue has left out.
    assert_enqueued(shop.receipt, kwargs={"copies": 1}, queue="default", count=1)
    assert call.arguments == {"order": 17, "copies": 1}
    assert (call.queue, call.priority, call.at) == ("default", Priority.NORMAL, None)


async def test_patterns_fit_parts_of_arguments(asyncjobs_app: AsyncJobs) -> None:
    await shop.tangle.enqueue({"city": "Bonn", "streets": [{"name": "A", "number": 3}]})
    assert_enqueued(shop.tangle, args=[Subset(city="Bonn")])
    assert_enqueued(shop.tangle, args=[{"city": ANY, "streets": [Subset(number=lambda n: n > 2)]}])
    refute_enqueued(shop.tangle, args=[{"city": "Bonn"}])  # not the whole of it
    refute_enqueued(shop.tangle, args=[Subset(city="Bonn", country=ANY)])
    refute_enqueued(shop.tangle, args=[Subset(streets=[Subset(number=lambda n: n > 3)])])


async def test_typed_arguments_are_compared_as_values_or_as_stored(
    asyncjobs_app: AsyncJobs,
) -> None:
    home = shop.Address("Bonn", date(2020, 2, 29))
    await shop.moves.enqueue(home, Decimal("1.50"))
    (call,) = assert_enqueued(shop.moves, args=[home, Decimal("1.5")])
    assert call.arguments == {"to": home, "price": Decimal("1.50")}
    assert_enqueued(shop.moves, kwargs={"to": lambda to: to.since.year == 2020})
    assert_enqueued(shop.moves, args=[Subset(city="Bonn")], kwargs={"price": "1.50"})
    refute_enqueued(shop.moves, args=[shop.Address("Bonn")])
    refute_enqueued(shop.moves, kwargs={"price": Decimal("1.51")})


async def test_queue_priority_and_time_count(asyncjobs_app: AsyncJobs, clock: VirtualClock) -> None:
    await shop.mail.options(delay=timedelta(minutes=5)).enqueue("a@example.org")
    in_five = clock.now() + timedelta(minutes=5)
    assert_enqueued(shop.mail, queue="mail", priority="high", at=in_five)
    assert_enqueued(shop.mail, within=timedelta(minutes=5))
    assert_enqueued(shop.mail, within=300, priority=Priority.HIGH)
    refute_enqueued(shop.mail, within=299)
    refute_enqueued(shop.mail, at=None)
    refute_enqueued(shop.mail, at=in_five + timedelta(seconds=2))
    refute_enqueued(shop.mail, queue="default")
    refute_enqueued(shop.mail, priority=3)


async def test_what_was_enqueued_counts_after_it_has_run(
    asyncjobs_app: AsyncJobs, worker: StageWorker, ran: list[object]
) -> None:
    await shop.check_out(1)
    await worker.drain()
    assert ran == [1]
    assert_enqueued(shop.receipt)
    with pytest.raises(AssertionError):
        refute_enqueued(shop.receipt)


async def test_a_failure_names_the_nearest_calls_and_hides_secrets(
    asyncjobs_app: AsyncJobs,
) -> None:
    await shop.check_out(17)
    await shop.mail.enqueue("a@example.org", "hunter2")
    with pytest.raises(AssertionError) as failed:
        assert_enqueued(shop.mail, args=["b@example.org"], kwargs={"password": "swordfish"})
    text = str(failed.value)
    assert text.startswith(
        "tests.testing.shop.mail with to='b@example.org', password=*** was not enqueued"
    )
    lines = text.splitlines()[1:]
    assert lines[0] == (
        "  tests.testing.shop.mail('a@example.org', '***') in queue 'mail', high"
        "  ← to differs, password differs"
    )
    assert "shop.receipt(order=17)" in lines[1]
    assert "hunter2" not in text
    assert "swordfish" not in text


async def test_a_failure_of_a_count_says_how_many(asyncjobs_app: AsyncJobs) -> None:
    await shop.check_out(1)
    await shop.check_out(2)
    with pytest.raises(AssertionError, match="was enqueued 2 times and not 1"):
        assert_enqueued(shop.receipt, count=1)
    assert assert_enqueued(shop.mail, count=0) == []
    with pytest.raises(AssertionError, match="was enqueued 1 times, and should not be"):
        refute_enqueued(shop.receipt, args=[2])


async def test_without_a_function_any_job_counts(asyncjobs_app: AsyncJobs) -> None:
    refute_enqueued()
    with pytest.raises(AssertionError, match="nothing was enqueued in this test"):
        assert_enqueued()
    await shop.check_out(1)
    with pytest.raises(AssertionError, match="any job function was enqueued 1 times"):
        refute_enqueued()


async def test_a_call_that_another_job_stands_for_is_not_enqueued(
    asyncjobs_app: AsyncJobs, clock: VirtualClock
) -> None:
    await shop.once_an_hour.enqueue()
    await shop.once_an_hour.enqueue()
    assert_enqueued(shop.once_an_hour, count=1)
    clock.leap(hours=1)
    await shop.once_an_hour.enqueue()
    assert_enqueued(shop.once_an_hour, count=2)


async def test_results_events_and_logs_are_those_of_jobs(
    asyncjobs_app: AsyncJobs, worker: StageWorker, recorder: Recorder
) -> None:
    shop.log.warning("not in a job")
    handle = await shop.check_out(3)
    await shop.dropped.enqueue()
    await worker.drain()
    assert recorder.results() == recorder.results(shop.receipt) == ["1 of 3"]
    (event,) = recorder.of(JobSucceeded)
    assert (event.ref, event.name) == (handle.ref, shop.receipt.name)
    assert recorder.of(JobSucceeded, shop.dropped) == []
    assert [each.getMessage() for each in recorder.logs(shop.receipt)] == ["receipt for 3"]
    recorder.clear()
    assert recorder.results() == recorder.enqueued == recorder.events == recorder.logs() == []


async def test_what_cannot_be_expected_is_refused(asyncjobs_app: AsyncJobs) -> None:
    with pytest.raises(UsageError, match=r"a job function is expected, decorated by @app\.job"):
        assert_enqueued(shop.check_out)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="need the job function"):
        refute_enqueued(args=[1])
    with pytest.raises(UsageError, match="priority='urgent' is none of critical, high"):
        refute_enqueued(shop.mail, priority="urgent")
    with pytest.raises(Exception, match="has no time zone"):
        refute_enqueued(shop.mail, at=datetime(2026, 1, 1))  # noqa: DTZ001
    refute_enqueued(shop.mail, at=datetime(2026, 1, 1, tzinfo=UTC))


def test_without_a_stage_the_error_says_what_to_ask_for() -> None:
    with pytest.raises(UsageError, match="ask for the fixture asyncjobs_app"):
        assert_enqueued(shop.mail)
