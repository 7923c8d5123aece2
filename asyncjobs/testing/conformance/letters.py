"""Dead letters: pages of them, revival, purge."""

from __future__ import annotations

import pytest

from asyncjobs.model.job import Priority, State
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.letters import (
    MAX_PAGE,
    MAX_PAGE_BYTES,
    LetterKey,
    LetterPage,
    LetterQuery,
    Revival,
    Revived,
    cut_letter,
)
from asyncjobs.testing.conformance.store import QUEUE, SHORT_S, Store, ids, outcome, ref

pytestmark = pytest.mark.anyio


async def die(store: Store, *names: str, queue: str = QUEUE, priority: int = 2) -> list[LetterKey]:
    """These jobs end dead at one moment, each with its result."""
    await store.enqueue(*names, queue=queue, priority=priority)
    worker = await store.worker(queue)
    await worker.exchange(
        *(
            Settlement.dead(job, b"head\n" + job.envelope, outcome(State.DEAD), 60_000)
            for job in await worker.take(len(names))
        )
    )
    await worker.lease.leave()
    return [LetterKey(ref(name, queue), store.clock.ms) for name in names]


async def pages(store: Store, query: LetterQuery) -> list[LetterPage]:
    found = [await store.backend.dead.page(query)]
    while found[-1].after is not None:
        found.append(await store.backend.dead.page(query, found[-1].after))
    return found


def names(*found: LetterPage) -> list[str]:
    return [letter.key.ref.id for page in found for letter in page.letters]


async def test_a_letter_as_it_is_stored(store: Store) -> None:
    (key,) = await die(store, "a", priority=1)
    store.clock.ms += 5
    page = await store.backend.dead.page(LetterQuery(QUEUE))
    (letter,) = page.letters
    assert (letter.key, letter.priority, letter.letter) == (key, Priority.HIGH, b"head\na")
    assert (letter.size, page.after, page.total, page.now_ms) == (6, None, 1, store.clock.ms)
    assert await store.backend.dead.find([ref("a"), ref("b"), ref("a", "never")]) == [
        letter,
        None,
        None,
    ]
    assert await store.backend.dead.find([]) == []


async def test_a_queue_without_letters(store: Store) -> None:
    for queue in (QUEUE, "never"):
        page = await store.backend.dead.page(LetterQuery(queue))
        assert (page.letters, page.after, page.total) == ([], None, 0)
        assert page.now_ms == store.clock.ms


async def test_letters_of_another_queue_are_not_shown(store: Store) -> None:
    await die(store, "a", queue="mail")
    await die(store, "b")
    assert names(await store.backend.dead.page(LetterQuery("mail"))) == ["a"]


async def die_one_by_one(store: Store, *names: str) -> None:
    for name in names:
        await die(store, name)
        store.clock.ms += 1000


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_pages_go_through_all_of_them_in_order(store: Store, oldest_first: bool) -> None:
    order = [f"job-{number}" for number in range(7)]
    await die_one_by_one(store, *order)
    found = await pages(store, LetterQuery(QUEUE, oldest_first=oldest_first, limit=3))
    assert [len(page.letters) for page in found] == [3, 3, 1]
    assert names(*found) == (order if oldest_first else order[::-1])
    assert {page.total for page in found} == {7}


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_pages_of_letters_of_one_moment(store: Store, oldest_first: bool) -> None:
    order = sorted(f"job-{number}" for number in range(23))
    await die(store, "before")
    store.clock.ms += 1
    await die(store, *order)
    store.clock.ms += 1
    await die(store, "later")
    found = await pages(store, LetterQuery(QUEUE, oldest_first=oldest_first, limit=4))
    expected = ["before", *order, "later"]
    assert names(*found) == (expected if oldest_first else expected[::-1])


