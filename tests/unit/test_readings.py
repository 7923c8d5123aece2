"""A text names one job, also when an id holds a slash or is as long as it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asyncjobs import AsyncJobs, JobRef, State
from asyncjobs.errors import ConfigError, JobNotFound, UsageError
from asyncjobs.guard.texts import in_queues
from asyncjobs.jobs.readings import Readings, check_job_name, read_job_name

pytestmark = pytest.mark.anyio

KNOWN = ("default", "mail")
LONGEST = "x" * 256


async def send(number: int = 0) -> int:
    return number


@pytest.fixture
async def app() -> AsyncIterator[AsyncJobs]:
    made = AsyncJobs("memory:")
    made.job(queue="mail")(send)
    async with made:
        yield made


async def put(app: AsyncJobs, queue: str, id: str) -> None:
    (job,) = app.registry.functions()
    handle = await job.options(queue=queue, id=id).enqueue()
    assert handle.is_new


async def test_an_id_with_the_name_of_a_queue_in_front_is_found(app: AsyncJobs) -> None:
    await put(app, "default", "mail/5")
    for text in ("mail/5", "default/mail/5"):
        handle = app.handle(text)
        assert await handle.status() is State.READY
        assert handle.ref == JobRef("default", "mail/5")
    assert await app.handle("mail/5", queue="default").status() is State.READY
    with pytest.raises(JobNotFound):
        await app.handle("mail/5", queue="mail").status()
    assert await app.handle("mail/5").cancel() is True


async def test_a_public_id_names_its_own_job_whatever_others_are_called(app: AsyncJobs) -> None:
    await put(app, "default", "mail/5")
    await put(app, "mail", "mail/5")
    await put(app, "mail", "5")
    for ref in (JobRef("mail", "5"), JobRef("default", "mail/5"), JobRef("mail", "mail/5")):
        assert (await app.handle(str(ref)).info()).ref == ref
    assert await app.handle("mail/5").cancel() is True
    # Without it, the text stands for two others.
    await put(app, "other", "5")
    (job,) = app.registry.functions()
    assert (await app.handle("other/5").info()).ref == JobRef("other", "5")
    await put(app, "default", "a")
    await put(app, "mail", "a")
    with pytest.raises(UsageError, match="several jobs: default/a, mail/a"):
        await app.handle("a").status()
    assert job.handle("5").ref == JobRef("mail", "5")


async def test_a_public_id_tells_its_queue_before_anybody_is_asked(app: AsyncJobs) -> None:
    assert app.handle("mail/5").ref == JobRef("mail", "5")
    assert app.handle("mail/5").id == "5"
    with pytest.raises(UsageError, match="not known yet"):
        _ = app.handle("nowhere/5").ref
    with pytest.raises(JobNotFound, match="in queues mail, default"):
        await app.handle("mail/5").result()


@pytest.mark.parametrize("id", [LONGEST, "a/" + "x" * 254])
async def test_the_longest_id_can_be_named(app: AsyncJobs, id: str) -> None:
    await put(app, "mail", id)
    for text in (id, f"mail/{id}"):
        handle = app.handle(text)
        assert await handle.status() is State.READY
        assert handle.ref == JobRef("mail", id)


@pytest.mark.parametrize(
    "text", ["", "a b", LONGEST + "x", f"a b/{LONGEST}", f"mail/{LONGEST}x", "mail/\n", 3, None]
)
def test_what_names_no_job_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="id="):
        check_job_name(text)
    with pytest.raises(ConfigError, match="id="):
        AsyncJobs("memory:").handle(text)


@pytest.mark.parametrize(
    ("text", "only", "expected"),
    [
        ("5", None, ["default/5", "mail/5"]),
        ("mail/5", None, ["mail/5", "default/mail/5", "mail/mail/5"]),
        ("other/5", None, ["other/5", "default/other/5", "mail/other/5"]),
        ("/5", None, ["default//5", "mail//5"]),
        ("mail/", None, ["default/mail/", "mail/mail/"]),
        ("a:b/5", None, ["default/a:b/5", "mail/a:b/5"]),
        ("mail/5", ("mail",), ["mail/5", "mail/mail/5"]),
        ("mail/5", ("default",), ["default/mail/5"]),
        (f"mail/{LONGEST}", None, [f"mail/{LONGEST}"]),
        (f"mail/{LONGEST}", ("default",), []),
    ],
)
def test_readings(text: str, only: tuple[str, ...] | None, expected: list[str]) -> None:
    assert [str(ref) for ref in read_job_name(text, KNOWN, only=only).refs] == expected


async def test_others_are_asked_for_only_without_the_one_that_is_written() -> None:
    asked: list[list[str]] = []

    async def ask(refs: object) -> list[str | None]:
        texts = [str(ref) for ref in refs]  # type: ignore[attr-defined]
        asked.append(texts)
        return [text if text in there else None for text in texts]

    readings = read_job_name("mail/5", KNOWN)
    there = {"mail/5", "default/mail/5"}
    assert await readings.find(ask) == ["mail/5"]
    there = {"default/mail/5"}
    assert await readings.find(ask) == ["default/mail/5"]
    assert asked == [["mail/5"], ["mail/5"], ["default/mail/5", "mail/mail/5"]]
    assert await Readings(()).find(ask) == []


def test_very_many_queues_are_counted_and_not_named() -> None:
    assert in_queues(["mail", "mail"]) == "in queue mail"
    assert in_queues(["mail", "default"]) == "in queues mail, default"
    many = [f"q{number}" for number in range(10_000)]
    assert in_queues(many) == f"in queues {', '.join(many[:10])} and 9,990 more"
