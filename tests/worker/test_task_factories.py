"""Each attempt is a task of the loop's own making, with a context of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.events import JobStarted
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio

_tags: ContextVar[dict[str, str]] = ContextVar("tags")
"""As error trackers do it: one mutable value, which a copy of the context shares."""
_word: ContextVar[str] = ContextVar("word")

EAGER: Any = getattr(asyncio, "eager_task_factory", None)


async def tag(word: str, waits: bool) -> dict[str, str]:
    tags = _tags.get()
    tags[word] = "mine"
    if waits:
        await asyncio.sleep(0)
    return dict(tags)


def tag_in_thread(word: str, waits: bool) -> dict[str, str]:
    tags = _tags.get()
    tags[word] = "mine"
    return dict(tags)


async def see_context(word: str) -> list[str]:
    """What is set before this job sets anything, and whether its task is the current one."""
    before = [_word.get("nothing")]
    _word.set(word)
    await asyncio.sleep(0)
    return [*before, _word.get()]


async def start_tasks(word: str) -> list[str]:
    """What a task of this job sees, and what stays here when it sets something else."""

    async def inner() -> str:
        found = _word.get()
        _word.set("inner")
        return found

    _word.set(word)
    return [await asyncio.create_task(inner()), _word.get()]


class Scopes:
    """A factory of the user's own: it gives each task new tags, and counts what it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        body: Coroutine[Any, Any, Any],
        **settings: Any,
    ) -> Any:
        self.seen.append(body.__qualname__)

        async def scoped() -> Any:
            _tags.set({})
            return await body

        return asyncio.Task(scoped(), loop=loop, **settings)


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
@pytest.mark.parametrize("function", [tag, tag_in_thread])
async def test_a_factory_that_is_set_makes_each_attempt(
    app: AsyncJobs, function: Callable[..., Any]
) -> None:
    job = register(app, function)
    factory = Scopes()
    loop = asyncio.get_running_loop()
    _tags.set({"worker": "shared by all that have no tags of their own"})
    loop.set_task_factory(factory)
    try:
        async with working(app):
            handles = [await job.enqueue(str(n), n % 2 == 0) for n in range(10)]
            tags = [await handle.result(LIMIT_S) for handle in handles]
    finally:
        loop.set_task_factory(None)
    assert tags == [{str(n): "mine"} for n in range(10)]
    assert sum("_attempt" in name for name in factory.seen) == 10


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
@pytest.mark.parametrize("factory", [None, EAGER], ids=["none", "eager"])
async def test_an_attempt_has_a_context_of_its_own(app: AsyncJobs, factory: Any) -> None:
    job = register(app, see_context)
    nested = register(app, start_tasks)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        async with working(app):
            for word in ("a", "b", "c"):
                assert await (await job.enqueue(word)).result(LIMIT_S) == ["nothing", word]
                assert await (await nested.enqueue(word)).result(LIMIT_S) == [word, word]
    finally:
        loop.set_task_factory(None)
    assert _word.get("nothing") == "nothing"


@pytest.mark.parametrize("kind", ["memory"], indirect=True)
async def test_what_a_listener_sets_belongs_to_its_attempt(app: AsyncJobs) -> None:
    before: list[str] = []

    def listen(event: JobStarted) -> None:
        before.append(_word.get("nothing"))
        _word.set(event.ref.id)

    app.on(JobStarted, listen)
    job = register(app, see_context)
    async with working(app):
        handles = [await job.enqueue(word) for word in ("a", "b", "c")]
        seen = [await handle.result(LIMIT_S) for handle in handles]
    assert before == ["nothing"] * 3
    assert seen == [[handle.id, word] for handle, word in zip(handles, "abc", strict=True)]