@pytest.mark.parametrize("oldest_first", [True, False])
@pytest.mark.parametrize("one_moment", [True, False])
async def test_letters_come_and_go_between_pages(
    store: Store, oldest_first: bool, one_moment: bool
) -> None:
    """What was shown goes, the place of the cursor too, and others come before and after."""
    order = [f"job-{number}" for number in range(6)]
    if one_moment:
        await die(store, *order)
    else:
        await die_one_by_one(store, *order)
    query = LetterQuery(QUEUE, oldest_first=oldest_first, limit=3)
    first = await store.backend.dead.page(query)
    await store.backend.dead.purge([letter.key for letter in first.letters])
    store.clock.ms += 1000
    await die(store, "late")
    second = await store.backend.dead.page(query, first.after)
    shown, left = (order[:3], order[3:]) if oldest_first else (order[:2:-1], order[2::-1])
    assert names(first) == shown
    assert names(second) == left
    if oldest_first:
        assert names(await store.backend.dead.page(query, second.after)) == ["late"]
    else:
        assert second.after is None


async def test_ids_are_ordered_byte_by_byte(store: Store) -> None:
    order = ["A", "Z", "a", "a-b", "aB", "ab", "é", "☃"]
    await die(store, *order)
    found = await pages(store, LetterQuery(QUEUE, oldest_first=True, limit=1))
    assert names(*found) == order


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_letters_of_a_time(store: Store, oldest_first: bool) -> None:
    began_ms = store.clock.ms
    await die_one_by_one(store, "a", "b", "c", "d", "e")
    query = LetterQuery(QUEUE, began_ms + 1000, began_ms + 4000, oldest_first, limit=2)
    found = await pages(store, query)
    assert names(*found) == (["b", "c", "d"] if oldest_first else ["d", "c", "b"])
    assert {page.total for page in found} == {3}
    nothing = await store.backend.dead.page(
        query._replace(since_ms=began_ms + 9000, before_ms=None)
    )
    assert (nothing.letters, nothing.after, nothing.total) == ([], None, 0)
    backwards = await store.backend.dead.page(query._replace(since_ms=began_ms + 4001))
    assert (backwards.letters, backwards.after, backwards.total) == ([], None, 0)


