"""`app.jobs`: lists of jobs and actions on them, on the memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    ConfigError,
    EncodeError,
    JobNotFound,
    NotOpen,
    PayloadTooLarge,
    Secret,
    State,
    UsageError,
)
from asyncjobs.errors import StoreError
from asyncjobs.jobs.acting import ActionVerdict
from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import PastError
from asyncjobs.model.job import TakenJob
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import Lease, LeaseSpec
from asyncjobs.store.memory import MemoryBackend

pytestmark = pytest.mark.anyio

DONE = ActionVerdict.DONE


async def send_mail(to: str, *, copies: int = 1) -> None: ...


async def take_money(card: Secret[str]) -> None: ...


class Operated:
    """An app with two job functions, and a lease that moves its jobs."""

    def __init__(self) -> None:
        self.app = AsyncJobs("memory:", max_payload=2_000)
        self.lease: Lease
        self.sequence = 0
        self.send = self.app.job(name="mail.send")(send_mail)
        self.pay = self.app.job(name="pay")(take_money)

    async def exchange(self, *ends: Settlement, slots: int = 0) -> list[TakenJob]:
        self.sequence += 1
        return (await self.lease.exchange(self.sequence, ends, {"default": Demand(slots)})).jobs

    async def die(self, *, text: str = "no host") -> None:
        """Take the next job, and let it die."""
        (job,) = await self.exchange(slots=1)
        ended = Outcome(
            State.DEAD, name="mail.send", attempt=1, error_type="OSError", message=text
        ).encode()
        await self.exchange(Settlement.dead(job, dead_letter(ended, job.envelope)))

    async def fail(self, delay_ms: int = 60_000) -> None:
        """Take the next job, and let it wait for another attempt."""
        (job,) = await self.exchange(slots=1)
        envelope = Envelope.decode(job.envelope)
        error = PastError(1, "OSError", "no host", "", 1, "w")
        again = envelope.again(job.envelope, 2, envelope.headers.with_error(error))
        await self.exchange(Settlement.reschedule(job, again, delay_ms))


@pytest.fixture
async def operated(anyio_backend: str) -> AsyncIterator[Operated]:
    one = Operated()
    async with one.app:
        spec = LeaseSpec("lease", "w", ("default",), 60_000, info=b'{"worker":"ada"}')
        one.lease = await one.app.backend.lease(spec)
        yield one


async def listed(operated: Operated, state: str, **filters: object) -> list[str]:
    return [row.ref.id async for row in operated.app.jobs.list(state, **filters)]  # type: ignore[arg-type]


async def test_jobs_of_each_state(operated: Operated) -> None:
    dead = await operated.send.enqueue("a")
    await operated.die()
    running = await operated.send.enqueue("b")
    await operated.exchange(slots=1)
    retrying = await operated.send.enqueue("c")
    await operated.fail()
    ready = await operated.send.enqueue("d", copies=2)
    (row,) = (await operated.app.jobs.page("ready")).rows
    assert (row.ref, row.state, row.name, row.is_readable) == (
        ready.ref,
        State.READY,
        "mail.send",
        True,
    )
    assert (row.info.args, row.info.kwargs, row.worker) == (["d"], {"copies": 2}, None)
    assert row.time is not None
    assert abs(datetime.now(UTC) - row.time) < timedelta(minutes=1)
    (row,) = (await operated.app.jobs.page(State.RUNNING)).rows
    assert (row.ref, row.worker, row.info.worker) == (running.ref, "ada", "lease")
    (row,) = (await operated.app.jobs.page("scheduled", error="oserr")).rows
    assert (row.ref, row.info.attempt) == (retrying.ref, 2)
    (row,) = (await operated.app.jobs.page("dead")).rows
    assert (row.ref, row.info.errors[0].message) == (dead.ref, "no host")


async def test_pages_and_filters(operated: Operated) -> None:
    handles = [await operated.send.enqueue(str(number)) for number in range(5)]
    await operated.pay.enqueue("4242")
    found = await operated.app.jobs.page("ready", limit=2, function="mail.*", oldest_first=True)
    assert [row.ref for row in found.rows] == [handle.ref for handle in handles[:2]]
    assert found.after is not None
    rest = await operated.app.jobs.page(
        "ready", after=found.after.text(), function="mail.*", oldest_first=True
    )
    assert [row.ref for row in rest.rows] == [handle.ref for handle in handles[2:]]
    assert rest.after is None
    assert len(await listed(operated, "ready", limit=3)) == 3
    assert len(await listed(operated, "ready", newer_than=60)) == 6
    assert await listed(operated, "ready", older_than=timedelta(minutes=1)) == []
    assert await listed(operated, "ready", queue="other") == []
    assert len(await listed(operated, "ready", queue=["other", "default"])) == 6


async def test_sensitive_arguments(operated: Operated) -> None:
    await operated.pay.enqueue("4242")
    (row,) = (await operated.app.jobs.page("ready")).rows
    assert row.info.args == ["4242"]
    assert "4242" not in str(row.redacted().info.args)


async def test_what_cannot_be_read(operated: Operated) -> None:
    await operated.send.enqueue("a")
    backend = operated.app.backend
    assert isinstance(backend, MemoryBackend)
    (job,) = await operated.exchange(slots=1)
    await operated.exchange(Settlement.reschedule(job, b"\xff", 60_000))
    (row,) = (await operated.app.jobs.page("scheduled")).rows
    assert (row.name, row.is_readable, row.info.args) == ("", False, None)
    backend.break_queue("default", StoreError("planted"))
    page = await operated.app.jobs.page("scheduled")
    assert (page.rows, list(page.refused)) == ([], ["default"])
    with pytest.raises(StoreError, match="planted"):
        await listed(operated, "scheduled")


async def test_wrong_questions(operated: Operated) -> None:
    jobs = operated.app.jobs
    with pytest.raises(UsageError, match="'late' is no state"):
        await jobs.page("late")
    with pytest.raises(UsageError, match="at least 1"):
        await jobs.page("ready", limit=0)
    with pytest.raises(UsageError, match="no cursor"):
        await jobs.page("ready", after="x")
    with pytest.raises(ConfigError, match="newer_than"):
        await jobs.page("ready", newer_than=-1)
    with pytest.raises(NotOpen):
        await AsyncJobs("memory:").jobs.page("ready")


async def test_actions_on_rows_handles_and_refs(operated: Operated) -> None:
    jobs = operated.app.jobs
    dead = await operated.send.enqueue("a")
    await operated.die()
    running = await operated.send.enqueue("b")
    await operated.exchange(slots=1)
    failed = await operated.send.enqueue("c")
    await operated.fail()
    later = await operated.send.options(delay=60).enqueue("d")
    ready = await operated.send.enqueue("e")
    everything = [dead, running, failed, later, ready.ref, JobRef("default", "never")]
    assert await jobs.retry(everything) == [
        DONE,
        ActionVerdict.RUNNING,
        DONE,
        ActionVerdict.WAITING,
        ActionVerdict.WAITING,
        ActionVerdict.GONE,
    ]
    assert await jobs.run_now(everything) == [
        ActionVerdict.WAITING,
        ActionVerdict.RUNNING,
        ActionVerdict.WAITING,
        DONE,
        ActionVerdict.WAITING,
        ActionVerdict.GONE,
    ]
    assert await jobs.cancel([running, ready, JobRef("default", "never")]) == [
        ActionVerdict.REQUESTED,
        DONE,
        ActionVerdict.GONE,
    ]
    rows = (await jobs.page("ready")).rows
    assert {row.ref for row in rows} == {dead.ref, failed.ref, later.ref}
    # One of them is taken before anybody acts.
    (taken,) = await operated.exchange(slots=1)
    verdicts = dict(zip([row.ref for row in rows], await jobs.delete([*rows]), strict=True))
    assert verdicts.pop(taken.ref) is ActionVerdict.RUNNING
    assert set(verdicts.values()) == {DONE}
    assert await listed(operated, "ready") == []


async def test_dead_jobs_are_deleted_and_retried_by_their_death(operated: Operated) -> None:
    jobs = operated.app.jobs
    handle = await operated.send.enqueue("a")
    await operated.die()
    (row,) = (await jobs.page("dead")).rows
    assert await jobs.retry([row, row]) == [DONE, DONE]
    assert await jobs.retry([row]) == [ActionVerdict.MOVED]
    assert await jobs.delete([row]) == [ActionVerdict.MOVED]
    await operated.die()
    assert await jobs.delete([handle, handle]) == [DONE, ActionVerdict.MOVED]
    assert await listed(operated, "dead") == []


async def test_a_job_is_changed(operated: Operated) -> None:
    jobs = operated.app.jobs
    handle = await operated.send.options(delay=60).enqueue("a", copies=2)
    assert await jobs.change(handle, args=["b"]) is DONE
    info = await handle.info()
    assert (info.args, info.kwargs, info.state) == (["b"], {"copies": 2}, State.SCHEDULED)
    at = datetime(2040, 1, 1, tzinfo=UTC)
    assert await jobs.change(handle, kwargs={"copies": 3}, at=at) is DONE
    info = await handle.info()
    assert (info.args, info.kwargs) == (["b"], {"copies": 3})
    assert info.due_at == at
    assert await jobs.change(handle, delay=0) is DONE
    assert await handle.status() is State.READY
    await operated.exchange(slots=1)
    assert await jobs.change(handle, delay=5) is ActionVerdict.RUNNING


async def test_arguments_that_do_not_fit(operated: Operated) -> None:
    jobs = operated.app.jobs
    handle = await operated.send.enqueue("a")
    with pytest.raises(ArgumentsError, match=r"mail\.send.*unexpected"):
        await jobs.change(handle, kwargs={"cc": 1})
    with pytest.raises(EncodeError):
        await jobs.change(handle, args=[{1}])
    with pytest.raises(PayloadTooLarge, match="max_payload"):
        await jobs.change(handle, args=["x" * 2_000])
    with pytest.raises(UsageError, match="not both"):
        await jobs.change(handle, at=datetime.now(UTC), delay=1)
    with pytest.raises(UsageError, match="time zone"):
        await jobs.change(handle, at=datetime(2040, 1, 1))  # noqa: DTZ001 - on purpose
    with pytest.raises(JobNotFound, match="default/never"):
        await jobs.change(JobRef("default", "never"), delay=1)
    (row,) = (await jobs.page("ready")).rows
    assert row.info.args == ["a"]


async def test_a_function_of_another_app(operated: Operated) -> None:
    handle = await operated.send.enqueue("a")
    stranger = AsyncJobs(backend=operated.app.backend)
    async with stranger:
        with pytest.raises(UsageError, match=r"'mail\.send', which this app does not have"):
            await stranger.jobs.change(handle.ref, args=["b"])
