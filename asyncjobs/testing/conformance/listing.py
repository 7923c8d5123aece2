"""Lists of jobs: pages that each job is on once, filters, both orders, and limits of a look."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncjobs.errors import StoreError, UsageError
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.headers import NO_HEADERS, Headers, PastError
from asyncjobs.model.job import NewJob, Priority, State
from asyncjobs.model.notes import PROGRESS, Note
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.listing import JobCursor, JobPage, JobQuery, ListedJob
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.conformance.spoiled import BAD, Part, Spoil
from asyncjobs.testing.conformance.store import LEASE_MS, Store, Worker, ref

pytestmark = pytest.mark.anyio

STATES = pytest.mark.parametrize(
    "state", [State.READY, State.SCHEDULED, State.RUNNING, State.DEAD], ids=str
)
ORDERS = pytest.mark.parametrize("oldest_first", [True, False], ids=["oldest", "newest"])


def envelope(function: str, error: str = "", text: str = "") -> bytes:
    """The envelope of a job of this function, after a failed attempt if there is an error."""
    headers = NO_HEADERS
    if error:
        headers = Headers({}).with_error(PastError(1, error, text, "", 1, "w"))
    return encode_call(function, [1], {}, 1, None, None, None, headers.fields)


async def enqueue(
    store: Store,
    *names: str,
    queue: str = "work",
    priority: int = 2,
    delay_ms: int = 0,
    function: str = "send",
    error: str = "",
    text: str = "",
) -> None:
    """Store jobs with envelopes that can be read."""
    raw = envelope(function, error, text)
    jobs = [NewJob(queue, name, priority, raw, delay_ms) for name in names]
    answer = await store.backend.enqueue(EnqueueBatch(store.token(), jobs))
    assert not answer.refused


async def bring(
    store: Store,
    state: State,
    *names: str,
    queue: str = "work",
    priority: int = 2,
    function: str = "send",
    error: str = "",
    text: str = "",
) -> None:
    """Store jobs and bring them into this state; each that runs is with a lease of its own."""
    delay_ms = 5000 if state is State.SCHEDULED else 0
    for name in names:
        await enqueue(
            store,
            name,
            queue=queue,
            priority=priority,
            delay_ms=delay_ms,
            function=function,
            error=error,
            text=text,
        )
        if state in (State.RUNNING, State.DEAD):
            worker = await store.worker(queue)
            taken = await worker.take_one()
            assert taken.id == name
            if state is State.DEAD:
                ended = Outcome(
                    State.DEAD, name=function, attempt=1, error_type=error, message=text
                ).encode()
                await worker.exchange(Settlement.dead(taken, dead_letter(ended, taken.envelope)))
                await worker.lease.leave()


async def page(store: Store, query: JobQuery, after: JobCursor | None = None) -> JobPage:
    return await store.backend.inspect.jobs.page(query, after)


async def pages(store: Store, query: JobQuery) -> list[ListedJob]:
    """All jobs, page by page."""
    found: list[ListedJob] = []
    after = None
    while True:
        answer = await page(store, query, after)
        assert not answer.refused
        found += answer.jobs
        after = answer.after
        if after is None:
            return found
        # A cursor is text wherever it travels.
        after = JobCursor.read(after.text())


def names(jobs: Sequence[ListedJob]) -> list[str]:
    return [job.ref.id for job in jobs]


@STATES
async def test_each_state_lists_its_jobs_and_no_other(store: Store, state: State) -> None:
    for each in (State.RUNNING, State.DEAD, State.READY, State.SCHEDULED):
        await bring(store, each, f"{each}-1", f"{each}-2")
    found = await pages(store, JobQuery(state))
    assert sorted(names(found)) == [f"{state}-1", f"{state}-2"]
    for job in found:
        record = await store.look(job.ref.id)
        # A server counts how long a job is held by its own clock, which is not pinned.
        assert job.record._replace(taken_ms=None) == record._replace(outcome=None, taken_ms=None)
        assert (job.record.taken_ms is None) == (state is not State.RUNNING)
        assert (job.size, job.stored) == (len(job.stored), job.stored)
        assert job.stored


@STATES
async def test_a_page_of_nothing(store: Store, state: State) -> None:
    assert await pages(store, JobQuery(state)) == []
    answer = await page(store, JobQuery(state, ("never", "used")))
    assert (answer.jobs, answer.after, answer.looked, answer.is_bounded) == ([], None, 0, False)


@STATES
async def test_a_cursor_of_jobs_in_another_state(store: Store, state: State) -> None:
    tie: int | bytes = 1
    if state in (State.READY, State.RUNNING):
        tie = b"a"
    with pytest.raises(UsageError, match="in another state"):
        await page(store, JobQuery(state), JobCursor(1, "work", 0, tie))


@STATES
async def test_pages_hold_each_job_once_and_in_order(store: Store, state: State) -> None:
    for priority, queue, name in [
        (2, "one", "a"),
        (0, "one", "b"),
        (0, "two", "c"),
        (3, "one", "d"),
        (2, "one", "e"),
    ]:
        await bring(store, state, name, f"{name}-same", queue=queue, priority=priority)
        store.clock.ms += 1
    expected = [name for each in "abcde" for name in (each, f"{each}-same")]
    in_order = names(await pages(store, JobQuery(state, limit=100, oldest_first=True)))
    assert sorted(in_order) == expected
    if state in (State.SCHEDULED, State.DEAD):
        assert in_order == expected
    for limit in (1, 2, 3, 10, 100):
        query = JobQuery(state, limit=limit)
        assert names(await pages(store, query)) == in_order[::-1]
        assert names(await pages(store, query._replace(oldest_first=True))) == in_order


@ORDERS
@STATES
async def test_a_job_that_stays_is_seen_once_whatever_comes_and_goes(
    store: Store, state: State, oldest_first: bool
) -> None:
    """Between two pages jobs leave and come: before the cursor, at it, and behind it."""
    stay = [f"stay-{number}" for number in range(6)]
    for number, name in enumerate(stay):
        await bring(store, state, f"go-{number}", name)
        store.clock.ms += 1
    query = JobQuery(state, limit=2, oldest_first=oldest_first)
    seen: list[str] = []
    answer = await page(store, query)
    number = 0
    while True:
        seen += names(answer.jobs)
        if answer.after is None:
            break
        if number < 6:
            await leave(store, state, f"go-{number}", f"go-{5 - number}")
            await bring(store, state, f"new-{number}")
            number += 1
        answer = await page(store, query, answer.after)
    assert sorted(name for name in seen if name.startswith("stay")) == stay
    assert len(set(seen)) == len(seen)


async def leave(store: Store, state: State, *gone: str) -> None:
    """Take jobs out of a state, those that are still in it."""
    if state in (State.READY, State.SCHEDULED):
        await store.backend.cancel([ref(name) for name in gone], None, 0)
    elif state is State.DEAD:
        letters = await store.backend.dead.find([ref(name) for name in gone])
        await store.backend.dead.purge([letter.key for letter in letters if letter])
    else:
        for name in gone:
            record = await store.find(name)
            if record is not None and record.state is State.RUNNING:
                # Its lease holds no other job.
                spec = LeaseSpec(record.holder or "", "worker", ("work",), LEASE_MS)
                await store.backend.attach(spec).leave()
                await store.backend.cancel([ref(name)], None, 0)


@STATES
async def test_jobs_of_one_moment_are_listed_once(store: Store, state: State) -> None:
    many = [f"job-{number:02}" for number in range(30)]
    await enqueue(store, *many, delay_ms=5000 if state is State.SCHEDULED else 0)
    if state in (State.RUNNING, State.DEAD):
        worker = await store.worker()
        taken = await worker.take()
        if state is State.DEAD:
            await worker.exchange(*(Settlement.dead(job, b"{}\n{}") for job in taken))
    for limit in (1, 4, 29, 30):
        found = await pages(store, JobQuery(state, limit=limit))
        assert names(found) == many[::-1]
        found = await pages(store, JobQuery(state, limit=limit, oldest_first=True))
        assert names(found) == many


async def test_jobs_given_back_are_ready_and_keep_their_place(store: Store) -> None:
    await store.enqueue("crashed", "released", "new")
    worker, keeper = await store.worker(), await store.worker()
    crashed, released = await worker.take(2)
    assert names(await pages(store, JobQuery(State.RUNNING))) == ["released", "crashed"]
    await worker.exchange(Settlement.release(released))
    await store.end_leases(keeper)
    query = JobQuery(State.READY, oldest_first=True)
    assert names(await pages(store, query)) == ["crashed", "released", "new"]
    assert await pages(store, JobQuery(State.RUNNING)) == []
    assert crashed.id == "crashed"


async def test_jobs_of_a_paused_function_are_ready(store: Store) -> None:
    """They were set aside by an exchange, and nobody runs them."""
    if not store.backend.capabilities.control:
        pytest.skip("no capability control")
    await enqueue(store, "slow", function="slow")
    await enqueue(store, "other")
    await store.backend.control.queues.pause(["work"], "slow", b"{}")
    worker = await store.worker()
    assert [job.id for job in await worker.take()] == ["other"]
    assert names(await pages(store, JobQuery(State.READY))) == ["slow"]
    assert names(await pages(store, JobQuery(State.RUNNING))) == ["other"]


async def test_a_running_job_comes_with_its_worker_and_progress(store: Store) -> None:
    await enqueue(store, "a")
    spec = LeaseSpec("lease", "label", ("work",), LEASE_MS, info=b'{"worker":"label"}')
    worker = Worker(store.backend, await store.backend.lease(spec))
    taken = await worker.take_one()
    if store.backend.capabilities.notes:
        await worker.lease.note([Note(taken, PROGRESS, b"1/2")])
    await store.backend.cancel([taken.ref], None, 0)
    (job,) = await pages(store, JobQuery(State.RUNNING))
    assert (job.record.holder, job.worker) == ("lease", b'{"worker":"label"}')
    assert job.record.is_cancelled
    assert job.time_ms == job.record.taken_ms
    if store.backend.capabilities.notes:
        assert job.record.progress == b"1/2"
    # A server counts how long it is held by its own clock.
    early, late = job.time_ms - 60_000, job.time_ms + 60_000
    assert names(await pages(store, JobQuery(State.RUNNING, since_ms=early))) == ["a"]
    assert names(await pages(store, JobQuery(State.RUNNING, before_ms=late))) == ["a"]
    assert await pages(store, JobQuery(State.RUNNING, since_ms=late)) == []
    assert await pages(store, JobQuery(State.RUNNING, before_ms=early)) == []


@STATES
async def test_jobs_are_found_by_queue(store: Store, state: State) -> None:
    for queue in ("one", "two", "three"):
        await bring(store, state, f"of-{queue}", queue=queue)
    found = await pages(store, JobQuery(state, ("two", "one")))
    assert sorted(names(found)) == ["of-one", "of-two"]


PATTERNS = [
    ("mail.send_one", ["one"]),
    ("mail.send_*", ["one", "two"]),
    ("*", ["one", "other", "two"]),
    ("mail.send_tw?", ["two"]),
    ("[mn]ail.send_one", ["one"]),
    ("[!m]*", ["other"]),
    ("mail", []),
    ("MAIL.*", []),
]


@STATES
async def test_jobs_are_found_by_function(store: Store, state: State) -> None:
    for name, function in [
        ("one", "mail.send_one"),
        ("two", "mail.send_two"),
        ("other", "näher.send_one"),
    ]:
        await bring(store, state, name, function=function)
    for pattern, expected in PATTERNS:
        query = JobQuery(state, function=pattern)
        assert sorted(names(await pages(store, query))) == expected
        assert sorted(names(await pages(store, query._replace(cut=10)))) == expected


ERRORS: list[tuple[str | None, str | None, list[str]]] = [
    ("Value", None, ["bad", "worse"]),
    ("builtins.valueerror", None, ["bad", "worse"]),
    (None, "No Host", ["worse"]),
    ("key", "host", []),
    (None, "", ["bad", "odd", "worse"]),
    # Its long s has the usual one as its lower case, and a store that only looks for bytes must
    # not leave it out.
    (None, "A MESSAGE", ["odd"]),
    (None, "STRASSE", ["odd"]),
]


@pytest.mark.parametrize("state", [State.SCHEDULED, State.READY, State.DEAD], ids=str)
async def test_jobs_are_found_by_their_last_error(store: Store, state: State) -> None:
    await bring(store, state, "bad", error="builtins.ValueError", text="too large")
    await bring(store, state, "worse", error="builtins.ValueError", text="no host there")
    await bring(store, state, "odd", error="builtins.KeyError", text="a meſſage, Straße")
    if state is not State.DEAD:
        await bring(store, state, "new")
    for error, message, expected in ERRORS:
        query = JobQuery(state, error=error, message=message, cut=20)
        found = await pages(store, query)
        assert sorted(names(found)) == expected
        assert all(len(job.record.envelope or b"") <= 20 for job in found)


@pytest.mark.parametrize("state", [State.READY, State.SCHEDULED, State.DEAD], ids=str)
async def test_jobs_are_found_by_their_time(store: Store, state: State) -> None:
    for name in ("a", "b", "c"):
        await bring(store, state, name)
        store.clock.ms += 10
    times = {job.ref.id: job.time_ms for job in await pages(store, JobQuery(state))}
    for oldest_first in (True, False):
        for since in (None, *times.values()):
            for before in (None, *times.values()):
                query = JobQuery(
                    state, since_ms=since, before_ms=before, oldest_first=oldest_first, limit=1
                )
                expected = sorted(
                    name
                    for name, ms in times.items()
                    if (since is None or ms >= since) and (before is None or ms < before)
                )
                assert sorted(names(await pages(store, query))) == expected
    assert await pages(store, JobQuery(state, before_ms=0)) == []


@ORDERS
@STATES
async def test_a_look_is_bounded_and_goes_on(
    store: Store, state: State, oldest_first: bool
) -> None:
    """Of many jobs two are wanted: pages without any say that they are not the last one."""
    for number in range(20):
        # The second one stands nearer to the start of its priority than the first one does.
        priority = number % 2 if number < 15 else 2
        function = "wanted" if number in (13, 17) else "other"
        await bring(store, state, f"job-{number:02}", function=function, priority=priority)
        store.clock.ms += 1
    query = JobQuery(state, function="wanted", oldest_first=oldest_first, most_looks=3)
    found: list[str] = []
    looked = 0
    bounded = 0
    after = None
    while True:
        answer = await page(store, query, after)
        assert answer.looked <= 4
        looked += answer.looked
        bounded += answer.is_bounded
        found += names(answer.jobs)
        after = answer.after
        if after is None:
            break
    in_order = ["job-13", "job-17"]
    assert found == (in_order if oldest_first else in_order[::-1])
    assert bounded > 3
    assert looked >= 20


@STATES
async def test_a_look_is_bounded_by_bytes(store: Store, state: State) -> None:
    many = [f"job-{number}" for number in range(50 if state is State.READY else 9)]
    if state is State.READY:
        await enqueue(store, *many)
    else:
        await bring(store, state, *many)
    query = JobQuery(state, function="other", most_bytes=10)
    answer = await page(store, query)
    assert (answer.jobs, answer.is_bounded) == ([], True)
    assert answer.after is not None
    assert await pages(store, query) == []


@STATES
async def test_bytes_of_others_are_listed(store: Store, state: State) -> None:
    """What is no envelope and no letter is listed as it is, and hides no other job."""
    raw = b'\xff\xfe{"f":'
    later_ms = 5000 if state is State.SCHEDULED else 0
    new = [NewJob("work", name, 2, raw, later_ms) for name in ("odd", "odder")]
    await store.backend.enqueue(EnqueueBatch(store.token(), new))
    if state in (State.RUNNING, State.DEAD):
        worker = await store.worker()
        taken = await worker.take()
        if state is State.DEAD:
            await worker.exchange(*(Settlement.dead(job, raw) for job in taken))
    await bring(store, state, "sound")
    found = {job.ref.id: job for job in await pages(store, JobQuery(state))}
    assert sorted(found) == ["odd", "odder", "sound"]
    assert found["odd"].stored == raw
    assert names(await pages(store, JobQuery(state, function="*send*"))) == ["sound"]
    assert await pages(store, JobQuery(state, error="x")) == []


@STATES
async def test_a_queue_that_cannot_be_read_hides_no_other(
    store: Store, spoil: Spoil, state: State
) -> None:
    await bring(store, state, "a", queue="one")
    await bring(store, state, "b", queue=BAD)
    part = {State.SCHEDULED: Part.DUE_TIMES, State.DEAD: Part.DEATHS}.get(state, Part.NORMAL)
    await spoil(part)
    answer = await page(store, JobQuery(state))
    assert names(answer.jobs) == ["a"]
    assert list(answer.refused) == [BAD]
    assert isinstance(answer.refused[BAD], StoreError)
    assert answer.after is None
    await spoil.mend()


@pytest.mark.parametrize("text", ["", "x", "!", "bnVsbA", "WzFd", "WzEsInEiLDksMV0", "ä"])
def test_a_text_that_is_no_cursor(text: str) -> None:
    with pytest.raises(UsageError, match="no cursor"):
        JobCursor.read(text)


def test_a_cursor_keeps_what_it_says() -> None:
    for tie in (5, b"id", b"\xff\x00", 2**64 - 1):
        cursor = JobCursor(-3, "q", Priority.LOW, tie)
        assert JobCursor.read(cursor.text()) == cursor