async def test_a_page_is_bounded_in_number(store: Store) -> None:
    for part in range(2):
        await die(store, *(f"job-{part}-{number:03}" for number in range(MAX_PAGE // 2 + 5)))
    found = await pages(store, LetterQuery(QUEUE, limit=10 * MAX_PAGE))
    assert [len(page.letters) for page in found] == [MAX_PAGE, 10]


async def test_a_page_is_bounded_in_bytes(store: Store) -> None:
    await store.enqueue("a", "b", "c", "d", "e")
    worker = await store.worker()
    big = b"h\n" + b"x" * (MAX_PAGE_BYTES // 2)
    await worker.exchange(*(Settlement.dead(job, big) for job in await worker.take()))
    for cut in (None, 10):
        found = await pages(store, LetterQuery(QUEUE, oldest_first=True, cut=cut))
        assert [names(page) for page in found] == [["a", "b"], ["c", "d"], ["e"]]
    assert found[0].letters[0].letter == b"h\n" + b"x" * 10
    assert {letter.size for page in found for letter in page.letters} == {len(big)}


@pytest.mark.parametrize("letter", [b"head\nenvelope", b"no line at all", b"", b"\nx", b"x\n"])
@pytest.mark.parametrize("cut", [0, 3, 100])
async def test_a_letter_that_is_cut(store: Store, letter: bytes, cut: int) -> None:
    await store.enqueue("a")
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), letter))
    (found,) = (await store.backend.dead.page(LetterQuery(QUEUE, cut=cut))).letters
    assert (found.letter, found.size) == (cut_letter(letter, cut), len(letter))
    assert await store.backend.dead.find([ref("a")], cut=cut) == [found]


def test_the_first_line_is_never_cut() -> None:
    letter = dead_letter(Outcome(State.DEAD, message="why").encode(), b"envelope")
    head, _, _ = letter.partition(b"\n")
    assert cut_letter(letter, 0) == head + b"\n"
    assert cut_letter(letter, 3) == head + b"\nenv"
    assert cut_letter(letter, None) == letter


async def revive(store: Store, *keys: LetterKey, priority: Priority | None = None) -> list[Revived]:
    revivals = [Revival(key, b"again " + key.ref.id.encode()) for key in keys]
    return await store.backend.dead.revive(revivals, priority=priority)


async def test_a_revived_job_is_a_living_one(store: Store) -> None:
    (key,) = await die(store, "a", priority=1)
    store.clock.ms += 10
    assert await revive(store, key) == [Revived.READY]
    record = await store.look("a")
    assert (record.state, record.priority, record.envelope) == (State.READY, 1, b"again a")
    assert (record.outcome, record.dead_letter) == (None, None)
    counts = await store.counts()
    assert (counts.dead, counts.ready) == (0, (0, 1, 0, 0))
    assert await store.enqueue("a") == [False]
    assert await store.backend.dead.find([ref("a")]) == [None]
    job = await (await store.worker()).take_one()
    assert (job.id, job.envelope, job.crashes) == ("a", b"again a", 0)


@pytest.mark.parametrize("periods", range(3))
@pytest.mark.parametrize("later", [True, False])
async def test_a_revived_job_ends_as_it_ends(store: Store, periods: int, later: bool) -> None:
    """It is not remembered as dead, whatever period of the memory it ends in."""
    store.clock.ms += periods * store.settings.id_ttl_ms
    (key,) = await die(store, "a")
    await revive(store, key)
    worker = await store.worker()
    job = await worker.take_one()
    await store.pass_time(store.settings.id_ttl_ms if later else 10, worker)
    await worker.exchange(Settlement.succeeded(job))
    record = await store.look("a")
    assert (record.state, record.outcome, record.dead_letter) == (State.SUCCEEDED, None, None)
    assert await store.enqueue("a") == [False]


async def test_a_revived_job_may_die_again(store: Store) -> None:
    (key,) = await die(store, "a")
    await revive(store, key)
    store.clock.ms += 10
    worker = await store.worker()
    await worker.exchange(Settlement.dead(await worker.take_one(), b"second letter"))
    (letter,) = (await store.backend.dead.page(LetterQuery(QUEUE))).letters
    assert (letter.key.died_ms, letter.letter) == (store.clock.ms, b"second letter")
    assert await revive(store, key) == [Revived.GONE]
    assert await store.backend.dead.purge([key]) == [False]
    assert await store.backend.dead.find([ref("a")]) == [letter]
    # Nor is the result of its first death taken for that of the second.
    assert (await store.look("a")).outcome is None


async def test_jobs_are_revived_in_order(store: Store) -> None:
    a, b, c = await die(store, "a", "b", "c")
    assert await revive(store, c, a, b) == [Revived.READY] * 3
    assert ids(await (await store.worker()).take()) == ["c", "a", "b"]


async def test_jobs_are_revived_at_another_priority(store: Store) -> None:
    keys = await die(store, "a", "b", priority=3)
    assert await revive(store, keys[0], priority=Priority.CRITICAL) == [Revived.READY]
    assert await revive(store, keys[1], priority=Priority.NORMAL) == [Revived.READY]
    assert (await store.counts()).ready == (1, 0, 1, 0)


async def test_a_letter_is_revived_once(store: Store) -> None:
    (key,) = await die(store, "a")
    assert await revive(store, key, key) == [Revived.READY, Revived.GONE]
    assert await revive(store, key) == [Revived.GONE]
    assert (await store.counts()).ready == (0, 0, 1, 0)


async def test_a_letter_that_is_not_there_is_not_revived(store: Store) -> None:
    (key,) = await die(store, "a")
    others = [
        key._replace(died_ms=key.died_ms - 1),
        key._replace(died_ms=key.died_ms + 1),
        LetterKey(ref("b"), key.died_ms),
        LetterKey(ref("a", "never"), key.died_ms),
    ]
    assert await revive(store, *others) == [Revived.GONE] * 4
    assert await revive(store) == []
    counts = await store.counts()
    assert (counts.dead, counts.ready) == (1, (0, 0, 0, 0))
    assert (await store.look("a")).outcome is not None


async def test_an_id_that_lives_again_is_not_revived(store: Store) -> None:
    """The id was forgotten before the letter, and somebody has used it again."""
    (key,) = await die(store, "a")
    store.clock.ms += 3 * store.settings.id_ttl_ms
    assert await store.enqueue("a") == [True]
    assert await revive(store, key) == [Revived.TAKEN]
    assert await revive(store, key._replace(died_ms=1)) == [Revived.GONE]
    assert (await store.look("a")).envelope == b"a"
    assert (await store.counts()).dead == 1
    assert await store.backend.dead.purge([key]) == [True]
    assert (await store.look("a")).state is State.READY


async def test_a_revival_signals_a_worker(store: Store) -> None:
    (key,) = await die(store, "a")
    worker = await store.worker()
    await worker.settle_signals()
    assert await revive(store, key._replace(died_ms=1)) == [Revived.GONE]
    assert await worker.signalled(SHORT_S) == []
    await revive(store, key)
    assert await worker.signalled() == [QUEUE]


async def test_a_revived_job_counts_as_enqueued(store: Store) -> None:
    (key,) = await die(store, "a")
    await revive(store, key, key)
    (flow,) = await store.backend.inspect.queues.flow([QUEUE])
    assert (flow.enqueued, flow.ended[State.DEAD]) == (2, 1)


async def test_a_revived_job_can_be_cancelled(store: Store) -> None:
    (key,) = await die(store, "a")
    await revive(store, key)
    await store.backend.cancel([ref("a")], None, 0)
    assert await store.state("a") is State.CANCELLED


async def test_many_large_jobs_are_revived(store: Store) -> None:
    """Of two queues, in numbers and bytes that one call of a script does not take."""
    some = [f"job-{number:04}" for number in range(1200)]
    keys = await die(store, *some)
    other = await die(store, "x", "y", queue="mail")
    big = b"x" * (MAX_PAGE_BYTES // 2 + 1)
    revivals = [Revival(key, b"small") for key in keys] + [Revival(key, big) for key in other]
    assert await store.backend.dead.revive(revivals) == [Revived.READY] * 1202
    assert (await store.counts()).ready == (0, 0, 1200, 0)
    assert (await store.counts("mail")).ready == (0, 0, 2, 0)
    assert ids(await (await store.worker()).take(5)) == some[:5]


async def test_purged_letters_are_gone(store: Store) -> None:
    a, b, c = await die(store, "a", "b", "c")
    d, _ = await die(store, "d", "e", queue="mail")
    gone = [d, b, b, c._replace(died_ms=c.died_ms + 1), LetterKey(ref("a", "never"), a.died_ms), a]
    assert await store.backend.dead.purge(gone) == [True, True, False, False, False, True]
    assert await store.backend.dead.purge([]) == []
    assert names(await store.backend.dead.page(LetterQuery(QUEUE))) == ["c"]
    assert names(await store.backend.dead.page(LetterQuery("mail"))) == ["e"]
    assert ((await store.counts()).dead, (await store.counts("mail")).dead) == (1, 1)


async def test_the_id_and_the_result_of_a_purged_job_stay_known(store: Store) -> None:
    (key,) = await die(store, "a")
    await store.backend.dead.purge([key])
    record = await store.look("a")
    assert (record.state, record.outcome) == (State.DEAD, outcome(State.DEAD))
    assert record.dead_letter is None
    assert await store.enqueue("a") == [False]
